package main

import "slices"

// mutants is every fsync, fsync of a folder, checksum and gate of the log, each
// taken away once.
var mutants = slices.Concat(diskMutants, walMutants, commitlogMutants, topicMutants, recordMutants)

// without is a call whose error is looked at, not made: "if err := CALL; err != nil".
func without(name, file, call string, tests ...suite) mutant {
	return mutant{name, file, "if err := " + call + "; err != nil", "if err := error(nil); err != nil", tests}
}

// instead is a piece of the source replaced by another.
func instead(name, file, old, new string, tests ...suite) mutant {
	return mutant{name, file, old, new, tests}
}

const crashTests = "PowerCut|ErrorAt"

// What is run for mutants of a package, cheapest first.
var (
	vfsTests          = suite{pkg: "./appliance/vfs"}
	walHoles          = suite{pkg: "./appliance/wal", run: "RelaxedRounds|Holes|EarlierLife|WhatIsReplayed"}
	walTests          = suite{pkg: "./appliance/wal"}
	commitlogTests    = suite{pkg: "./appliance/commitlog"}
	topicTests        = suite{pkg: "./appliance/topic"}
	topicDamage       = suite{pkg: "./appliance/topic", run: "Damaged"}
	topicCheckpoint   = suite{pkg: "./appliance/topic", run: "CheckpointBeside|FailedCheckpoint|StatesAreOn|NamesOfStates"}
	topicReads        = suite{pkg: "./appliance/topic", run: "Reads|Retention|Refusals|FetchWaits"}
	topicIdempotent   = suite{pkg: "./appliance/topic", run: "Idempotent"}
	topicCatalog      = suite{pkg: "./appliance/topic", run: "CatalogNames"}
	topicTransactions = suite{pkg: "./appliance/topic", run: "Transaction|StableOffset|Marker"}
	topicLate         = suite{pkg: "./appliance/topic", run: "Late|Crowded|WaitsForRoom"}
	topicAbove        = suite{pkg: "./appliance/topic", run: "AboveTheHighWatermark"}
	walDamage         = suite{pkg: "./appliance/wal", run: "Damage|Flipped|Kept|Quarantine"}
	topicOffline      = suite{pkg: "./appliance/topic", run: "Offline|NoStart|InDoubt"}
	topicWatermarks   = suite{pkg: "./appliance/topic", run: "Watermark"}
	topicTrash        = suite{pkg: "./appliance/topic", run: "Trash|Restore"}
	topicCompact      = suite{pkg: "./appliance/topic", run: "Compact|Clean|RoundUnderWay"}
	topicDrops        = suite{pkg: "./appliance/topic", run: "Drop|Budget|Gap"}
	topicCrash        = suite{pkg: "./appliance/topic", run: crashTests}
	topicAtLength     = suite{pkg: "./appliance/topic", run: "PowerCutAfterEveryOperation$", args: []string{"-crash.seeds=8"}}
	appliancePowerCut = suite{pkg: "./appliance", run: "PowerCutInTransactions"}
	topicDelete       = suite{pkg: "./appliance/topic", run: "ADelete"}
	topicBits         = suite{pkg: "./appliance/topic", run: "UnprotectedBits"}
	txnTests          = suite{pkg: "./appliance/txn"}
	recordTests       = suite{pkg: "./appliance/record"}
	metadataTests     = suite{pkg: "./appliance/metadata"}
	groupDamage       = suite{pkg: "./appliance/group", run: "DamagedCommit|RefusedCommit"}
	groupTests        = suite{pkg: "./appliance/group"}
)
