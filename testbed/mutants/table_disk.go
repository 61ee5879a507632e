package main

var diskMutants = []mutant{
	instead("vfs: fdatasync of a file", "appliance/vfs/sync_linux.go", "unix.Fdatasync(int(fd)); syncErr != unix.EINTR", "error(nil); fd > 0 && syncErr != unix.EINTR", vfsTests),
	instead("vfs: fsync of a folder", "appliance/vfs/os.go", "errors.Join(d.Sync(), d.Close())", "d.Close()", vfsTests),
	instead("vfs: error of a sync", "appliance/vfs/os.go", "		return fmt.Errorf(\"vfs: sync %s: %w\", f.Name(), err)\n", "		return nil\n", vfsTests),
}
