package metadata

import (
	"bytes"
	"maps"

	bolt "go.etcd.io/bbolt"
)

// Bucket is a table of one part of Weir, apart from those of others.
type Bucket struct {
	s    *Store
	name string
}

// Bucket returns the table of that name. It begins to exist with its first Put.
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s, name} }

func partPath(name string) string { return string(partsBucket) + "/" + name }

// Get returns the value of key, in memory of its own; ok is false if there is none.
func (b *Bucket) Get(key string) (value []byte, ok bool, err error) {
	err = b.view(func(t *bolt.Bucket) error {
		if v := t.Get([]byte(key)); v != nil {
			value, ok = append([]byte{}, v...), true
		}
		return nil
	})
	return value, ok, err
}

// All returns all keys and values, in memory of their own.
func (b *Bucket) All() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := b.view(func(t *bolt.Bucket) error {
		return t.ForEach(func(k, v []byte) error {
			all[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	return all, err
}

// Put sets the value of key, at most MaxValueBytes. The key must not be empty.
func (b *Bucket) Put(key string, value []byte) error {
	return b.PutAll(map[string][]byte{key: value})
}

// PutAll sets several values at once: all or none of them.
func (b *Bucket) PutAll(values map[string][]byte) error {
	return b.s.update(func(w writer) error {
		t, err := w.tx.Bucket(partsBucket).CreateBucketIfNotExists([]byte(b.name))
		if err != nil {
			return err
		}
		for key, value := range maps.All(values) {
			if err := w.put(place{t, partPath(b.name)}, []byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete removes key; no error if there is none.
func (b *Bucket) Delete(key string) error {
	return b.s.update(func(w writer) error {
		t := w.tx.Bucket(partsBucket).Bucket([]byte(b.name))
		if t == nil {
			return nil
		}
		return w.delete(place{t, partPath(b.name)}, []byte(key))
	})
}

// view calls read unless the table does not exist yet.
func (b *Bucket) view(read func(t *bolt.Bucket) error) error {
	return b.s.view(func(tx *bolt.Tx) error {
		t := tx.Bucket(partsBucket).Bucket([]byte(b.name))
		if t == nil {
			return nil
		}
		return read(t)
	})
}
