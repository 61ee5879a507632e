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
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance/vfs"
)

const (
	// lockTimeout is how long Open waits for a process that is just ending.
	lockTimeout = time.Second
	lockRetry   = 50 * time.Millisecond
)

// Open opens the store at path, after making it if there is none. Until Close no
// other process can open it, nor any store in the same directory: that is the lock
// of the data directory. A store that is missing or damaged is rebuilt, which
// [Store.Recovery] tells; what is there of it is kept beside it. The errors are
// ErrInUse and those of the disk.
func Open(path string) (*Store, error) {
	return openBeside(path, vfs.OS(filepath.Dir(path)))
}

// openBeside opens the store with its copy in files.
func openBeside(path string, files vfs.FS) (*Store, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock, replica: replicaOf(path, files)}
	if err := s.open(path); err != nil {
		return nil, errors.Join(openError(path, err), lock.Close())
	}
	return s, nil
}

func (s *Store) open(path string) error {
	j, err := s.judge(path)
	if err != nil {
		return err
	}
	reason, err := j.lost()
	if err != nil {
		return err
	}
	if reason == "" {
		// Verified, but bbolt's list of free pages is not in the digest.
		if s.db, err = openBolt(path); errors.Is(err, ErrCorrupt) {
			reason, err = err.Error(), nil
		}
	}
	if err == nil && reason != "" {
		if j.known {
			err = s.rebuild(path, &j, reason)
		} else {
			err = create(path, s.lock, func(tx *bolt.Tx) error { return initialize(tx, "") })
		}
		if err == nil {
			s.db, err = openBolt(path)
		}
	}
	if err != nil {
		return err
	}
	if err := s.settle(&j, reason != ""); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// settle takes in what the open store says of itself, and brings the files beside
// it to the same state.
func (s *Store) settle(j *judged, made bool) error {
	var current *image
	var staged error
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		if current, err = imageOf(tx); err != nil {
			return err
		}
		s.clusterID = current.find(clusterIDKey)
		s.loadRecovery(current.find(recoveryKey))
		switch {
		case made || errors.Is(j.copyErr, fs.ErrNotExist):
		case j.copyErr != nil:
			s.copyMended = j.copyErr
		case j.copy.revision == current.revision && j.copy.find(clusterIDKey) == s.clusterID:
			return nil
		}
		staged = s.replica.stage(current)
		return staged
	})
	if err != nil {
		return err
	}
	if made || j.copy == nil || j.copy.revision != current.revision || j.copy.find(clusterIDKey) != s.clusterID {
		if err := s.replica.publish(); err != nil {
			return err
		}
	}
	return saveProperties(s.replica.files, s.clusterID)
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
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%w: %s is locked: stop that process or choose another --data", ErrInUse, path)
	}
	return fmt.Errorf("metadata: %s: %w", path, err)
}

// judgeOpen tells a file that bbolt can make nothing of, which is damage, from one
// that the system does not let us open.
func judgeOpen(err error) error {
	var system syscall.Errno
	if errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &system) && system != syscall.EIO {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// create makes a complete store beside path and then renames it, so that a power
// cut leaves all of it or nothing.
func create(path string, dir *os.File, fill func(tx *bolt.Tx) error) error {
	temp := path + stagedSuffix
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, err := bolt.Open(temp, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(fill), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return dir.Sync()
}

func makeBuckets(tx *bolt.Tx) error {
	for _, name := range [][]byte{weirBucket, topicsBucket, partsBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(weirBucket).Put(digestKey, formatDigest(0))
}

// initialize makes a store of a box that knows of itself no more than its id, or
// not even that.
func initialize(tx *bolt.Tx, clusterID string) error {
	if err := makeBuckets(tx); err != nil {
		return err
	}
	if clusterID == "" {
		clusterID = newClusterID()
	}
	w := writer{tx}
	weir := w.root(weirBucket)
	if err := w.put(weir, formatKey, []byte(formatVersion)); err != nil {
		return err
	}
	return w.put(weir, clusterIDKey, []byte(clusterID))
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

// inspection is what a store that is intact says of itself.
type inspection struct {
	clusterID string
	revision  uint64
}

// verify reads everything once and compares it with the digest. It opens the file
// read-only, because bbolt trusts the pages of a file that it opens for writing
// and panics, in part in goroutines of its own, where they make no sense.
func verify(path string) (found inspection, err error) {
	defer recoverPages(&err)()
	st, err := os.Stat(path)
	if err != nil {
		return found, err
	}
	if st.Size() == 0 { // bbolt would make a new store of it
		return found, fmt.Errorf("%w: the file is empty", ErrCorrupt)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return found, judgeOpen(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > st.Size() {
			return fmt.Errorf("%w: file has %d bytes of %d", ErrCorrupt, st.Size(), tx.Size())
		}
		found, err = verifyEntries(tx)
		return err
	})
	return found, err
}

func verifyEntries(tx *bolt.Tx) (found inspection, err error) {
	weir, topics, parts := tx.Bucket(weirBucket), tx.Bucket(topicsBucket), tx.Bucket(partsBucket)
	if weir == nil || topics == nil || parts == nil {
		return found, fmt.Errorf("%w: it is no metadata of weir", ErrCorrupt)
	}
	want, err := parseDigest(weir.Get(digestKey))
	if err != nil {
		return found, err
	}
	got := bucketDigest(string(weirBucket), weir) ^ bucketDigest(string(topicsBucket), topics)
	for name := range keys(parts) {
		if b := parts.Bucket(name); b != nil {
			got ^= bucketDigest(partPath(string(name)), b)
		}
	}
	if got != want {
		return found, fmt.Errorf("%w: digest is %016x, the entries have %016x", ErrCorrupt, want, got)
	}
	if v := weir.Get(formatKey); !bytes.Equal(v, []byte(formatVersion)) {
		return found, fmt.Errorf("format is %q, this weir reads %q: use the weir that wrote it, or a newer one", v, formatVersion)
	}
	revision, err := writer{tx}.number(revisionKey, 0)
	return inspection{string(weir.Get(clusterIDKey)), uint64(revision)}, err
}

// openBolt opens the verified file for writing and has bbolt compare its list of
// free pages with the pages in use.
func openBolt(path string) (db *bolt.DB, err error) {
	defer recoverPages(&err)()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, judgeOpen(err)
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
