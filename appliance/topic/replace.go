package topic

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/appliance/vfs"
)

// newSuffix is that of a file which is to take the place of another.
const newSuffix = ".tmp"

// replaceFile puts a whole file in place of another, durably: after a crash it
// is the old one or the new one.
func replaceFile(fsys vfs.FS, dir, name string, b []byte) error {
	if err := writeNew(fsys, dir, name, b, true); err != nil {
		return err
	}
	if err := renameNew(fsys, dir, name); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("%w: topic: sync folder %s: %w", vfs.ErrUnsynced, dir, err)
	}
	return nil
}

// writeNew writes the file that is to replace another. It must be synced, by this
// call or otherwise, before renameNew.
func writeNew(fsys vfs.FS, dir, name string, b []byte, sync bool) error {
	tmp := dir + "/" + name + newSuffix
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("topic: remove %s: %w", tmp, err)
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("topic: create %s: %w", tmp, err)
	}
	_, err = f.WriteAt(b, 0)
	full := vfs.Full(err) // then it may be tried again
	if err == nil && sync {
		err = f.Sync()
	}
	if err != nil && !full { // a disk that cannot write is trusted no more than one that cannot sync
		err = fmt.Errorf("%w: %w", vfs.ErrUnsynced, err)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("topic: write %s: %w", tmp, err)
	}
	return nil
}

// renameNew puts what writeNew wrote in its place. It is durable once the folder is synced.
func renameNew(fsys vfs.FS, dir, name string) error {
	tmp := dir + "/" + name + newSuffix
	if err := fsys.Rename(tmp, dir+"/"+name); err != nil {
		return fmt.Errorf("topic: rename %s: %w", tmp, err)
	}
	return nil
}
