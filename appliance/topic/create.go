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

// New is a topic to be made.
type New struct {
	Name string
	Spec Spec
}

// Create makes a topic; it is durable when Create returns.
func (s *Set) Create(name string, spec Spec) (*Topic, error) {
	topics, errs := s.CreateAll([]New{{name, spec}})
	return topics[0], errs[0]
}

// CreateAll is Create for several topics at once: they share the syncs of the
// disk. For each of them it returns the topic or what is wrong with it. A name must
// not be there twice.
func (s *Set) CreateAll(wanted []New) ([]*Topic, []error) {
	s.creating.Lock()
	defer s.creating.Unlock()
	return s.createAll(wanted)
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
	topics, errs := s.createAll([]New{{name, spec}})
	return topics[0], errs[0]
}

// createAll makes first the folders, then the identities and last the Catalog's
// entries. A crash before the identity is in its place leaves folders that nobody
// names and that hold nothing; after it the topic is there, complete.
func (s *Set) createAll(wanted []New) ([]*Topic, []error) {
	topics, errs := make([]*Topic, len(wanted)), make([]error, len(wanted))
	var made []int // indexes of those that can be made
	var entries []Entry
	var partitions []*Partition
	for i, n := range wanted {
		if n.Spec.Partitions == 0 {
			n.Spec.Partitions = s.opts.Partitions
		}
		if errs[i] = s.checkNew(n, len(partitions)); errs[i] != nil {
			continue
		}
		e := Entry{Name: n.Name, ID: newID(), Partitions: n.Spec.Partitions, Configs: n.Spec.Configs, Internal: n.Spec.Internal, Created: s.opts.Now()}
		topics[i] = s.build(e)
		made, entries, partitions = append(made, i), append(entries, e), append(partitions, topics[i].Partitions()...)
	}
	if len(made) == 0 {
		return topics, errs
	}
	if err := s.foundAll(entries, partitions); err != nil {
		for _, i := range made {
			topics[i], errs[i] = nil, err
		}
		return topics, errs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range made {
		s.add(topics[i])
	}
	return topics, errs
}

func newID() (id ID) {
	_, _ = rand.Read(id[:])                         // it never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a version 4 UUID
	return id
}

// foundAll makes new topics durable, or refuses them with nothing left of them, or
// fails the set.
func (s *Set) foundAll(entries []Entry, partitions []*Partition) error {
	err := s.makeLogs(partitions)
	if err == nil {
		err = s.saveIdentities(entries)
	}
	if err == nil {
		err = s.syncTopics()
	}
	if err == nil {
		err = putTopics(s.opts.Catalog, entries)
	}
	if err == nil {
		return nil
	}
	return s.withdraw(err, entries, partitions)
}

// makeLogs makes the folders of new partitions, durably, and opens their logs.
func (s *Set) makeLogs(ps []*Partition) error {
	err := inParallel(len(ps), func(i int) error {
		if err := ps[i].makeFolder(); err != nil {
			return err
		}
		return ps[i].open()
	})
	if err != nil {
		return err
	}
	return s.syncTopics()
}

// checkNew says why a topic cannot be made when so many partitions are about to be.
func (s *Set) checkNew(n New, more int) error {
	name, spec := n.Name, n.Spec
	if s.Topic(name) != nil {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if err := CheckConfigs(spec.Configs); err != nil {
		return err
	}
	s.mu.RLock()
	count := s.count + more
	s.mu.RUnlock()
	if spec.Partitions < 1 || int(spec.Partitions) > s.opts.MaxPartitions-count {
		return fmt.Errorf("%w: topic %s with %d; the box holds %d of at most %d", ErrInvalidPartitions, name, spec.Partitions, count, s.opts.MaxPartitions)
	}
	if err := s.space.take(int(spec.Partitions)*folderBytes, spec.Internal); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return storageError(err)
	}
	return nil
}

// makeFolder makes the partition's folder. A folder of that name which a Delete in
// trouble has left goes where the rest of its topic is; one that no topic claims is set
// aside, not deleted: its absence from the catalog is no proof that nobody wants it.
func (p *Partition) makeFolder() error {
	fsys := p.set.opts.FS
	if err := p.set.collectLeft(p.tp.Topic, p.tp.String()); err != nil {
		return err
	}
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
	return nil
}

// retire lets what is staged commit and refuses everything after. The entry that it
// waits for is no batch, so that nothing is late once it was applied.
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
