package topic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// reopen opens what is left of a disk and checks that it owes nobody anything.
func (w *world) reopen(disk *crashfs.FS, s snapshot) (*topic.Set, error) {
	set, err := openOn(disk, s, 1000, time.Now)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.check(set), s.checkTrash(disk)); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

// check compares what is there with what was promised.
func (s snapshot) check(set *topic.Set) error {
	for id, name := range s.owed {
		if set.ByID(id) == nil {
			return fmt.Errorf("topic %s %v is gone", name, id)
		}
	}
	for id, g := range s.dead {
		if set.ByID(id) != nil {
			return fmt.Errorf("topic %s %v was deleted and is back", g.name, id)
		}
	}
	if lost, damage := set.Lost(), set.WALDamage(); len(lost)+len(damage) > 0 {
		return fmt.Errorf("taken for damage: %+v, %+v", lost, damage)
	}
	found := map[placed]bool{}
	starts := map[logKey]int64{}
	for _, t := range set.Topics() {
		if forms := s.forms[t.ID()]; forms != nil && !slices.Contains(forms, formOf(t)) {
			return fmt.Errorf("topic %s is %v, not one of %v", t.Name(), formOf(t), forms)
		}
		for _, p := range t.Partitions() {
			k := logKey{t.ID(), p.TopicPartition().Partition}
			if t.Name() == record.GapTopic {
				continue
			}
			if err := s.checkPartition(set, p, k, found); err != nil {
				return fmt.Errorf("%s: %w", p.TopicPartition(), err)
			}
			starts[k] = p.LogStartOffset()
		}
	}
	for _, g := range s.groups {
		start1, ok1 := starts[g[0].log]
		start2, ok2 := starts[g[1].log]
		if ok1 && ok2 && start1 == 0 && start2 == 0 && found[g[0]] != found[g[1]] {
			return fmt.Errorf("half of an atomic append: %q is there: %v, %q is there: %v", g[0].value, found[g[0]], g[1].value, found[g[1]])
		}
	}
	return s.checkDrops(set)
}

func (s snapshot) checkPartition(set *topic.Set, p *topic.Partition, k logKey, found map[placed]bool) error {
	if err := p.Err(); err != nil {
		return fmt.Errorf("is offline: %w", err)
	}
	owed, start := s.logs[k], p.LogStartOffset()
	if start < owed.start || start > owed.startMax {
		return fmt.Errorf("starts at %d; %d was acknowledged, %d asked for", start, owed.start, owed.startMax)
	}
	if hw := p.HighWatermark(); hw < owed.seen {
		return fmt.Errorf("ends at %d; readers have seen records up to %d", hw, owed.seen)
	}
	if _, ok := transactional[p.TopicPartition().Topic]; ok {
		return s.checkTransactions(set, p, k)
	}
	there, err := readAll(set, p)
	if err != nil {
		return err
	}
	for offset, value := range there {
		here := placed{k, value}
		if !s.wasSent(here) || found[here] {
			return fmt.Errorf("offset %d holds %.20q, which nobody appended or which is there twice", offset, value)
		}
		found[here] = true
	}
	newest := map[string]int64{}
	if compacts(set, p) {
		for offset, value := range there {
			newest[keyOf(value)] = max(newest[keyOf(value)], offset)
		}
	}
	for _, a := range owed.acked {
		value, ok := there[a.offset]
		if a.offset >= start && value != a.value && (ok || newest[keyOf(a.value)] <= a.offset) {
			return fmt.Errorf("offset %d was acknowledged with %.20q, it holds %.20q (%v)", a.offset, a.value, value, ok)
		}
	}
	return nil
}

// wasSent finds a value by the number that it begins with.
func (s snapshot) wasSent(at placed) bool {
	var n int
	if _, err := fmt.Sscan(at.value, &n); err != nil {
		return false
	}
	return n >= 0 && n < len(s.sent) && s.sent[n] == at
}

