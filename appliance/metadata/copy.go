package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/weirmq/weir/appliance/vfs"
)

// The second copy of the store, in a file of its own that needs no bbolt to read.
// Every change writes it whole: the new one is staged and synced before bbolt
// commits, and put in the place of the old one before the change is reported as
// done. So the copy is never behind what anybody was told, and a disk too full for
// it refuses the change while nothing has happened.
//
// Big endian: magic "WMC1", CRC-32C of what follows, revision (8), number of
// entries (4); each entry: length of path (2), key (2) and value (4), and these.
const (
	copyMagic     = "WMC1"
	copyHeaderLen = 4 + 4 + 8 + 4
	copySuffix    = ".copy"
	stagedSuffix  = ".new"
	// maxCopyBytes bounds what is read as a copy: far more than 10,000 topics need.
	maxCopyBytes = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCopy is the reason why a copy is of no use.
var errCopy = errors.New("the copy of the metadata is damaged")

// image is the content of a store.
type image struct {
	revision uint64
	entries  []stored
}

type stored struct {
	path       string
	key, value []byte
}

// find returns an entry of the bucket weir.
func (m *image) find(key []byte) string {
	for _, e := range m.entries {
		if e.path == string(weirBucket) && string(e.key) == string(key) {
			return string(e.value)
		}
	}
	return ""
}

func (m *image) encode() ([]byte, error) {
	b := append(make([]byte, 0, copyHeaderLen+128*len(m.entries)), copyMagic...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, m.revision)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.entries)))
	for _, e := range m.entries {
		if len(e.path) > math.MaxUint16 || len(e.key) > math.MaxUint16 {
			return nil, fmt.Errorf("metadata: the key %.40q in %.40q is too long", e.key, e.path)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.path)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.key)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.value)))
		b = append(append(append(b, e.path...), e.key...), e.value...)
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b, nil
}

// decodeImage reads a copy; the entries lie in b. The error is errCopy.
func decodeImage(b []byte) (*image, error) {
	if len(b) < copyHeaderLen || string(b[:4]) != copyMagic || crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, errCopy
	}
	m := &image{revision: binary.BigEndian.Uint64(b[8:])}
	count := int64(binary.BigEndian.Uint32(b[16:]))
	b = b[copyHeaderLen:]
	if count*8 > int64(len(b)) {
		return nil, errCopy
	}
	for range count {
		if len(b) < 8 {
			return nil, errCopy
		}
		path, key, value := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint32(b[4:])
		b = b[8:]
		if int64(path+key)+int64(value) > int64(len(b)) {
			return nil, errCopy
		}
		end := path + key + int(value)
		m.entries = append(m.entries, stored{string(b[:path]), b[path : path+key : path+key], b[path+key : end : end]})
		b = b[end:]
	}
	if len(b) != 0 {
		return nil, errCopy
	}
	return m, nil
}

// imageOf is the content of the store as the transaction sees it; it is valid as
// long as the transaction.
func imageOf(tx *bolt.Tx) (*image, error) {
	w := writer{tx}
	revision, err := w.number(revisionKey, 0)
	if err != nil {
		return nil, err
	}
	m := &image{revision: uint64(revision)}
	add := func(path string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v != nil && !(path == string(weirBucket) && string(k) == string(digestKey)) {
				m.entries = append(m.entries, stored{path, k, v})
			}
			return nil
		})
	}
	parts := tx.Bucket(partsBucket)
	err = errors.Join(add(string(weirBucket), tx.Bucket(weirBucket)), add(string(topicsBucket), tx.Bucket(topicsBucket)))
	for name := range keys(parts) {
		if b := parts.Bucket(name); b != nil {
			err = errors.Join(err, add(partPath(string(name)), b))
		}
	}
	return m, err
}

// restore puts the entries into a store that has none.
func (m *image) restore(tx *bolt.Tx) error {
	w := writer{tx}
	for _, e := range m.entries {
		bucket := tx.Bucket([]byte(e.path))
		if name, ok := strings.CutPrefix(e.path, string(partsBucket)+"/"); ok {
			var err error
			if bucket, err = tx.Bucket(partsBucket).CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		if bucket == nil {
			return fmt.Errorf("%w: it has an entry in %q", errCopy, e.path)
		}
		if err := w.put(place{bucket, e.path}, e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// replica is the copy on the disk. Its folder is the store's.
type replica struct {
	files vfs.FS
	name  string
}

func replicaOf(path string, files vfs.FS) replica {
	return replica{files, strings.TrimSuffix(filepath.Base(path), ".db") + copySuffix}
}

// load reads the copy. The errors are fs.ErrNotExist, errCopy and the disk's.
func (r replica) load() (*image, error) {
	f, err := r.files.Open(r.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxCopyBytes {
		return nil, errCopy
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); int64(n) < size && err != io.EOF {
		return nil, fmt.Errorf("%w: %w", errCopy, err)
	}
	return decodeImage(b)
}

// stage writes the next copy beside the one in force.
func (r replica) stage(m *image) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	staged := r.name + stagedSuffix
	if err := r.files.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.files.Create(staged)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish puts the staged copy in force.
func (r replica) publish() error {
	if err := r.files.Rename(r.name+stagedSuffix, r.name); err != nil {
		return err
	}
	return r.files.SyncDir(".")
}
