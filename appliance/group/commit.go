package group

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirmq/weir/appliance/record"
)

// Commit is an OffsetCommit. A consumer that is no member leaves MemberID and
// InstanceID empty and Generation -1.
type Commit struct {
	MemberID, InstanceID string
	Generation           int32
	Offsets              []CommitOffset
}

// CommitOffset is one offset to commit.
type CommitOffset struct {
	record.TopicPartition
	Offset      int64
	LeaderEpoch int32
	Metadata    string // at most offset.metadata.max.bytes
	// TopicID is the topic that the offset is of: one made later by the same name does
	// not get it. Zero: whichever has the name.
	TopicID TopicID
}

// Commit serves OffsetCommit: it returns when the offsets are on stable storage.
// The errors are one per offset, nil when all went well; err is of the request
// as a whole.
func (c *Coordinator) Commit(group string, req Commit) (each []error, err error) {
	if err := c.opts.Limits.checkGroupID(group); err != nil {
		return nil, err
	}
	s, err := c.lock(group, true)
	if err != nil {
		return nil, err
	}
	if err := s.checkCommit(&req); err != nil {
		c.unlock(s)
		return nil, err
	}
	rs, each := c.commitRecords(group, req.Offsets)
	if len(rs) == 0 {
		c.unlock(s)
		return each, nil
	}
	if err := c.write(s, rs); err != nil {
		return nil, err
	}
	c.commits.Add(int64(len(rs)))
	return each, nil
}

// commitRecords makes a record of every offset within the limits.
func (c *Coordinator) commitRecords(group string, offsets []CommitOffset) (rs []record.Record, each []error) {
	limits := &c.opts.Limits
	_, room := c.log.table.size()
	room = limits.MaxOffsets - room - c.log.table.undecided()
	nowMs := c.opts.Now().UnixMilli()
	refuse := func(i int, err error) {
		if each == nil {
			each = make([]error, len(offsets))
		}
		each[i] = err
	}
	for i := range offsets {
		o := &offsets[i]
		if len(o.Metadata) > limits.MaxOffsetMetadataBytes {
			refuse(i, fmt.Errorf("%w: %d bytes, at most %d", ErrOffsetMetadataTooLarge, len(o.Metadata), limits.MaxOffsetMetadataBytes))
			continue
		}
		if _, has := c.log.table.committed(group, o.TopicPartition); !has {
			if room--; room < 0 {
				refuse(i, fmt.Errorf("%w: the broker keeps %d committed offsets; delete groups that are not used", ErrGroupMaxSizeReached, limits.MaxOffsets))
				continue
			}
		}
		rs = append(rs, encodeOffset(group, o.TopicPartition, Offset{Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata, CommitMs: nowMs, TopicID: o.TopicID}))
	}
	return rs, each
}

// TransactionalCommit is a TxnOffsetCommit: a Commit that holds once the transaction
// of a producer is committed.
type TransactionalCommit struct {
	Commit
	ProducerID    int64
	ProducerEpoch int16
	// Append stages the batch of the commit as part of the transaction, or completes it
	// with an error. It is called under the group's lock.
	Append func(b record.Batch, done record.Completion)
}

// CommitInTransaction serves TxnOffsetCommit: it returns when the offsets are on stable
// storage. Until the transaction has ended, and for ever if it is aborted, the group's
// offsets are those from before (see Unstable).
func (c *Coordinator) CommitInTransaction(group string, req TransactionalCommit) (each []error, err error) {
	if err := c.opts.Limits.checkGroupID(group); err != nil {
		return nil, err
	}
	s, err := c.lock(group, true)
	if err != nil {
		return nil, err
	}
	// Who does not say which member it is (before v3) is believed (KIP-447).
	if anyone := req.Generation < 0 && req.MemberID == "" && req.InstanceID == ""; !anyone {
		if err = s.checkCommit(&req.Commit); errors.Is(err, ErrStaleMemberEpoch) {
			err = ErrIllegalGeneration // what clients know here
		}
	} else if s.group.State() == Dead {
		err = ErrCoordinatorNotAvailable
	}
	if err != nil {
		c.unlock(s)
		return nil, err
	}
	rs, each := c.commitRecords(group, req.Offsets)
	if len(rs) == 0 {
		c.unlock(s)
		return each, nil
	}
	a := c.log.appendWith(rs, func(b record.Batch, a *appending) {
		b.SetTransactional(req.ProducerID, req.ProducerEpoch, 0) // the coordinators keep no sequence
		req.Append(b, a)
	})
	if err := c.await(s, a); err != nil {
		return nil, err
	}
	c.commits.Add(int64(len(rs)))
	return each, nil
}

// Unstable reports whether a transaction that has not ended would change a group's
// offset of a partition, as of all that is committed when it is called.
func (c *Coordinator) Unstable(group string, tp record.TopicPartition) (bool, error) {
	if err := c.log.catchUp(); err != nil {
		return false, err
	}
	// What is pending for a topic that had the name before does not concern this one.
	return slices.ContainsFunc(c.log.table.unstable(group, tp), func(id TopicID) bool { return !c.ofAnother(tp.Topic, id) }), nil
}

// write appends records of the locked group and unlocks it. The lock puts the
// commits of a generation before what the next one stores; the wait is outside.
func (c *Coordinator) write(s *slot, rs []record.Record) error {
	return c.await(s, c.log.append(rs))
}

// await unlocks the group and waits for an append of its.
func (c *Coordinator) await(s *slot, a *appending) error {
	s.inflight++
	c.unlock(s)
	err := c.log.wait(a)
	s.mu.Lock()
	s.landed()
	c.unlock(s)
	return err
}

// Committed is a group's committed offset of a partition, as of all that is
// committed when it is called, by whomever. ok is false when there is none, which is
// not an error, even for a group that does not exist. With an error nothing is known.
func (c *Coordinator) Committed(group string, tp record.TopicPartition) (o Offset, ok bool, err error) {
	if err := c.log.catchUp(); err != nil {
		return Offset{}, false, err
	}
	if o, ok = c.log.table.committed(group, tp); ok && c.ofAnother(tp.Topic, o.TopicID) {
		return Offset{}, false, nil
	}
	return o, ok, nil
}

// ofAnother reports whether an offset was committed for a topic that had the name before.
// Its delete may have been cut short, or have come before the end of a transaction
// that commits it.
func (c *Coordinator) ofAnother(name string, committed TopicID) bool {
	if committed == (TopicID{}) {
		return false
	}
	id, _, ok := c.opts.Cluster.Topic(name)
	return ok && id != committed
}

// CommittedAll is all committed offsets of a group, sorted by topic and partition.
func (c *Coordinator) CommittedAll(group string) ([]CommitOffset, error) {
	if err := c.log.catchUp(); err != nil {
		return nil, err
	}
	return c.committedAll(group), nil
}

func (c *Coordinator) committedAll(group string) []CommitOffset {
	offsets := c.log.table.commits(group)
	out := make([]CommitOffset, 0, len(offsets))
	for _, tp := range sortedPartitions(offsets) {
		o := offsets[tp]
		if c.ofAnother(tp.Topic, o.TopicID) {
			continue
		}
		out = append(out, CommitOffset{TopicPartition: tp, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata, TopicID: o.TopicID})
	}
	return out
}

func sortedPartitions(offsets map[record.TopicPartition]Offset) []record.TopicPartition {
	return slices.SortedFunc(maps.Keys(offsets), func(a, b record.TopicPartition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
