package main

var commitlogMutants = []mutant{
	without("commitlog: fdatasync of a segment", "appliance/commitlog/segment.go", "s.f.Sync()", commitlogTests),
	without("commitlog: name of a new segment", "appliance/commitlog/log.go", "l.opts.FS.SyncDir(l.opts.Dir)", commitlogTests),
	without("commitlog: names of removed segments", "appliance/commitlog/remove.go", "l.opts.FS.SyncDir(l.opts.Dir)", commitlogTests),
	without("commitlog: redo, cut of what is behind the end", "appliance/commitlog/redo.go", "s.f.Truncate(s.end)", commitlogTests, topicCrash),
	// The cut of the index in a redo is not here: the same bytes come to the same
	// places, so entries that survived are true.
	instead("commitlog: CRC of a batch that times are looked up in", "appliance/commitlog/times.go", "if err := b.Validate(); err != nil", "if err := error(nil); err != nil", commitlogTests),
	instead("commitlog: an index entry is checked against the segment", "appliance/commitlog/segment.go", "b.Magic() == 2 && b.BaseOffset() >= s.base && b.LastOffset() == e.offset", "b.Magic() == 2 || true", commitlogTests),
	instead("commitlog: entries of the two indexes belong together", "appliance/commitlog/index.go", "return e, x.base+int64(binary.BigEndian.Uint32(t[8:])) == e.offset", "return e, true", commitlogTests),
	instead("commitlog: index entries grow and lie in the segment", "appliance/commitlog/index.go", "!ok || e.offset <= prev.offset || e.pos <= prev.pos || e.pos >= size || e.timestamp < prev.timestamp", "!ok", commitlogTests),
	instead("commitlog: cleaner, sync of the new segment", "appliance/commitlog/rewrite.go", "		err = r.sync()\n", "		err = nil\n", commitlogTests, topicCrash),
	instead("commitlog: cleaner, names after each rename", "appliance/commitlog/swap.go", "	return o.syncDir()\n", "	return nil\n", commitlogTests, topicCrash),
	instead("commitlog: cleaner, names of what is superseded", "appliance/commitlog/swap.go", "	if err := o.syncDir(); err != nil", "	if err := error(nil); err != nil", commitlogTests, topicCrash),
	instead("commitlog: cleaner, a swap that a crash cut short", "appliance/commitlog/swap.go", "if base, end, ok := parseSwapName(name); ok {", "if base, end, ok := parseSwapName(name); ok && false {", commitlogTests, topicCrash),
	instead("commitlog: cleaner, the owner is told before", "appliance/commitlog/rewrite.go", "	if r.BeforeSwap != nil {", "	if false {", commitlogTests, topicCrash, topicCompact),
	instead("commitlog: cleaner, a marker stays while there are records of it", "appliance/commitlog/rewrite.go", "alive := r.alive[b.ProducerID()]", "alive := false", commitlogTests),
	instead("commitlog: cleaner, a marker stays while readers are told of what it ended", "appliance/commitlog/rewrite.go", "needed := alive || r.Marked != nil && r.Marked(b)", "needed := alive", commitlogTests),
	instead("commitlog: cleaner, what was aborted supersedes nothing", "appliance/commitlog/clean.go", "b.Count() == 0 || w.aborted(b)", "b.Count() == 0", commitlogTests),
	instead("commitlog: cleaner, CRC of a batch", "appliance/commitlog/clean.go", "if err := b.Validate(); err != nil {", "if err := error(nil); err != nil {", commitlogTests, topicCompact),
	instead("commitlog: what is remembered of a segment is checked", "appliance/commitlog/identity.go", "if whole, err := l.startsWhole(s); err", "if whole, err := true, error(nil); err", topicBits),
	instead("commitlog: a first epoch that is no more than a flipped bit", "appliance/commitlog/quarantine.go", "epoch > a.epoch && !remembered", "epoch > a.epoch && !remembered && pos > 0", commitlogTests),
	instead("commitlog: redo for no log, fdatasync", "appliance/commitlog/redo.go", "errors.Join(f.Sync(), f.Close())", "f.Close()", topicOffline),
}
