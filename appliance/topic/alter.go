package topic

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/appliance/record"
)

// AlterConfigs changes the configs set on a topic itself. Change is given a copy of
// the overrides, its own to modify, and returns what they are to be; its error is
// AlterConfigs'. No other change of the topics runs meanwhile. The new overrides are
// durable when AlterConfigs returns, and in force for everything appended after.
func (s *Set) AlterConfigs(name string, change func(overrides map[string]string) (map[string]string, error)) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	t, overrides, err := s.altered(name, change)
	if err != nil || maps.Equal(overrides, t.Overrides()) {
		return err
	}
	e := t.entry()
	e.Configs = overrides
	if err := s.opts.Catalog.PutTopic(e); err != nil {
		return s.failStop(err)
	}
	t.settings.Store(resolve(e.Configs, s.opts.Configs, e.Internal))
	s.changes.Add(1)
	return s.updateIdentity(t)
}

// CheckAlterConfigs says why AlterConfigs would refuse; nil if it would not.
func (s *Set) CheckAlterConfigs(name string, change func(overrides map[string]string) (map[string]string, error)) error {
	_, _, err := s.altered(name, change)
	return err
}

// altered finds a topic and what its overrides are to be.
func (s *Set) altered(name string, change func(overrides map[string]string) (map[string]string, error)) (*Topic, map[string]string, error) {
	t, err := s.existing(name)
	if err != nil {
		return nil, nil, err
	}
	overrides := map[string]string{}
	maps.Copy(overrides, t.Overrides())
	if overrides, err = change(overrides); err != nil {
		return nil, nil, err
	}
	if err := CheckConfigs(overrides); err != nil {
		return nil, nil, err
	}
	if err := s.Err(); err != nil {
		return nil, nil, storageError(err)
	}
	return t, maps.Clone(overrides), nil // change may have kept its map
}

// CheckPartitions says why AddPartitions would refuse; nil if it would not.
func (s *Set) CheckPartitions(name string, total int32) error {
	t, err := s.existing(name)
	if err != nil {
		return err
	}
	return s.checkMore(t, total)
}

// AddPartitions gives a topic more partitions, total in all; they are durable when
// it returns. The records that are there stay where they are, so records of one key
// may be in two partitions from then on.
//
// As in create the folders are made first. What a crash in between leaves is folders
// of partitions that the topic does not have, which the next try sets aside.
func (s *Set) AddPartitions(name string, total int32) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	t, err := s.existing(name)
	if err != nil {
		return err
	}
	if err := s.checkMore(t, total); err != nil {
		return err
	}
	old := t.Partitions()
	added := s.buildPartitions(t, int32(len(old)), total)
	if err := s.found(t, added); err != nil {
		return s.withdraw(err, nil, added)
	}
	all := slices.Concat(old, added)
	s.mu.Lock()
	t.partitions.Store(&all)
	s.count += len(added)
	s.changes.Add(1)
	s.mu.Unlock()
	return s.updateIdentity(t)
}

// found makes the new partitions of a topic and has the Catalog say so.
func (s *Set) found(t *Topic, added []*Partition) error {
	if err := s.makeLogs(added); err != nil {
		return err
	}
	e := t.entry()
	e.Partitions += int32(len(added))
	return s.opts.Catalog.PutTopic(e)
}

func (s *Set) existing(name string) (*Topic, error) {
	if t := s.Topic(name); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %s", record.ErrUnknownTopicOrPartition, name)
}

func (s *Set) checkMore(t *Topic, total int32) error {
	s.mu.RLock()
	have, count := len(t.Partitions()), s.count
	s.mu.RUnlock()
	if int(total) <= have {
		return fmt.Errorf("%w: topic %s has %d, their number can only grow, not become %d", ErrInvalidPartitions, t.name, have, total)
	}
	if int(total)-have > s.opts.MaxPartitions-count {
		return fmt.Errorf("%w: %d more for topic %s; the box holds %d of at most %d", ErrInvalidPartitions, int(total)-have, t.name, count, s.opts.MaxPartitions)
	}
	if err := s.space.take((int(total)-have)*folderBytes, t.internal); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return storageError(err)
	}
	return nil
}
