package main

const topicMarks = "appliance/topic/watermark.go"

var topicMutants = []mutant{
	without("topic: name of a new partition's folder", "appliance/topic/identity.go", `s.opts.FS.SyncDir(topicsDir)`, topicCrash, topicAtLength),
	instead("topic: state file, sync before the rename", "appliance/topic/replace.go", "		err = f.Sync()\n", "		err = nil\n", topicCrash, topicAtLength),
	without("topic: state file, name after the rename", "appliance/topic/replace.go", `fsys.SyncDir(dir)`, topicCrash, topicAtLength),
	instead("topic: state file, CRC", "appliance/topic/statefile.go",
		`crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:])`, "false", topicDamage),
	without("topic: checkpoint, sync of the segments", "appliance/topic/checkpoint.go", "p.log.Sync()", topicCrash),
	without("topic: checkpoint, state of the partitions", "appliance/topic/checkpoint.go", "p.saveState()", topicCrash, topicAtLength),
	instead("topic: checkpoint, sync of everything before the states' names", "appliance/topic/checkpoint.go",
		"if err := s.syncAll(); err != nil || ", "if err := error(nil); err != nil || ", topicCheckpoint, topicCrash),
	instead("topic: checkpoint, sync of everything after the states' names", "appliance/topic/checkpoint.go",
		"	return s.syncAll()\n", "	return nil\n", topicCheckpoint, topicCrash, topicAtLength),
	instead("topic: checkpoint, a failure stops the log", "appliance/topic/checkpoint.go", "\t\ts.wal.Fail(err)\n", "", topicCheckpoint),
	instead("topic: checkpoint, the sequence before the syncs", "appliance/topic/checkpoint.go",
		"return s.wal.Checkpoint(seq)", "_ = seq\n\treturn s.wal.Checkpoint(s.wal.Applied())", topicCrash, topicAtLength),
	instead("topic: checkpoint, late batches are brought to their segments first", "appliance/topic/checkpoint.go", "if err := p.bring(); err != nil", "if err := error(nil); err != nil && p != nil", topicLate, topicCrash),
	instead("topic: a batch without room waits for it", "appliance/topic/late.go", "	if noRoom(err) {\n		err = p.putOff(err, batches...)\n	}\n", "", topicLate, topicCrash),
	instead("topic: a checkpoint without room is made again in full", "appliance/topic/checkpoint.go", "		p.touch()\n	}\n	s.sayNoRoom(err)\n", "	}\n	s.sayNoRoom(err)\n", topicLate, topicCrash),
	instead("topic: CRC of a late batch", "appliance/topic/late.go", "if err := b.Validate(); err != nil", "if err := error(nil); err != nil", topicLate),
	instead("topic: a late batch that cannot be brought stops the log", "appliance/topic/late.go", "\t\tp.set.wal.Fail(err)\n", "", topicLate),
	instead("topic: what comes late comes before what follows", "appliance/topic/late.go", "	if p.late.count.Load() > 0 {\n		return p.putOff(errLate, batches...)\n	}\n", "", topicLate, topicCrash),
	instead("topic: append, check of the batch's CRC", "appliance/topic/partition.go", "if err := b.Validate(); err != nil", "if err := b.ValidateHeader(); err != nil", topicDamage),
	instead("topic: fetch, check of the batch's CRC", "appliance/topic/fetcher.go", "if err := b.Validate(); err != nil", "if err := error(nil); err != nil", topicDamage),
	instead("topic: fetch, gate at the high watermark", "appliance/topic/read.go", "offset < start || offset > hw", "offset < start", topicAbove),
	instead("topic: fetch, gate at the log start", "appliance/topic/read.go", "offset < start || offset > hw", "offset > hw", topicReads),
	instead("topic: state, only what is committed", "appliance/topic/checkpoint.go", "p.state.encode(hw)", "p.state.encode(1<<62)", topicCheckpoint),
	instead("topic: state, written again when it was ahead", "appliance/topic/checkpoint.go", "p.state.dirty = p.state.ahead(hw)", "p.state.dirty = false", topicCheckpoint),
	instead("topic: delete records, the log start is durable first", "appliance/topic/checkpoint.go",
		"	if <-o.done; o.err != nil {\n		return -1, o.err\n	}\n", "	p.start.Store(before)\n", topicCrash, topicAtLength),
	instead("topic: create, files before the catalog", "appliance/topic/create.go",
		"	err := s.makeLogs(partitions)\n", "	err := putTopics(s.opts.Catalog, entries)\n	if err == nil {\n		err = s.makeLogs(partitions)\n	}\n", topicCatalog),
	instead("topic: recovery, no checkpoint before what was replayed is synced", "appliance/topic/recover.go",
		"if err == nil && len(r.redos) == 0 {", "if err == nil {", topicCrash, topicAtLength),
	instead("topic: add partitions, files before the catalog", "appliance/topic/alter.go",
		"	if err := s.makeLogs(added); err != nil {\n		return err\n	}\n	e := t.entry()\n	e.Partitions += int32(len(added))\n	return s.opts.Catalog.PutTopic(e)\n",
		"	e := t.entry()\n	e.Partitions += int32(len(added))\n	if err := s.opts.Catalog.PutTopic(e); err != nil {\n		return err\n	}\n	return s.makeLogs(added)\n", topicCatalog),
	instead("topic: a resend is recognised", "appliance/topic/partition.go", "		if dup {\n", "		if false && dup {\n", topicIdempotent),
	instead("topic: a resend waits for the round of its first copy", "appliance/topic/partition.go",
		"			return p.stageOffset(entryDuplicate, base, done)\n", "			done.Complete(base, nil)\n			return nil\n", topicIdempotent),
	instead("topic: recovery, producers of replayed batches", "appliance/topic/recover.go", "		p.state.recall(e.batch)\n		p.reserved", "		p.reserved", topicIdempotent, topicCrash),
	instead("topic: recovery, log start of replayed entries", "appliance/topic/recover.go",
		"p.state.logStart, p.state.dirty = max(p.state.logStart, e.offset), true", "_ = p", topicTests, topicCrash),
	instead("topic: recovery, segments before the checkpoint", "appliance/topic/recover.go", "if err = r.finish(); err == nil", "if err == nil", topicTests),
	instead("topic: recovery, batches below the watermark are not written again", "appliance/topic/recover.go", "if e.batch.NextOffset() <= p.mark.end {", "if false {", topicCompact, topicCrash, topicAtLength),
	// That segments below it are not begun again is not here: a redo keeps the batches
	// that follow one another, and so what it would cut off is found to be whole.
	instead("topic: recovery, what a partition that cannot be opened has", "appliance/topic/recover.go", "			err = p.secure(err)\n", "			err = nil\n", topicOffline, topicCrash),
	instead("topic: recovery, and its state", "appliance/topic/recover.go", "err = replaceFile(p.set.opts.FS, p.dir, stateFile, p.state.encode(math.MaxInt64))", "_ = p.state.encode(math.MaxInt64)", topicOffline),

	instead("topic: transactions, readers stop at the last stable offset", "appliance/topic/committed.go", "		stable = p.LastStableOffset()\n", "		stable = p.HighWatermark()\n", topicTransactions, topicCrash),
	instead("topic: transactions, readers are told of what was aborted", "appliance/topic/committed.go", "return p.state.abortedIn(offset, next), ", "_ = next\n	return nil, ", topicTransactions, topicCrash),
	instead("topic: transactions, decided once it is committed", "appliance/topic/partition.go", "		if e.batch.Transactional() {\n			p.settle(e.batch)\n		}\n", "", topicTransactions),
	instead("topic: transactions, not decided before", "appliance/topic/partition.go", "	p.state.note(staged)\n", "	p.state.note(staged)\n	p.state.settle(staged)\n	p.unstable.Store(p.state.unstable())\n", topicTransactions, topicCrash),
	instead("topic: transactions, recovery", "appliance/topic/transactions.go", "	s.note(b)\n	s.settle(b)\n", "	s.note(b)\n", topicTransactions, topicCrash),
	instead("topic: transactions, recovery tells again of what is known", "appliance/topic/transactions.go", "	if b.BaseOffset() < t.next {\n		return\n	}\n", "", topicTransactions, topicCrash),
	instead("topic: transactions, in the state file", "appliance/topic/statefile.go", "	if s.transactions.next > 0 {\n", "	if false {\n", topicTransactions, topicCrash),
	instead("topic: transactions, a marker that is not committed has not happened", "appliance/topic/statefile.go", "		p = p.at(committed)\n", "", topicTransactions),
	instead("topic: cleaner, a sync that failed stops the log", "appliance/topic/compact.go", ", errors.Is(err, vfs.ErrUnsynced):", ":", topicCompact),
	instead("topic: cleaner, nothing that is not decided", "appliance/topic/compact.go", "if s.End > stable {", "if false {", topicTransactions, topicCrash, topicAtLength),
	instead("topic: cleaner, readers are told no more of what was aborted", "appliance/topic/compact.go", "		w.p.forgetAborted(done.Dirty) //", "		//", topicTransactions, topicCompact),

	instead("topic: watermarks, fdatasync", topicMarks, "if err := m.f.Sync(); err != nil", "if err := error(nil); err != nil", topicWatermarks, topicDamage),
	instead("topic: watermarks, CRC", topicMarks, "if crc32.Checksum(b[4:watermarkLen], castagnoli) != binary.BigEndian.Uint32(b) {", "if false {", topicWatermarks, topicDamage),
	instead("topic: watermarks, before the write-ahead log forgets", "appliance/topic/checkpoint.go", "	return s.saveWatermarks(dirty)\n", "	return nil\n", topicWatermarks, topicDamage),

	instead("topic: identity, sync of the file", "appliance/topic/identity.go", "			err = f.Sync()\n", "			err = nil\n", topicCrash, topicAtLength),
	instead("topic: identity, CRC", "appliance/topic/identity.go", "head != fmt.Sprintf(\"%s%08x\", identityMagic, crc32.Checksum([]byte(body), castagnoli))", "len(head) != len(identityMagic)+8", topicTests),
	instead("topic: create, names of the identities", "appliance/topic/create.go", "		err = s.saveIdentities(entries)\n	}\n	if err == nil {\n		err = s.syncTopics()\n", "		err = s.saveIdentities(entries)\n	}\n	if err == nil {\n", topicCrash, topicAtLength),
	instead("topic: create, identities before the answer", "appliance/topic/create.go", "		err = s.saveIdentities(entries)\n", "		err = nil\n", topicCrash, topicAtLength),

	without("topic: trash, name of its folder", "appliance/topic/trash.go", "fsys.SyncDir(trashDir)", topicCrash, topicAtLength),
	without("topic: trash, new name of the identity", "appliance/topic/trash.go", "fsys.SyncDir(d.dir)", topicCrash, topicAtLength),
	// The sync of the identity's old name is not here: that of the folders' follows
	// before the answer.
	instead("topic: trash, not of a Delete in doubt", "appliance/topic/trash.go", "if err := s.Err(); err != nil {\n		// A Delete may", "if err := error(nil); err != nil {\n		// A Delete may", topicOffline, topicTrash),
	instead("topic: trash, segments are synced", "appliance/topic/trash.go", "p.identify(), p.log.Sync(), p.saveState()", "p.identify(), p.saveState()", topicCrash, topicAtLength),
	instead("topic: trash, states are saved", "appliance/topic/trash.go", "p.identify(), p.log.Sync(), p.saveState()", "p.identify(), p.log.Sync()", topicTrash, topicCrash, topicAtLength),

	instead("topic: cleaner, what it cleans is checkpointed", "appliance/topic/compact.go", "	if err := c.set.checkpoint(); err != nil {\n		return err\n	}\n", "", topicCompact, topicCrash, topicAtLength),
	// That the cleaner waits for the rounds under way is not here: Compact has waited
	// already, and what came since it hardly ever meets.
	instead("topic: cleaner, what the new segment is", "appliance/topic/open.go", "	return p.saveState()\n", "	return nil\n", topicCompact, topicCrash, topicAtLength),
	instead("topic: cleaner, CRC of its progress", "appliance/topic/compactpoint.go", "if at < 0 || string(text[at:])", "if at < 0 || false && string(text[at:])", topicCompact),

	instead("topic: drop, the log start and its gap record are one", "appliance/topic/drop.go", "	gaps.put(b, done)\n", "	s.wal.End()\n	if err := s.wal.Begin(1, entryAppendLen+len(b)); err != nil {\n		return nil, err\n	}\n	gaps.put(b, done)\n", topicDrops, topicCrash, topicAtLength),
	instead("topic: drop, segments go when it is durable", "appliance/topic/drop.go", "if _, err := o.wait(context.Background()); err != nil {", "if _ = context.Background; false {", topicDrops, topicCrash, topicAtLength),
	instead("topic: drop, no segment that is being written", "appliance/topic/drop.go", "		s.wal.CatchUp() //", "		//", topicDrops),
}
