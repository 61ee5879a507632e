package topic

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/appliance/record"
)

// maxStrayLen leaves a file name's length room for what a folder set aside is called.
const maxStrayLen = 230

// folderBytes is about what the folder of an empty partition takes of the disk.
const folderBytes = 16 << 10

// metadataFile holds a partition folder's identity, in Kafka's form.
const metadataFile = "partition.metadata"

// Create makes a topic; it is durable when Create returns.
func (s *Set) Create(name string, spec Spec) (*Topic, error) {
	s.creating.Lock()
	defer s.creating.Unlock()
	if s.Topic(name) != nil {
		return nil, fmt.Errorf("%w: %s", ErrExists, name)
	}
	return s.create(name, spec)
}

// Ensure returns the topic, after creating it by spec if there is none. An
// existing topic is left as it is.
func (s *Set) Ensure(name string, spec Spec) (*Topic, error) {
	if t := s.Topic(name); t != nil {
		return t, nil
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	if t := s.Topic(name); t != nil {
		return t, nil
	}
	return s.create(name, spec)
}

// create makes the folders first and the catalog's entry last: what a crash in
// between leaves is folders that nobody names.
func (s *Set) create(name string, spec Spec) (*Topic, error) {
	if spec.Partitions == 0 {
		spec.Partitions = s.opts.Partitions
	}
	if err := s.checkNew(name, spec); err != nil {
		return nil, err
	}
	e := Entry{Name: name, Partitions: spec.Partitions, Configs: spec.Configs, Internal: spec.Internal}
	if _, err := rand.Read(e.ID[:]); err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	e.ID[6], e.ID[8] = e.ID[6]&0x0f|0x40, e.ID[8]&0x3f|0x80 // a version 4 UUID
	t := s.build(e)
	if err := s.makeLogs(t.Partitions()); err != nil {
		return nil, err
	}
	if err := s.opts.Catalog.PutTopic(e); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.add(t)
	s.mu.Unlock()
	return t, nil
}

// makeLogs makes the folders of new partitions, durably, and opens their logs.
func (s *Set) makeLogs(ps []*Partition) error {
	for _, p := range ps {
		if err := p.makeFolder(); err != nil {
			return err
		}
		if err := p.open(); err != nil {
			return err
		}
	}
	if err := s.opts.FS.SyncDir(topicsDir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", topicsDir, err)
	}
	return nil
}

func (s *Set) checkNew(name string, spec Spec) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := CheckConfigs(spec.Configs); err != nil {
		return err
	}
	s.mu.RLock()
	count := s.count
	s.mu.RUnlock()
	if spec.Partitions < 1 || int(spec.Partitions) > s.opts.MaxPartitions-count {
		return fmt.Errorf("%w: topic %s with %d; the box holds %d of at most %d", ErrInvalidPartitions, name, spec.Partitions, count, s.opts.MaxPartitions)
	}
	if err := s.space.take(int(spec.Partitions)*folderBytes, spec.Internal); err != nil {
		return err
	}
	return s.Err()
}

// makeFolder makes the partition's folder with its identity in it. A folder of
// that name which no topic claims is set aside, not deleted: its absence from the
// catalog is no proof that nobody wants it.
func (p *Partition) makeFolder() error {
	fsys := p.set.opts.FS
	if _, err := fsys.List(p.dir); err == nil {
		aside := fmt.Sprintf("%s.%.8s-stray", p.dir[:min(len(p.dir), maxStrayLen)], rand.Text())
		if err := fsys.Rename(p.dir, aside); err != nil {
			return fmt.Errorf("topic: set aside folder %s: %w", p.dir, err)
		}
		p.set.opts.Log.Warn("a folder that belongs to no topic was set aside", "folder", aside)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("topic: list %s: %w", p.dir, err)
	}
	if err := fsys.MkdirAll(p.dir); err != nil {
		return fmt.Errorf("topic: make folder %s: %w", p.dir, err)
	}
	return p.writeOwner()
}

// Delete removes a topic and its data. It is gone for good once Delete returns;
// after a crash in between it is gone too, and its folders lie about unnamed.
func (s *Set) Delete(name string) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	t := s.Topic(name)
	if t == nil {
		return fmt.Errorf("%w: %s", record.ErrUnknownTopicOrPartition, name)
	}
	if err := s.opts.Catalog.DeleteTopic(name); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.topics, t.name)
	delete(s.ids, t.id)
	s.count -= len(t.Partitions())
	s.changes.Add(1)
	s.mu.Unlock()
	for _, p := range t.Partitions() {
		p.retire()
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	var errs []error
	for _, p := range t.Partitions() {
		errs = append(errs, p.log.Close(), s.opts.FS.RemoveAll(p.dir))
	}
	if err := errors.Join(append(errs, s.opts.FS.SyncDir(topicsDir))...); err != nil {
		return fmt.Errorf("topic: remove the data of %s: %w", name, err)
	}
	return nil
}

// retire lets what is staged commit and refuses everything after.
func (p *Partition) retire() {
	o := newOutcome()
	p.staging.Lock()
	if err := p.stageOffset(entryDuplicate, 0, o); err != nil {
		o.Complete(0, err)
	}
	p.fail(fmt.Errorf("%w: %s was deleted", record.ErrUnknownTopicOrPartition, p.tp))
	p.staging.Unlock()
	_, _ = o.wait(context.Background()) // it tells only that those before are done
	p.set.wal.Settle()
	p.notify()
}
