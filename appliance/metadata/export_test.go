package metadata

import "github.com/weirmq/weir/appliance/vfs"

// LimitSize makes the next write that would let the file grow over n bytes fail,
// as a full disk does.
func (s *Store) LimitSize(n int) { s.db.MaxSize = n }

// OpenBeside opens a store with its copy in files.
func OpenBeside(path string, files vfs.FS) (*Store, error) { return openBeside(path, files) }

// DecodeCopy reads a copy and writes it again.
func DecodeCopy(b []byte) ([]byte, error) {
	m, err := decodeImage(b)
	if err != nil {
		return nil, err
	}
	return m.encode()
}

// ParseProperties returns the cluster id of a meta.properties.
func ParseProperties(text string) string { return parseProperties(text) }

// CopyName is the name of the copy of metadata.db.
const CopyName = "metadata" + copySuffix

// SetFormat makes the store one of another format.
func (s *Store) SetFormat(format string) error {
	return s.update(func(w writer) error { return w.put(w.root(weirBucket), formatKey, []byte(format)) })
}
