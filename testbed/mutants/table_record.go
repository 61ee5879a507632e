package main

var recordMutants = []mutant{
	instead("record: CRC of a batch", "appliance/record/batch.go", "got != b.CRC()", "false && got != b.CRC()", recordTests),
	instead("record: length of a batch", "appliance/record/batch.go", "case b.Len() != int64(len(b)):", "case false:", recordTests),
	instead("record: magic of a batch", "appliance/record/batch.go", "case b.Magic() != 2:", "case false:", recordTests),
	instead("group: CRC of what the coordinator reads", "appliance/group/log.go", "if err := b.Validate(); err != nil {", "if err := error(nil); err != nil {", groupDamage),
	instead("group: a commit waits for the log", "appliance/group/log.go", "	<-a.done\n	switch {\n	case errors.Is(a.err, record.ErrTooLarge):", "	switch {\n	case errors.Is(a.err, record.ErrTooLarge):", groupTests),
	instead("group: a refused commit is an error", "appliance/group/log.go", "	case errors.Is(a.err, record.ErrStorage), errors.Is(a.err, record.ErrDiskFull), errors.Is(a.err, record.ErrClosed), errors.Is(a.err, record.ErrUnknownTopicOrPartition):\n		return fmt.Errorf(\"%w: append to %s: %w\", ErrCoordinatorNotAvailable, TopicPartition, a.err)\n	case a.err != nil:\n		return a.err // what the transaction's coordinator says\n	}\n	return", "	}\n	return", groupDamage),
	instead("group: a commit in a transaction holds when that is committed", "appliance/group/log.go", "if b.Transactional() {", "if false {", appliancePowerCut),
	instead("group: what an aborted transaction commits is forgotten", "appliance/group/pending.go", "	if !m.Commit {\n", "	if false {\n", appliancePowerCut),
	instead("group: a snapshot keeps what is not decided", "appliance/group/pending.go", "		end = min(end, held[0].Offset)\n", "		_ = held\n", appliancePowerCut),
	// That the decision comes before the markers, and a partition's joining before its batch,
	// is not here: they hardly ever fall into two rounds. The traces have their order.
	instead("txn: what was decided is completed at the start", "appliance/txn/coordinator.go", "	c.tick()\n	c.abandonUnknown()\n", "	c.abandonUnknown()\n", txnTests),
	instead("txn: an answer waits for the log", "appliance/txn/requests.go", "errors.Join(err, last.wait())", "errors.Join(err, last.refused())", appliancePowerCut),
	instead("group: an answer waits for what is committed", "appliance/group/log.go", "	return l.awaitApplied(l.part.HighWatermark())\n", "	return nil\n", groupTests),

	instead("metadata: digest of the entries", "appliance/metadata/open.go", "	if got != want {", "	if false {", metadataTests),
	instead("metadata: nothing is written after a failure", "appliance/metadata/metadata.go", "	case s.failed != nil:", "	case false:", metadataTests),
	instead("metadata: a failed write is an error", "appliance/metadata/metadata.go", "			err = s.failed\n", "			err = nil\n", metadataTests),
	instead("metadata: copy, sync of the bytes", "appliance/metadata/copy.go", "		err = f.Sync()\n", "		err = nil\n", metadataTests),
	instead("metadata: copy, name after the rename", "appliance/metadata/copy.go", "	return r.files.SyncDir(\".\")\n", "	return nil\n", metadataTests),
	instead("metadata: copy, CRC", "appliance/metadata/copy.go", " || crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {", " {", metadataTests),
}
