package main

var diskMutants = []mutant{
	instead("vfs: fdatasync of a file", "appliance/vfs/sync_linux.go", "unix.Fdatasync(int(fd)); syncErr != unix.EINTR", "error(nil); fd > 0 && syncErr != unix.EINTR", vfsTests),
	instead("vfs: fsync of a folder", "appliance/vfs/os.go", "errors.Join(d.Sync(), d.Close())", "d.Close()", vfsTests),
	instead("vfs: error of a sync", "appliance/vfs/os.go", "		return fmt.Errorf(\"vfs: sync %s: %w\", f.Name(), err)\n", "		return nil\n", vfsTests),
	instead("vfs: pool, sync of a file before it is closed", "appliance/vfs/pool.go", "		if err := h.f.Sync(); err != nil {", "		if err := error(nil); err != nil {", vfsTests),
	instead("vfs: pool, the error of that sync", "appliance/vfs/pool.go", "			h.err = err\n", "", vfsTests),
	instead("vfs: pool, the error of that sync for a sync of everything", "appliance/vfs/pool.go", "			h.pool.shared.failed.CompareAndSwap(nil, &err)\n", "", vfsTests),

	instead("vfs: what is kept of damage, sync of the bytes", "appliance/vfs/keep.go", "		err = f.Sync()\n", "		err = nil\n", vfsTests, walDamage, topicDamage),
	instead("vfs: what is kept of damage, its name", "appliance/vfs/keep.go", "	return fsys.SyncDir(dir)\n", "	return nil\n", vfsTests, walDamage, topicDamage),
	instead("vfs: what is set aside, both names", "appliance/vfs/keep.go", "errors.Join(fsys.SyncDir(dir), fsys.SyncDir(from))", "error(nil)", vfsTests, topicDamage),
	instead("vfs: what is set aside, the new name first", "appliance/vfs/keep.go", "errors.Join(fsys.SyncDir(dir), fsys.SyncDir(from))", "errors.Join(fsys.SyncDir(from), fsys.SyncDir(dir))", vfsTests, topicDamage),
	instead("vfs: name of the quarantine", "appliance/vfs/keep.go", "	return fsys.SyncDir(\".\")\n", "	return nil\n", vfsTests, walDamage, topicDamage),
}
