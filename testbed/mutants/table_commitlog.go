package main

var commitlogMutants = []mutant{
	without("commitlog: fdatasync of a segment", "appliance/commitlog/segment.go", "s.f.Sync()", commitlogTests),
	without("commitlog: name of a new segment", "appliance/commitlog/log.go", "l.opts.FS.SyncDir(l.opts.Dir)", commitlogTests),
	without("commitlog: names of removed segments", "appliance/commitlog/remove.go", "l.opts.FS.SyncDir(l.opts.Dir)", commitlogTests),
	without("commitlog: redo, fdatasync of a segment", "appliance/commitlog/redo.go", "s.f.Sync()", commitlogTests),
	without("commitlog: redo, name of a new segment", "appliance/commitlog/redo.go", "r.opts.FS.SyncDir(r.opts.Dir)", commitlogTests),
	without("commitlog: redo, cut of what is behind the end", "appliance/commitlog/redo.go", "s.f.Truncate(s.end)", commitlogTests, topicCrash),
	instead("commitlog: redo, a segment is missing", "appliance/commitlog/redo.go", "r.gone > start", "false", commitlogTests, topicCrash),
	instead("commitlog: redo, a segment too many", "appliance/commitlog/redo.go", "		if base > last {", "		if false {", commitlogTests, topicCrash),
	instead("commitlog: redo, the index of what is written again", "appliance/commitlog/redo.go", "x.load(s.start, ", "x.load(1<<62, ", commitlogTests, topicCrash),
	instead("commitlog: CRC of a batch that times are looked up in", "appliance/commitlog/times.go", "if err := b.Validate(); err != nil", "if err := error(nil); err != nil", commitlogTests),
	instead("commitlog: an index entry is checked against the segment", "appliance/commitlog/segment.go", "b.Magic() == 2 && b.BaseOffset() >= s.base && b.LastOffset() == e.offset", "b.Magic() == 2 || true", commitlogTests),
	instead("commitlog: entries of the two indexes belong together", "appliance/commitlog/index.go", "return e, x.base+int64(binary.BigEndian.Uint32(t[8:])) == e.offset", "return e, true", commitlogTests),
	instead("commitlog: index entries grow and lie in the segment", "appliance/commitlog/index.go", "!ok || e.offset <= prev.offset || e.pos <= prev.pos || e.pos >= size || e.timestamp < prev.timestamp", "!ok", commitlogTests),
	instead("commitlog: a batch goes where the segment ends", "appliance/commitlog/log.go", "size != at.Byte", "false", commitlogTests, topicCrash),
}
