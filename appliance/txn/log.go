package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// TopicName is the topic of the coordinator's state. It has one partition.
const TopicName = "__transaction_state"

const (
	fetchBytes = 1 << 20
	// maxBatchBytes bounds one record: a transaction with all its partitions. It is the
	// topic's max.message.bytes.
	maxBatchBytes = 4 << 20
)

// EnsureTopic returns the partition of __transaction_state, after creating the topic if
// there is none.
func EnsureTopic(s *topic.Set) (*topic.Partition, error) {
	t, err := s.Ensure(TopicName, topic.Spec{Partitions: 1, Internal: true, Configs: map[string]string{
		"cleanup.policy":    "compact",
		"segment.bytes":     "4194304",
		"max.message.bytes": fmt.Sprint(maxBatchBytes),
	}})
	if err != nil {
		return nil, fmt.Errorf("txn: topic %s: %w", TopicName, err)
	}
	if n := len(t.Partitions()); n != 1 {
		return nil, fmt.Errorf("txn: topic %s has %d partitions, the coordinator keeps its state in one; delete the topic or restore it with one partition", TopicName, n)
	}
	return t.Partitions()[0], nil
}

// load reads what is known of all transactional ids.
func (c *Coordinator) load() error {
	p := c.opts.Partition
	tp := p.TopicPartition()
	if err := p.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrCoordinatorNotAvailable, err)
	}
	for next, end := p.LogStartOffset(), p.HighWatermark(); next < end; {
		bs, err := c.opts.Topics.Fetch(context.Background(), tp, next, fetchBytes)
		if errors.Is(err, record.ErrCorrupt) {
			bs, err = c.opts.Topics.Fetch(context.Background(), tp, next, 1) // what is good before the damage
		}
		switch {
		case errors.Is(err, record.ErrCorrupt):
			c.ignored(next, err)
			next++
		case err != nil:
			return fmt.Errorf("%w: read %s at offset %d: %w", ErrCoordinatorNotAvailable, tp, next, err)
		}
		for b := range bs.All() {
			if err := c.applyBatch(b); err != nil {
				c.ignored(b.BaseOffset(), err)
			}
			next = max(next+1, b.NextOffset())
		}
	}
	return nil
}

func (c *Coordinator) ignored(offset int64, err error) {
	c.opts.Logger.Error("record of the transactions' topic ignored", "topic", TopicName, "offset", offset, "err", err)
}

// applyBatch applies all records that it can and returns the first error.
func (c *Coordinator) applyBatch(b record.Batch) (first error) {
	var d record.Decoder
	if err := d.Reset(b); err != nil {
		return err
	}
	for {
		var r record.Record
		ok, err := d.Next(&r)
		if ok && err == nil {
			err = c.apply(&r)
		}
		if err != nil && first == nil {
			first = err
		}
		if !ok {
			return first
		}
	}
}

func (c *Coordinator) apply(r *record.Record) error {
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(r.Key); err != nil || k.Version != keyVersion {
		return fmt.Errorf("key %x: %w", r.Key, errors.Join(err, fmt.Errorf("version %d, this broker reads %d", k.Version, keyVersion)))
	}
	if r.Value == nil {
		delete(c.slots, k.TransactionalID)
		return nil
	}
	t, err := Restore(&c.opts.Limits, k.TransactionalID, r.Value, c.opened)
	if err != nil {
		return err
	}
	c.slots[k.TransactionalID] = &slot{id: k.TransactionalID, t: t}
	return nil
}

// abandonUnknown ends transactions that partitions have open and the coordinator does
// not know of. There are none unless the disk has lost a marker, or records of
// __transaction_state; readers of what is committed would wait for them for ever.
func (c *Coordinator) abandonUnknown() {
	by := map[int64]*slot{}
	for _, s := range c.slots {
		by[s.t.producerID] = s
		by[s.t.replaced] = s
	}
	delete(by, NoProducer)
	for _, t := range c.opts.Topics.Topics() {
		for _, p := range t.Partitions() {
			for _, x := range p.Producers() {
				if x.TransactionStart < 0 {
					continue
				}
				c.abandon(p, x, by[x.ID])
			}
		}
	}
}

func (c *Coordinator) abandon(p *topic.Partition, x topic.Producer, s *slot) {
	commit := false
	if s != nil {
		_, in := s.t.partitions[p.TopicPartition()]
		if in && (s.t.state == Ongoing || s.t.state == PrepareCommit || s.t.state == PrepareAbort) {
			return // it is known
		}
		// The last that is known of it. What was written since would be in s.
		commit = s.t.state == CompleteCommit
	}
	m := record.Marker{ProducerID: x.ID, ProducerEpoch: x.Epoch, Commit: commit, CoordinatorEpoch: c.opts.Epoch}
	_, err := p.EndTransaction(m, newStaging())
	c.opts.Logger.Error("a transaction that the coordinator does not know of is ended: its marker was lost", "partition", p.TopicPartition().String(),
		"producer_id", x.ID, "first_offset", x.TransactionStart, "commit", commit, "err", err)
}

// maxProducerID is the greatest producer id that was read, -1 when there was none.
func (c *Coordinator) maxProducerID() int64 {
	greatest := NoProducer
	for _, s := range c.slots {
		greatest = max(greatest, s.t.producerID, s.t.next)
	}
	return greatest
}

// ids lists the transactional ids, sorted.
func (c *Coordinator) ids() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.slots))
	for id := range c.slots {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