// readAll reads what a consumer would see, CRCs checked, and checks that offsets
// follow one another up to the high watermark. Compaction alone may take some out.
func readAll(set *topic.Set, p *topic.Partition) (map[int64]string, error) {
	there := map[int64]string{}
	next, sparse := p.LogStartOffset(), compacts(set, p)
	for next < p.HighWatermark() {
		bs, err := set.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return nil, err
		}
		for b := range bs.All() {
			records, err := b.Records()
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				if r.Offset < next {
					continue // before the log start, in the batch that holds it
				}
				if r.Offset != next && !(sparse && r.Offset > next) {
					return nil, fmt.Errorf("offset %d follows %d", r.Offset, next-1)
				}
				there[r.Offset], next = string(r.Value), r.Offset+1
			}
			if sparse {
				next = max(next, b.NextOffset())
			}
		}
	}
	return there, nil
}

// goOn checks that what is left can be used: a resend is recognised, and new
// records follow the old and survive the next power cut.
func (w *world) goOn(disk *crashfs.FS, set *topic.Set, s snapshot, rnd *rand.Rand) error {
	after := s
	after.logs, after.sent = maps.Clone(s.logs), slices.Clone(s.sent)
	for _, t := range set.Topics() {
		if t.Name() == record.GapTopic {
			continue
		}
		for _, p := range t.Partitions() {
			k := logKey{t.ID(), p.TopicPartition().Partition}
			owed := s.logs[k]
			if err := resend(set, p, &owed); err != nil {
				return fmt.Errorf("%s: %w", p.TopicPartition(), err)
			}
			v := fmt.Sprint(len(after.sent), " after")
			after.sent = append(after.sent, placed{k, v})
			hw := p.HighWatermark()
			base, err := set.Append(context.Background(), p.TopicPartition(), keyedBatch(w.t, record.None, v))
			if err != nil || base < hw {
				return fmt.Errorf("%s: append after the crash, at %d: offset %d, %w", p.TopicPartition(), hw, base, err)
			}
			if t.Config("flush.messages") != "1" {
				continue // it may vanish again
			}
			owed.acked = append(slices.Clone(owed.acked), acked{base, v})
			after.logs[k] = owed
		}
	}
	set.Compact()
	if st := set.Cleaner(); st.LastError != "" {
		return fmt.Errorf("compaction after the crash: %s", st.LastError)
	}
	if rnd.IntN(2) == 0 {
		if err := set.Checkpoint(); err != nil {
			return fmt.Errorf("checkpoint after the crash: %w", err)
		}
	}
	again, err := w.reopen(disk.Clone(crashfs.CloneConfig{}), after.lose(rnd))
	if err != nil {
		return fmt.Errorf("second power cut: %w", err)
	}
	return again.Close()
}

// resend does what an idempotent producer does after a crash.
func resend(set *topic.Set, p *topic.Partition, owed *promises) error {
	if owed.lastBase >= owed.start && owed.last != nil {
		base, err := set.Append(context.Background(), p.TopicPartition(), slices.Clone(owed.last))
		// An idempotent append in flight may be in the log; then this one is old.
		if err == nil && base != owed.lastBase {
			return fmt.Errorf("a resend of offset %d got offset %d", owed.lastBase, base)
		}
		if err != nil && !errors.Is(err, record.ErrOutOfOrderSequence) {
			return fmt.Errorf("resend: %w", err)
		}
	}
	if owed.unsure == nil {
		return nil
	}
	// In the log or not, after this it is there, once, where the answer says.
	base, err := set.Append(context.Background(), p.TopicPartition(), slices.Clone(owed.unsure))
	if err != nil {
		return fmt.Errorf("resend of a batch in flight: %w", err)
	}
	for i, v := range owed.unsureValues {
		owed.acked = append(slices.Clone(owed.acked), acked{base + int64(i), v})
	}
	return nil
}
