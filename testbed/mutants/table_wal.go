package main

const (
	walRing       = "appliance/wal/ring.go"
	walRound      = "appliance/wal/round.go"
	walCommit     = "appliance/wal/commit.go"
	walApply      = "appliance/wal/apply.go"
	walCheckpoint = "appliance/wal/checkpoint.go"
	walRecover    = "appliance/wal/recover.go"
)

var walMutants = []mutant{
	instead("wal: fdatasync of a round", walRing, "if err := f.f.Sync(); err != nil {\n		g.unsynced", "if err := error(nil); err != nil {\n		g.unsynced", walTests),
	instead("wal: header of a file, before its first round", walRing, "if err := f.f.Sync(); err != nil {\n		return fmt", "if err := error(nil); err != nil {\n		return fmt", walTests),
	without("wal: name of a file, before its first round", walRing, "g.opts.FS.SyncDir(g.opts.Dir)", walTests),
	// The sync of a new file's zeros is not here: that of its header, which follows
	// before the file is used, covers them too.
	instead("wal: rounds without a sync, before the next file", walRing, "	if _, err := g.sync(); err != nil {\n		return err\n	}\n	f, err := g.spare()", "	f, err := g.spare()", walHoles),
	instead("wal: a failed sync is not tried again", walRing, "g.unsynced != nil || ", "", walTests),
	instead("wal: a sync counts for what was written before it began", walRing, "	g.durable.Store(seq)", "	g.durable.Store(g.seq)", walTests),
	instead("wal: header, CRC", walRing, "crc32.Checksum(b[12:fileHeaderLen], castagnoli) != binary.BigEndian.Uint32(b[8:])", "false", walTests),
	instead("wal: header, number of the file", walRing, "binary.BigEndian.Uint64(b[12:]) == f.number", "true", walTests),
	instead("wal: round, CRC", walRound, "crc32.Checksum(b[8:end], castagnoli) != binary.BigEndian.Uint32(b[4:])", "false", walTests),
	instead("wal: round, nonce of the file's life", "appliance/wal/window.go", "binary.BigEndian.Uint64(b[8:]) != nonce || ", "", walHoles),

	instead("wal: readers are let in after the sync", walCommit, "	r.last, r.rounds = l.ring.seq, 1\n",
		"	r.last, r.rounds = l.ring.seq, 1\n	for i := range r.entries {\n		r.entries[i].sink.Commit(r.buf[r.entries[i].start:r.entries[i].end])\n	}\n", walTests, topicCrash),
	instead("wal: acknowledgements come after the sync", walCommit, "	if r.relaxed > 0 {\n",
		"	for i := range r.entries {\n		r.entries[i].relaxed = true\n	}\n	if true {\n", walTests),
	instead("wal: a failed sync is no acknowledgement", walCommit, "	synced, err := l.ring.sync()\n	if err != nil {\n		return err\n	}\n", "	synced, _ := l.ring.sync()\n", walTests),
	instead("wal: a failed write is no acknowledgement", walCommit, "	if err := l.ring.write(r); err != nil {\n		return err\n	}\n", "	_ = l.ring.write(r)\n", walTests),
	instead("wal: nothing is committed after a failure", walCommit, "if isFailed(l.failed) || l.closed && len", "if l.closed && len", walTests, topicCrash),
	instead("wal: a round counts as applied when it is", walApply, "			if err := r.apply(l.opts.CrowdedRuns); err != nil {", "			l.applied.Store(max(l.applied.Load(), r.last))\n			if err := r.apply(l.opts.CrowdedRuns); err != nil {", walTests),
	instead("wal: a failure to apply stops the log", walApply, "			if err := r.apply(l.opts.CrowdedRuns); err != nil {\n				l.fail(err)\n", "			if err := r.apply(l.opts.CrowdedRuns); err != nil {\n", walTests, topicCrash),

	without("wal: checkpoint, fdatasync", walCheckpoint, "c.f.Sync()", walTests),
	// The sync of the folder when the checkpoint file is made is not here: that of the
	// next file taken into use covers it, and until then nothing that the checkpoint
	// speaks of is written over.
	instead("wal: checkpoint, written again after a kill", walCheckpoint, "c.write(c.generation, c.seq), fsys.SyncDir(dir)", "fsys.SyncDir(dir)", walTests, topicAtLength),
	// That it is written in its own place is not here: were the other torn, the one before
	// both would count, and rounds that were checkpointed come to their places again.
	instead("wal: checkpoint, beside the one before", walCheckpoint, "int64(generation%2)*blockBytes", "0", walTests, topicAtLength),
	instead("wal: checkpoint, CRC", walCheckpoint, " && binary.BigEndian.Uint32(b[4:]) == crc32.Checksum(b[8:], castagnoli)", "", walTests),
	instead("wal: checkpoint, none after a failure", walCheckpoint, "	if isFailed(l.failed) {\n		return l.Err()\n	}\n	if seq < ", "	if seq < ", walTests),
	instead("wal: checkpoint, a failure stops the log", walCheckpoint, "cp.unsure {\n		if err := cp.save(seq); err != nil {\n			l.Fail(err)\n", "cp.unsure {\n		if err := cp.save(seq); err != nil {\n", walTests, topicCrash),
	instead("wal: checkpoint, never backwards", walCheckpoint, "seq < l.ring.cp.seq", "false", walTests),

	without("wal: name of the folder", walRecover, "o.FS.SyncDir(path.Dir(o.Dir))", topicCrash),
	instead("wal: recovery, what no round vouches for is written again", walRecover, "_, err := w.f.f.WriteAt(b, pos)", "err := error(nil)", walHoles, walTests),
	instead("wal: recovery, all of it is", walRecover, "for pos := from.pos;", "for pos := last.pos;", walHoles, walTests),
	without("wal: recovery, what is replayed is synced", walRecover, "w.f.f.Sync()", walTests, topicCrash, topicAtLength),
	instead("wal: recovery, a hole that was never durable", walRecover, "r.seq > g.seq+1 && g.seq >= synced || ", "r.seq > g.seq+1 && synced+1 == 0 || ", walHoles, walTests),
	instead("wal: recovery, a round tells of those synced before it", walRecover, "r.synced > synced || from.pos == 0", "from.pos == 0", walHoles, walTests),
	instead("wal: recovery, a round that is missing in the middle is reported", walRecover, "if r.seq > g.seq+1 {", "if false {", walHoles, walTests),
}
