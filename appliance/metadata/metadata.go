// Package metadata keeps what the box must know before it reads its log: who it
// is, which topics exist, which ids it has given out, and the small tables of
// other parts. It never holds records.
//
// The store is one bbolt file, with a second copy in a plain file beside it, from
// which Open rebuilds it when it is missing or damaged. Every method that changes
// something returns once the change is durable in both. All methods may be called
// concurrently. Keys and values are, by bucket:
//
//	weir     format             "1"
//	         cluster.id         22 characters, a random UUID in URL-safe base64
//	         leader.epoch       decimal, the last one given out
//	         producer.id.end    decimal, the end of the last block given out
//	         revision           decimal, grows with every change
//	         recovery           JSON: the last time that Open had to rebuild the store
//	         digest             16 hexadecimal digits, see below
//	topics   name of the topic  JSON: id, partitions, configs, internal, created
//	parts    name of a Bucket   a bucket: keys and values are its owner's
//
// bbolt guards only its two meta pages by checksums. The digest guards the rest:
// it is the exclusive or of a CRC-64 of each entry, is kept up to date by every
// change, and is checked when the store is opened, so that a key that a bad disk
// has altered or swallowed is an error, not a topic that is silently gone.
package metadata

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/weirmq/weir/appliance/record"
)

const (
	formatVersion = "1"
	// MaxValueBytes bounds one value.
	MaxValueBytes = 1 << 20
	// producerIDBlock is how many producer ids one write makes available. What is
	// left of a block is lost at a restart; there are 2^63 to lose.
	producerIDBlock = 1000
	// epochJump and producerIDJump are left out behind the greatest that was found in
	// the log when the store knew less: as much as may have been given out in vain.
	epochJump      = 1000
	producerIDJump = 1_000_000
	// maxFoundProducerID is above all ids that a store gives out; a greater one was
	// made up by a client and says nothing.
	maxFoundProducerID = 1 << 62
)

var (
	weirBucket   = []byte("weir")
	topicsBucket = []byte("topics")
	partsBucket  = []byte("parts")

	formatKey      = []byte("format")
	clusterIDKey   = []byte("cluster.id")
	epochKey       = []byte("leader.epoch")
	producerEndKey = []byte("producer.id.end")
	revisionKey    = []byte("revision")
	recoveryKey    = []byte("recovery")
	digestKey      = []byte("digest")
)

var (
	// ErrInUse is returned by Open while another process has the data directory.
	ErrInUse = errors.New("data directory is used by another weir process")
	// ErrCorrupt is returned for a value that makes no sense in a store that is intact.
	ErrCorrupt = errors.New("metadata is corrupt")
)

// Store is the open metadata of a box.
type Store struct {
	db        *bolt.DB
	lock      *os.File // the data directory, locked
	replica   replica
	clusterID string

	recovered  bool  // Open rebuilt the store
	copyMended error // why Open wrote the copy anew

	mu          sync.Mutex // guards what follows; held over writes of epoch and producer ids
	failed      error      // the first write that failed; there is no other after it
	onFailure   func(error)
	room        func() // called before a write; nil: nothing
	closed      bool
	producerID  int64 // the next one
	producerEnd int64 // of the block given out
	recovery    *Recovery
}

// ClusterID is the box's identity, made when the store is first opened.
func (s *Store) ClusterID() string { return s.clusterID }

// NextEpoch returns a leader epoch that is greater than all before. The first is 0.
func (s *Store) NextEpoch() (int32, error) {
	var epoch int64
	err := s.update(func(w writer) error {
		last, err := w.number(epochKey, -1)
		if err != nil {
			return err
		}
		if epoch = last + 1; epoch > math.MaxInt32 {
			return errors.New("metadata: leader epochs are used up")
		}
		return w.put(w.root(weirBucket), epochKey, strconv.AppendInt(nil, epoch, 10))
	})
	return int32(epoch), err
}

// RaiseEpoch returns a leader epoch that is greater than found, which is one that
// the log holds, and than all before. It is for a store that has lost what it knew.
func (s *Store) RaiseEpoch(found int32) (int32, error) {
	if found > math.MaxInt32-1-epochJump {
		return 0, errors.New("metadata: leader epochs are used up")
	}
	err := s.update(func(w writer) error {
		last, err := w.number(epochKey, -1)
		if err != nil {
			return err
		}
		return w.put(w.root(weirBucket), epochKey, strconv.AppendInt(nil, max(last, int64(found)+epochJump), 10))
	})
	if err != nil {
		return 0, err
	}
	return s.NextEpoch()
}

// RaiseProducerIDs makes sure that NextProducerID returns none up to found, which
// is one that the log holds. It writes only if the store has lost what it knew.
func (s *Store) RaiseProducerIDs(found int64) error {
	if found > maxFoundProducerID {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var end int64
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		end, err = writer{tx}.number(producerEndKey, 0)
		return err
	})
	if err != nil || found < end {
		return err
	}
	end = found + 1 + producerIDJump
	err = s.updateLocked(func(w writer) error {
		return w.put(w.root(weirBucket), producerEndKey, strconv.AppendInt(nil, end, 10))
	})
	if err == nil {
		s.producerID, s.producerEnd = end, end
	}
	return err
}

