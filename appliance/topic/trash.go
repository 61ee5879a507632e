package topic

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// What is deleted goes to the trash first: trash/MILLISECONDS-ID holds the topic's
// identity and its partitions' folders by their names. The rename of the identity
// is the deletion: it is durable before anything else is touched, and as long as it
// lies there no Catalog, however old, brings the topic back. A topic is restored by
// moving what lies there back to "topics" while Weir does not run.
const (
	trashDir = "trash"
	// DefaultTrashRetention is how long a deleted topic's data are kept.
	DefaultTrashRetention = 24 * time.Hour
	trashInterval         = time.Minute
)

// discarded is a folder in the trash.
type discarded struct {
	dir  string
	at   time.Time
	id   ID
	name string // of the topic; "" if its identity has been taken back

	inside []string // what lies there, where it was asked
}

func (s *Set) trashed() ([]discarded, error) {
	names, err := s.opts.FS.List(trashDir)
	if err != nil {
		return nil, fmt.Errorf("topic: list %s: %w", trashDir, err)
	}
	var out []discarded
	for _, name := range names {
		ms, text, _ := strings.Cut(name, "-")
		at, err := strconv.ParseInt(ms, 10, 64)
		id, ok := parseID(text)
		if err != nil || !ok {
			continue // not ours
		}
		d := discarded{dir: trashDir + "/" + name, at: time.UnixMilli(at), id: id}
		inside, err := s.opts.FS.List(d.dir)
		if err != nil {
			return nil, fmt.Errorf("topic: list %s: %w", d.dir, err)
		}
		d.inside = inside
		for _, file := range inside {
			if topic, ok := strings.CutSuffix(file, identitySuffix); ok {
				d.name = topic
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// discard moves the topic's identity to the trash: after this it is deleted. If
// changed is set with an error, nobody knows whether it is.
func (s *Set) discard(t *Topic) (d discarded, changed bool, err error) {
	fsys, now := s.opts.FS, s.opts.Now()
	d = discarded{dir: fmt.Sprintf("%s/%013d-%s", trashDir, now.UnixMilli(), t.id), at: now, id: t.id, name: t.name}
	if err := fsys.MkdirAll(d.dir); err != nil {
		return d, false, fmt.Errorf("topic: make %s: %w", d.dir, err)
	}
	if err := fsys.SyncDir(trashDir); err != nil {
		return d, false, fmt.Errorf("topic: sync folder %s: %w", trashDir, err)
	}
	file := identityFile(t.name)
	if err := fsys.Rename(topicsDir+"/"+file, d.dir+"/"+file); err != nil {
		return d, false, fmt.Errorf("topic: move %s to %s: %w", file, d.dir, err)
	}
	// That the old name is gone need not be on the disk before collect makes it so: a topic
	// that is in both places is deleted.
	if err := fsys.SyncDir(d.dir); err != nil {
		return d, true, fmt.Errorf("topic: sync folder %s: %w", d.dir, err)
	}
	return d, true, nil
}

// collect moves the folders of a deleted topic to where its identity is.
func (s *Set) collect(d discarded, folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	for _, folder := range folders {
		from, to := topicsDir+"/"+folder, d.dir+"/"+folder
		err := s.opts.FS.Rename(from, to)
		if err == nil && folder == identityFile(d.name) {
			// A crash has left both names of the one file, and rename(2) leaves them, too.
			err = s.opts.FS.Remove(from)
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
			// Moved before, and a crash has left the old name too.
			err = s.opts.FS.Rename(from, fmt.Sprintf("%s.%.8s", to[:min(len(to), len(d.dir)+maxStrayLen)], rand.Text()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("topic: move %s to %s: %w", folder, d.dir, err)
		}
	}
	if err := s.opts.FS.SyncDir(d.dir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", d.dir, err)
	}
	return s.syncTopics()
}

// collectLeft moves a folder to the trash if a deleted topic of that name, the last of
// those that lack it there, has left it in its place.
func (s *Set) collectLeft(topic, folder string) error {
	if _, err := s.opts.FS.List(topicsDir + "/" + folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	all, err := s.trashed()
	if err != nil {
		return err
	}
	var last *discarded
	for i, d := range all {
		if d.name == topic && !slices.Contains(d.inside, folder) && (last == nil || d.at.After(last.at)) {
			last = &all[i]
		}
	}
	if last == nil {
		return nil
	}
	return s.collect(*last, []string{folder})
}

// EmptyTrash removes for good what was deleted at least that long ago, the oldest
// first. 0 removes everything. It returns how many topics' data are gone.
func (s *Set) EmptyTrash(olderThan time.Duration) (topics int, err error) {
	s.trash.Lock()
	defer s.trash.Unlock()
	due, err := s.due(olderThan)
	if err != nil {
		return 0, err
	}
	for _, d := range due {
		if err := s.shred(d, s.unlistSafely); err != nil {
			return topics, err
		}
		topics++
		s.opts.Log.Info("a deleted topic's data are removed for good", "topic", d.name, "deleted", d.at.UTC())
	}
	return topics, nil
}

// due lists what may go, complete: a folder that a Delete in trouble has left
// behind would look like a topic of its own once its identity is gone.
func (s *Set) due(olderThan time.Duration) ([]discarded, error) {
	s.creating.Lock()
	defer s.creating.Unlock()
	if err := s.Err(); err != nil {
		// A Delete may have stopped half-way: what is in the trash by the page cache may
		// be in its old place on the disk, and a topic again without its identity.
		return nil, storageError(err)
	}
	all, err := s.trashed()
	if err != nil {
		return nil, err
	}
	now := s.opts.Now()
	all = slices.DeleteFunc(all, func(d discarded) bool {
		return now.Sub(d.at) < olderThan
	})
	slices.SortFunc(all, func(a, b discarded) int { return a.at.Compare(b.at) })
	if len(all) == 0 {
		return nil, nil
	}
	if err := s.collectAllLeft(); err != nil {
		return nil, err
	}
	// After a kill their old names may be on the disk still, and come back with a power cut.
	return all, s.syncTopics()
}

// collectAllLeft moves to the trash what Deletes in trouble have left in its place.
func (s *Set) collectAllLeft() error {
	v, err := s.surveyFolders()
	if err != nil {
		return err
	}
	left := s.leftBehind(v.folders, v.deleted, func(name string) int32 {
		if t := s.Topic(name); t != nil {
			return int32(len(t.Partitions()))
		}
		return 0
	})
	for id, folders := range left {
		if err := s.collect(v.deleted[id], folders); err != nil {
			return err
		}
	}
	return nil
}

// leftBehind finds, among partitions' folders by topic name, those that deleted topics
// have left in their places, by topic id. partitions is how many a topic of that name has
// now: the first folders are its own, and of the others those that bear a deleted topic's
// id are not.
func (s *Set) leftBehind(folders map[string][]string, deleted map[ID]discarded, partitions func(name string) int32) map[ID][]string {
	left := map[ID][]string{}
	named := map[string][]discarded{}
	for _, d := range deleted {
		named[d.name] = append(named[d.name], d)
	}
	for name, of := range named {
		slices.SortFunc(of, func(a, b discarded) int { return a.at.Compare(b.at) })
		now := partitions(name)
		for _, folder := range folders[name] {
			if _, n, _ := parsePartitionDir(folder); n < now {
				continue
			}
			if id, ok, _ := loadFolderID(s.opts.FS, topicsDir+"/"+folder); ok && deleted[id].name == name {
				left[id] = append(left[id], folder)
			} else if now == 0 {
				id := of[len(of)-1].id
				left[id] = append(left[id], folder)
			}
		}
	}
	return left
}

// unlist has the Catalog forget a deleted topic. Delete may have failed to, on a full
// disk: then the identity in the trash is all that says that the topic is gone. The
// caller holds creating.
func (s *Set) unlist(d discarded) error {
	entries, err := s.opts.Catalog.Topics()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.ID == d.id {
			return s.opts.Catalog.DeleteTopic(e.Name)
		}
	}
	return nil
}

func (s *Set) unlistSafely(d discarded) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	return s.unlist(d)
}

// shred removes one folder from the trash, the identity last, once unlist has made sure
// that nobody needs it.
func (s *Set) shred(d discarded, unlist func(discarded) error) error {
	inside, err := s.opts.FS.List(d.dir)
	if err != nil {
		return fmt.Errorf("topic: list %s: %w", d.dir, err)
	}
	for _, name := range inside {
		if strings.HasSuffix(name, identitySuffix) {
			continue
		}
		if err := s.opts.FS.RemoveAll(d.dir + "/" + name); err != nil {
			return fmt.Errorf("topic: remove %s/%s: %w", d.dir, name, err)
		}
	}
	if err := s.opts.FS.SyncDir(d.dir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", d.dir, err)
	}
	if err := unlist(d); err != nil { // there is room for it now, if there was none
		return fmt.Errorf("topic: the deleted topic %s is still listed: %w", d.name, err)
	}
	if err := s.opts.FS.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("topic: remove %s: %w", d.dir, err)
	}
	if err := s.opts.FS.SyncDir(trashDir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", trashDir, err)
	}
	return nil
}

// trashLoop empties the trash by age. When the disk runs full Reclaim empties it.
func (s *Set) trashLoop() {
	defer s.background.Done()
	tick := time.NewTicker(trashInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		if _, err := s.EmptyTrash(s.opts.TrashRetention); err != nil {
			s.opts.Log.Error("the trash is not emptied", "err", err)
		}
	}
}

// Delete removes a topic. It is gone for good once Delete returns, and its data
// are in the trash for Options.TrashRetention. After a crash in between it is
// there, whole, or gone, and what is left to do is done by the next Open.
func (s *Set) Delete(name string) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	t := s.Topic(name)
	if t == nil {
		return fmt.Errorf("%w: %s", record.ErrUnknownTopicOrPartition, name)
	}
	if err := s.Err(); err != nil {
		return storageError(err)
	}
	s.wal.Settle()                    // what is acknowledged may not be applied yet, and keep would not see it
	if err := s.keep(t); err != nil { // nothing has happened yet
		return s.failStop(err)
	}
	d, changed, err := s.discard(t)
	if err != nil {
		if changed {
			s.Fail(err) // nothing may be acknowledged for a topic that may be gone
			return storageError(err)
		}
		return s.failStop(err)
	}
	s.forget(t)
	lacking := s.keep(t)                   // what came meanwhile
	err = s.opts.Catalog.DeleteTopic(name) // of no effect on the outcome: the identity decides
	err = s.failStop(errors.Join(lacking, err, s.bury(t, d)))
	switch failed := s.Err(); {
	case failed != nil && err == nil:
		return storageError(failed) // what was on its way to the disk then is missing
	case failed != nil || lacking != nil || err == nil:
		return err
	}
	// It is deleted all the same, and what is left to do is done later.
	s.opts.Log.Warn("a deleted topic is not yet all in the trash", "topic", name, "err", err)
	return nil
}

// keep makes all of the topic durable where it stands: the write-ahead log forgets a
// topic that is deleted, and restored from the trash it is to be whole.
func (s *Set) keep(t *Topic) error {
	if s.opts.TrashRetention <= 0 {
		return nil
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	for _, p := range t.Partitions() {
		if !p.dirty.Load() {
			continue
		}
		err := errors.Join(p.bring(), p.identify(), p.log.Sync(), p.saveState())
		if errors.Is(err, vfs.ErrUnsynced) {
			s.Fail(err) // whatever it is for: the next sync would say that all is well
			return storageError(err)
		}
		if err != nil {
			return fmt.Errorf("topic: %s cannot be kept whole in the trash: %w", t.name, err)
		}
	}
	return nil
}

// forget takes the topic out of the set. What is staged still commits.
func (s *Set) forget(t *Topic) {
	s.mu.Lock()
	delete(s.topics, t.name)
	delete(s.ids, t.id)
	s.count -= len(t.Partitions())
	s.changes.Add(1)
	s.mu.Unlock()
	for _, p := range t.Partitions() {
		p.retire()
	}
}

// bury closes the deleted topic's logs and moves them to the trash, complete, or
// away if nothing is kept.
func (s *Set) bury(t *Topic, d discarded) error {
	s.cleaning.Lock()
	defer s.cleaning.Unlock()
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	var errs []error
	var folders []string
	for _, p := range t.Partitions() {
		p.forsake()
		errs = append(errs, p.log.Close())
		folders = append(folders, p.tp.String())
	}
	errs = append(errs, s.collect(d, folders))
	if s.opts.TrashRetention <= 0 {
		errs = append(errs, s.shred(d, s.unlist))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("topic: %s is deleted, but not all of its data went to the trash: %w", t.name, err)
	}
	return nil
}
