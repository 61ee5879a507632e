package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// keepChunk is how much Keep copies at once.
const keepChunk = 256 << 10

// Keep copies the n bytes of r from from on to the file name in the folder dir,
// which it makes, durably: bytes that no longer make sense are set aside before
// what holds them is used again. A file of that name is replaced, so doing it
// twice is doing it once. A source that ends earlier is kept as far as it goes.
func Keep(fsys FS, dir, name string, r io.ReaderAt, from, n int64) error {
	if err := makeFolder(fsys, dir); err != nil {
		return err
	}
	tmp := dir + "/" + name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	if err = copyRange(f, r, from, n); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(tmp))
	}
	if err := fsys.Rename(tmp, dir+"/"+name); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// SetAside moves a file or folder to the folder dir, which it makes, durably: what
// is not to be used any more and not to be deleted either. from is the folder that
// holds it. Should the name be taken, a number is put behind it.
func SetAside(fsys FS, from, name, dir, as string) (to string, err error) {
	if err := makeFolder(fsys, dir); err != nil {
		return "", err
	}
	taken, err := fsys.List(dir)
	if err != nil {
		return "", err
	}
	have := make(map[string]bool, len(taken))
	for _, t := range taken {
		have[t] = true
	}
	to = as
	for i := 2; have[to]; i++ {
		to = fmt.Sprintf("%s.%d", as, i)
	}
	if err := fsys.Rename(from+"/"+name, dir+"/"+to); err != nil {
		return "", err
	}
	// The new name first: a power cut may show both, never neither.
	return to, errors.Join(fsys.SyncDir(dir), fsys.SyncDir(from))
}

func makeFolder(fsys FS, dir string) error {
	if _, err := fsys.List(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(".")
}

func copyRange(w io.WriterAt, r io.ReaderAt, from, n int64) error {
	buf := make([]byte, min(max(n, 1), keepChunk))
	for done := int64(0); done < n; {
		k, err := r.ReadAt(buf[:min(int64(len(buf)), n-done)], from+done)
		if err != nil && err != io.EOF {
			return err
		}
		if k == 0 {
			return nil
		}
		if _, err := w.WriteAt(buf[:k], done); err != nil {
			return err
		}
		done += int64(k)
	}
	return nil
}