// NextProducerID returns a producer id that was never returned before, also not
// before a crash: ids are taken from a block that is durably marked as used.
func (s *Store) NextProducerID() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producerID == s.producerEnd {
		if err := s.nextProducerBlock(); err != nil {
			return 0, err
		}
	}
	s.producerID++
	return s.producerID - 1, nil
}

func (s *Store) nextProducerBlock() error {
	var start int64
	err := s.updateLocked(func(w writer) (err error) {
		if start, err = w.number(producerEndKey, 0); err != nil {
			return err
		}
		if start > math.MaxInt64-producerIDBlock {
			return errors.New("metadata: producer ids are used up")
		}
		return w.put(w.root(weirBucket), producerEndKey, strconv.AppendInt(nil, start+producerIDBlock, 10))
	})
	if err == nil {
		s.producerID, s.producerEnd = start, start+producerIDBlock
	}
	return err
}

// SetRoom has room called before every write, to see to it that the disk has some: a
// write that does not fit is a write that failed, after which there is no other.
func (s *Store) SetRoom(room func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = room
}

// OnFailure has fail called once a write has failed, after which there is no other;
// at once if it has already. It must not call the store. The process should end then,
// with an error: a restart reads from the disk what is really there.
func (s *Store) OnFailure(fail func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onFailure = fail
	if s.failed != nil {
		fail(s.failed)
	}
}

// Close ends the use of the store and of the data directory.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.db.Close(), s.lock.Close())
}

func (s *Store) update(change func(w writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updateLocked(change)
}

// updateLocked runs change in a transaction, and stages the copy in it, so that
// there is no change without a copy. An error of change, or a disk that is too full
// for the copy, undoes it. Any other error of the disk ends all writing: after a
// failed sync nobody knows what is on the disk until a restart has read it.
func (s *Store) updateLocked(change func(w writer) error) (err error) {
	switch {
	case s.closed:
		return record.ErrClosed
	case s.failed != nil:
		return s.failed
	}
	if s.room != nil {
		s.room()
	}
	var refused error
	defer func() {
		if p := recover(); p != nil { // bbolt's way to report pages it cannot make sense of
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
		if err != nil && refused == nil {
			s.failed = fmt.Errorf("%w: metadata: write %s: %w; restart to read it anew", record.ErrStorage, s.db.Path(), err)
			err = s.failed
			if s.onFailure != nil {
				s.onFailure(err)
			}
		}
	}()
	err = s.db.Update(func(tx *bolt.Tx) error {
		w := writer{tx}
		if refused = change(w); refused != nil {
			return refused
		}
		if err := w.revise(); err != nil {
			return err
		}
		err := s.stageCopy(tx)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			refused = fmt.Errorf("%w: no room for %s: %w", record.ErrDiskFull, s.replica.name, err)
			return refused
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.replica.publish()
}

func (s *Store) stageCopy(tx *bolt.Tx) error {
	m, err := imageOf(tx)
	if err != nil {
		return err
	}
	return s.replica.stage(m)
}

func (s *Store) view(read func(tx *bolt.Tx) error) error {
	err := s.db.View(read)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return record.ErrClosed
	}
	return err
}

// writer is a transaction that keeps the digest.
type writer struct{ tx *bolt.Tx }

// place is a bucket and its path, which enters the digest.
type place struct {
	bucket *bolt.Bucket
	path   string
}

func (w writer) root(name []byte) place {
	return place{w.tx.Bucket(name), string(name)}
}

func (w writer) put(p place, key, value []byte) error {
	if len(value) > MaxValueBytes {
		return fmt.Errorf("metadata: value of %q in %s has %d bytes, the limit is %d", key, p.path, len(value), MaxValueBytes)
	}
	change := entryDigest(p.path, key, value)
	if old := p.bucket.Get(key); old != nil {
		change ^= entryDigest(p.path, key, old)
	}
	if err := p.bucket.Put(key, value); err != nil {
		return fmt.Errorf("metadata: put %q in %s: %w", key, p.path, err)
	}
	return w.toggle(change)
}

func (w writer) delete(p place, key []byte) error {
	old := p.bucket.Get(key)
	if old == nil {
		return nil
	}
	change := entryDigest(p.path, key, old)
	if err := p.bucket.Delete(key); err != nil {
		return fmt.Errorf("metadata: delete %q in %s: %w", key, p.path, err)
	}
	return w.toggle(change)
}

// revise counts a change.
func (w writer) revise() error {
	n, err := w.number(revisionKey, 0)
	if err != nil {
		return err
	}
	return w.put(w.root(weirBucket), revisionKey, strconv.AppendInt(nil, n+1, 10))
}

func (w writer) toggle(change uint64) error {
	weir := w.tx.Bucket(weirBucket)
	digest, err := parseDigest(weir.Get(digestKey))
	if err != nil {
		return err
	}
	return weir.Put(digestKey, formatDigest(digest^change))
}

func (w writer) number(key []byte, missing int64) (int64, error) {
	text := w.tx.Bucket(weirBucket).Get(key)
	if text == nil {
		return missing, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q", ErrCorrupt, key, text)
	}
	return n, nil
}

func formatDigest(d uint64) []byte { return fmt.Appendf(nil, "%016x", d) }

func parseDigest(text []byte) (uint64, error) {
	d, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: digest is %q", ErrCorrupt, text)
	}
	return d, nil
}
