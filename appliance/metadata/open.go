package metadata

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	// lockTimeout is how long Open waits for a process that is just ending.
	lockTimeout = time.Second
	lockRetry   = 50 * time.Millisecond
)

// Open opens the store at path, after making it if there is none. Until Close no
// other process can open it, nor any store in the same directory: that is the lock
// of the data directory. The errors are ErrInUse, ErrCorrupt and those of the disk.
func Open(path string) (*Store, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(path, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func openLocked(path string, lock *os.File) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, lock); err != nil {
			return nil, fmt.Errorf("metadata: create %s: %w", path, err)
		}
	}
	id, err := verify(path)
	if err != nil {
		return nil, openError(path, err)
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return &Store{db: db, lock: lock, clusterID: id}, nil
}

// lockDir locks the folder, not the file: the file does not exist yet when two
// processes start for the first time.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockRetry) {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	defer d.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s is locked: stop that process or choose another --data", ErrInUse, dir)
	}
	return nil, fmt.Errorf("metadata: lock %s: %w", dir, err)
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s is locked: stop that process or choose another --data", ErrInUse, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("metadata: %s: %w: put back a copy of the file from a backup; the records beside it are not touched", path, err)
	}
	return fmt.Errorf("metadata: %s: %w", path, err)
}

// create makes a complete store beside path and then renames it, so that a power
// cut leaves all of it or nothing.
func create(path string, dir *os.File) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, err := bolt.Open(temp, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = errors.Join(db.Update(initialize), db.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return dir.Sync()
}

func initialize(tx *bolt.Tx) error {
	for _, name := range [][]byte{weirBucket, topicsBucket, partsBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	w := writer{tx}
	weir := w.root(weirBucket)
	if err := weir.bucket.Put(digestKey, formatDigest(0)); err != nil {
		return err
	}
	if err := w.put(weir, formatKey, []byte(formatVersion)); err != nil {
		return err
	}
	return w.put(weir, clusterIDKey, []byte(newClusterID()))
}

// newClusterID makes a random UUID as Kafka writes it. Like Kafka's it does not
// start with a dash, which command lines would take for an option.
func newClusterID() string {
	for {
		var uuid [16]byte
		rand.Read(uuid[:])
		uuid[6] = uuid[6]&0x0f | 0x40 // version 4
		uuid[8] = uuid[8]&0x3f | 0x80 // RFC 9562 variant
		if id := base64.RawURLEncoding.EncodeToString(uuid[:]); id[0] != '-' {
			return id
		}
	}
}

// verify reads everything once and compares it with the digest. It opens the file
// read-only, because bbolt trusts the pages of a file that it opens for writing
// and panics, in part in goroutines of its own, where they make no sense.
func verify(path string) (clusterID string, err error) {
	defer recoverPages(&err)()
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.Size() == 0 { // bbolt would make a new store of it
		return "", fmt.Errorf("%w: the file is empty", ErrCorrupt)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > st.Size() {
			return fmt.Errorf("%w: file has %d bytes of %d", ErrCorrupt, st.Size(), tx.Size())
		}
		clusterID, err = verifyEntries(tx)
		return err
	})
	return clusterID, err
}

func verifyEntries(tx *bolt.Tx) (clusterID string, err error) {
	weir, topics, parts := tx.Bucket(weirBucket), tx.Bucket(topicsBucket), tx.Bucket(partsBucket)
	if weir == nil || topics == nil || parts == nil {
		return "", fmt.Errorf("%w: it is no metadata of weir", ErrCorrupt)
	}
	if v := weir.Get(formatKey); !bytes.Equal(v, []byte(formatVersion)) {
		return "", fmt.Errorf("format is %q, this weir reads %q: use the weir that wrote it, or a newer one", v, formatVersion)
	}
	want, err := parseDigest(weir.Get(digestKey))
	if err != nil {
		return "", err
	}
	got := bucketDigest(string(weirBucket), weir) ^ bucketDigest(string(topicsBucket), topics)
	for name := range keys(parts) {
		if b := parts.Bucket(name); b != nil {
			got ^= bucketDigest(partPath(string(name)), b)
		}
	}
	if got != want {
		return "", fmt.Errorf("%w: digest is %016x, the entries have %016x", ErrCorrupt, want, got)
	}
	return string(weir.Get(clusterIDKey)), nil
}

// openBolt opens the verified file for writing and has bbolt compare its list of
// free pages with the pages in use.
func openBolt(path string) (db *bolt.DB, err error) {
	defer recoverPages(&err)()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) (first error) {
		for err := range tx.Check() { // to its end: the channel must be drained
			if first == nil {
				first = fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
		}
		return first
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// recoverPages makes an error of what reading a damaged file does to bbolt: it
// panics, or follows a pointer out of the map.
func recoverPages(err *error) (deferred func()) {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}
}

var crcTable = crc64.MakeTable(crc64.ECMA)

func bucketDigest(path string, b *bolt.Bucket) (sum uint64) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if path == string(weirBucket) && bytes.Equal(k, digestKey) {
			continue
		}
		sum ^= entryDigest(path, k, v)
	}
	return sum
}

// entryDigest is a checksum of one entry and of where it is. The lengths keep
// the parts apart.
func entryDigest(path string, key, value []byte) uint64 {
	sum := crc64.Update(0, crcTable, fmt.Appendf(nil, "%d %d %d ", len(path), len(key), len(value)))
	sum = crc64.Update(sum, crcTable, []byte(path))
	sum = crc64.Update(sum, crcTable, key)
	return crc64.Update(sum, crcTable, value)
}

func keys(b *bolt.Bucket) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		c := b.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if !yield(k) {
				return
			}
		}
	}
}
