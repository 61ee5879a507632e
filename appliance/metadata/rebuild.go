package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Where a store that was missing or damaged was rebuilt from.
const (
	FromCopy    = "copy"    // everything is there
	FromFolders = "folders" // the log must tell its topics; what parts kept is gone
)

const (
	corruptSuffix = ".corrupt-"
	// maxKept bounds the damaged files kept beside the store; the oldest goes first.
	maxKept = 8
)

// Recovery is the last time that Open found the store missing or damaged.
type Recovery struct {
	At     time.Time `json:"at"`
	From   string    `json:"from"`           // FromCopy or FromFolders
	Reason string    `json:"reason"`         // what was wrong
	Kept   string    `json:"kept,omitempty"` // the damaged file's name now
	Count  int       `json:"count"`          // how often this has happened
	// Pending is set until Rebuilt: what the log knows is not in the store yet.
	Pending bool `json:"pending,omitempty"`
}

// Recovery is the last recovery; nil if there never was one. Now is set if it was
// this Open's, or if one before it did not come to its end.
func (s *Store) Recovery() (last *Recovery, now bool) {
	if s.recovery == nil {
		return nil, false
	}
	r := *s.recovery
	return &r, s.recovered
}

// CopyMended says why Open wrote the second copy anew; nil if it was as it should be.
func (s *Store) CopyMended() error { return s.copyMended }

// Rebuilt notes that what the log knows has been put into the store.
func (s *Store) Rebuilt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovery == nil || !s.recovery.Pending {
		return nil
	}
	r := *s.recovery
	r.Pending = false
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	err = s.updateLocked(func(w writer) error { return w.put(w.root(weirBucket), recoveryKey, value) })
	if err == nil {
		s.recovery = &r
	}
	return err
}

// judged is what Open knows of the files before it trusts one.
type judged struct {
	db        inspection
	dbErr     error
	copy      *image
	copyErr   error
	clusterID string // of meta.properties
	known     bool   // this directory had a store before
}

func (s *Store) judge(path string) (j judged, err error) {
	if j.copy, j.copyErr = s.replica.load(); j.copyErr != nil && !errors.Is(j.copyErr, fs.ErrNotExist) && !errors.Is(j.copyErr, errCopy) {
		return j, fmt.Errorf("metadata: read %s: %w", s.replica.name, j.copyErr)
	}
	if j.clusterID, j.known, err = loadProperties(s.replica.files); err != nil {
		return j, fmt.Errorf("metadata: read %s: %w", propertiesFile, err)
	}
	j.db, j.dbErr = verify(path)
	// "topics" is package topic's; what lies there may be all that is left.
	folders, _ := s.replica.files.List("topics")
	j.known = j.known || len(folders) > 0 || !errors.Is(j.copyErr, fs.ErrNotExist) || !errors.Is(j.dbErr, fs.ErrNotExist)
	return j, nil
}

// lost says why the store cannot be used as it is; "" if it can. An error is
// neither: the file may be whole, but not for us.
func (j *judged) lost() (reason string, err error) {
	switch {
	case errors.Is(j.dbErr, fs.ErrNotExist):
		return "the file is missing", nil
	case errors.Is(j.dbErr, ErrCorrupt):
		return j.dbErr.Error(), nil
	case j.dbErr != nil:
		return "", j.dbErr
	case j.copy != nil && j.copy.revision > j.db.revision && j.copy.find(clusterIDKey) == j.db.clusterID:
		// bbolt goes back by one change when its newer meta page is damaged.
		return fmt.Sprintf("it is at change %d, its copy is at %d", j.db.revision, j.copy.revision), nil
	}
	return "", nil
}

// rebuild sets what is there of the store aside and makes it anew.
func (s *Store) rebuild(path string, j *judged, reason string) error {
	r := &Recovery{At: time.Now().UTC().Truncate(time.Millisecond), From: FromFolders, Reason: reason, Count: 1, Pending: true}
	m := j.copy
	if m != nil {
		r.From, r.Pending = FromCopy, false
		var before Recovery
		if json.Unmarshal([]byte(m.find(recoveryKey)), &before) == nil {
			r.Count, r.Pending = before.Count+1, before.Pending
		}
	}
	var err error
	if r.Kept, err = setAside(path, r.At); err != nil {
		return err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.recovery, s.recovered = r, true
	return create(path, s.lock, func(tx *bolt.Tx) error {
		fill := func(tx *bolt.Tx) error { return initialize(tx, j.clusterID) }
		if m != nil {
			fill = func(tx *bolt.Tx) error { return errors.Join(makeBuckets(tx), m.restore(tx)) }
		}
		if err := fill(tx); err != nil {
			return err
		}
		w := writer{tx}
		return errors.Join(w.put(w.root(weirBucket), recoveryKey, value), w.revise())
	})
}

// setAside renames the damaged file; its new name is "" when there is no file.
func setAside(path string, now time.Time) (kept string, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	dir, base := filepath.Split(path)
	kept = base + corruptSuffix + now.Format("20060102T150405.000")
	if err := os.Rename(path, filepath.Join(dir, kept)); err != nil {
		return "", err
	}
	old, err := filepath.Glob(path + corruptSuffix + "*") // sorted, and so by time
	for len(old) > maxKept && err == nil {
		err = os.Remove(old[0])
		old = old[1:]
	}
	return kept, err
}

// loadRecovery takes in what the store says of the last recovery.
func (s *Store) loadRecovery(text string) {
	if s.recovery != nil || text == "" {
		return
	}
	var r Recovery
	if err := json.Unmarshal([]byte(text), &r); err == nil && strings.TrimSpace(r.From) != "" {
		s.recovery, s.recovered = &r, r.Pending
	}
}
