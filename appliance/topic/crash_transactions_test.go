package topic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Topics that are written to in transactions only, but for what follows a crash: one
// that is not compacted, and one that is.
var transactional = map[string]map[string]string{"x": smallSegments, "y": compacted}

// transaction is one of a producer that has no other.
type transaction struct {
	id     int64
	log    logKey
	topic  string
	next   int32   // sequence
	acked  []acked // only grows
	unsure bool    // a batch was sent and not answered
	asked  bool    // to end, by committing or not
	commit bool
	ended  bool // and that was acknowledged
}

// maxOpen bounds the transactions that a partition of the workload has open.
const maxOpen = 3

// transact writes in a transaction of a new producer or of one that has one open, and
// then ends it, or leaves it open.
func (w *world) transact() {
	name := []string{"x", "y"}[w.rnd.IntN(2)]
	if w.set.Load().Topic(name) == nil {
		w.createWith(name, 1, transactional[name])
	}
	p, err := w.set.Load().Partition(record.TopicPartition{Topic: name})
	if err != nil {
		return // its creation failed
	}
	for range 2 + w.rnd.IntN(3) {
		x := w.openTransaction(name)
		for range w.rnd.IntN(3) {
			w.appendTo(p, x)
		}
		if w.rnd.IntN(3) > 0 {
			w.end(p, x)
		}
	}
}

// openTransaction is one that may be written to.
func (w *world) openTransaction(name string) *transaction {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, _ := w.log(name, 0)
	var open []*transaction
	for _, x := range w.transactions {
		if x.log == k && !x.asked {
			open = append(open, x)
		}
	}
	if len(open) > 0 && (len(open) >= maxOpen || w.rnd.IntN(2) == 0) {
		return open[w.rnd.IntN(len(open))]
	}
	x := &transaction{id: int64(1000 + len(w.transactions)), log: k, topic: name}
	w.transactions = append(w.transactions, x)
	return x
}

func (w *world) appendTo(p *topic.Partition, x *transaction) {
	w.mu.Lock()
	if x.unsure {
		w.mu.Unlock()
		return // a producer would send that again first; this one gives up
	}
	values := w.unique(x.log, 1+w.rnd.IntN(3), 700)
	x.unsure = true
	b := keyedBatch(w.t, record.None, values...)
	b.SetTransactional(x.id, 0, x.next)
	w.mu.Unlock()
	done := make(chan error, 1)
	p.AppendTransactional(b, &transactionAck{w: w, x: x, values: values, done: done})
	w.ok("append in a transaction", <-done)
}

type transactionAck struct {
	w      *world
	x      *transaction
	values []string
	done   chan error
}

func (a *transactionAck) Complete(base int64, err error) {
	if err == nil {
		a.w.mu.Lock()
		for i, v := range a.values {
			a.x.acked = append(a.x.acked, acked{base + int64(i), v})
		}
		a.x.unsure, a.x.next = false, a.x.next+int32(len(a.values))
		a.w.mu.Unlock()
	}
	a.done <- err
}

// end ends a transaction, as the coordinator does: it decides once.
func (w *world) end(p *topic.Partition, x *transaction) {
	w.mu.Lock()
	if !x.asked {
		x.asked, x.commit = true, w.rnd.IntN(2) == 0 && !x.unsure
	}
	w.logs[x.log].attempted++ // the marker's offset
	m := record.Marker{ProducerID: x.id, Commit: x.commit}
	w.mu.Unlock()
	done := &endAck{w: w, x: x, done: make(chan error, 1)}
	staged, err := p.EndTransaction(m, done)
	if err == nil && staged {
		err = <-done.done
	}
	w.ok("end a transaction", err)
}

type endAck struct {
	w    *world
	x    *transaction
	done chan error
}

func (a *endAck) Complete(_ int64, err error) {
	if err == nil {
		a.w.mu.Lock()
		a.x.ended = true
		a.w.mu.Unlock()
	}
	a.done <- err
}

// compactTransactions fills segments of the compacted topic and has them cleaned.
func (w *world) compactTransactions() {
	for range 6 {
		w.transact()
	}
	w.set.Load().Compact()
	if st := w.set.Load().Cleaner(); st.LastError != "" {
		w.ok("compact", fmt.Errorf("%s", st.LastError))
	}
}

// verdict is what a log says of transactions, by its batches alone.
type verdict struct {
	all       map[int64]string // every value
	committed map[int64]string
	stable    int64
	aborted   []topic.AbortedTransaction
	aborts    map[int64]int64 // abort markers: offset, producer
}

// decide reads the raw log.
func decide(set *topic.Set, p *topic.Partition) (*verdict, error) {
	out := &verdict{all: map[int64]string{}, committed: map[int64]string{}, stable: p.HighWatermark(), aborts: map[int64]int64{}}
	type open struct {
		first  int64
		values map[int64]string
	}
	under := map[int64]*open{}
	for next := p.LogStartOffset(); next < p.HighWatermark(); {
		bs, err := topic.ReadUncommitted{Set: set}.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return nil, err
		}
		for b := range bs.All() {
			next = b.NextOffset()
			id := b.ProducerID()
			if b.Count() == 0 {
				continue // what compaction has left
			}
			if b.Control() {
				m, ok, err := b.Marker()
				if err != nil || !ok {
					return nil, fmt.Errorf("marker at %d: %v, %w", b.BaseOffset(), ok, err)
				}
				if !m.Commit {
					out.aborts[b.BaseOffset()] = id
				}
				if o := under[id]; o != nil && m.Commit {
					maps.Copy(out.committed, o.values)
				} else if o != nil {
					out.aborted = append(out.aborted, topic.AbortedTransaction{ProducerID: id, First: o.first, Last: b.BaseOffset()})
				}
				delete(under, id)
				continue
			}
			rs, err := b.Records()
			if err != nil {
				return nil, err
			}
			values := out.committed
			if b.Transactional() {
				if under[id] == nil {
					under[id] = &open{first: b.BaseOffset(), values: map[int64]string{}}
				}
				values = under[id].values
			}
			for _, r := range rs {
				if r.Offset >= p.LogStartOffset() {
					values[r.Offset], out.all[r.Offset] = string(r.Value), string(r.Value)
				}
			}
		}
	}
	for _, o := range under {
		out.stable = min(out.stable, o.first)
	}
	return out, nil
}

// checkTransactions compares what the partition says of transactions with its batches,
// and both with what was promised.
func (s snapshot) checkTransactions(set *topic.Set, p *topic.Partition, k logKey) error {
	log, err := decide(set, p)
	if err != nil {
		return err
	}
	start := p.LogStartOffset()
	if lso := p.LastStableOffset(); lso != log.stable && (start == 0 || lso > log.stable) {
		return fmt.Errorf("last stable offset %d, by the batches %d", lso, log.stable)
	}
	if err := checkAborted(p, log, start > 0 || compacts(set, p)); err != nil {
		return err
	}
	seen, err := readCommitted(set, p)
	if err != nil {
		return err
	}
	for offset, value := range log.committed {
		if offset < p.LastStableOffset() && seen[offset] != value {
			return fmt.Errorf("offset %d was committed with %.20q, a reader sees %.20q", offset, value, seen[offset])
		}
	}
	for offset, value := range seen {
		if log.committed[offset] != value {
			return fmt.Errorf("a reader sees %.20q at offset %d, which is not committed", value, offset)
		}
	}
	newest := map[string]int64{}
	for offset, value := range log.committed {
		newest[keyOf(value)] = max(newest[keyOf(value)], offset)
	}
	sparse := compacts(set, p)
	for _, a := range s.logs[k].acked {
		if log.all[a.offset] != a.value && a.offset >= start && !(sparse && newest[keyOf(a.value)] > a.offset) {
			return fmt.Errorf("offset %d was acknowledged with %.20q, it holds %.20q", a.offset, a.value, log.all[a.offset])
		}
	}
	for _, x := range s.transactions {
		if x.log != k {
			continue
		}
		if err := x.check(log, start, sparse, newest); err != nil {
			return fmt.Errorf("transaction %+v: %w", x, err)
		}
	}
	return nil
}

// check compares a transaction with what the log has of it.
func (x *transaction) check(log *verdict, start int64, sparse bool, newest map[string]int64) error {
	in, out := 0, 0
	for _, a := range x.acked {
		_, committed := log.committed[a.offset]
		superseded := sparse && (newest[keyOf(a.value)] > a.offset || x.asked && !x.commit)
		switch value, there := log.all[a.offset]; {
		case a.offset < start:
		case there && value != a.value, !there && !superseded:
			return fmt.Errorf("offset %d was acknowledged with %.20q, it holds %.20q", a.offset, a.value, value)
		case !there:
		case committed:
			in++
		default:
			out++
		}
	}
	switch {
	case in > 0 && !(x.asked && x.commit):
		return fmt.Errorf("%d records are committed, which nobody asked for", in)
	case in > 0 && out > 0:
		return fmt.Errorf("%d records are committed, %d are not", in, out)
	case x.ended && x.commit && out > 0:
		return fmt.Errorf("it was committed, %d records are not", out)
	}
	return nil
}

// checkAborted checks what readers are told to leave out, with each section of the log:
// all of it that was aborted, and nothing for which they would not meet a marker, after
// which the producer's records count again. gone says that the first of them may be.
func checkAborted(p *topic.Partition, log *verdict, gone bool) error {
	for at := p.LogStartOffset(); at < p.LastStableOffset(); {
		c, told, _, err := p.ReadCommitted(at, 1<<20)
		if err != nil || c.Len() == 0 {
			return err
		}
		next, err := c.Next()
		if err = errors.Join(err, c.Close(), checkTold(told, log, at, next, gone)); err != nil {
			return fmt.Errorf("with offsets %d to %d: %w", at, next, err)
		}
		at = next
	}
	return nil
}

func checkTold(told []topic.AbortedTransaction, log *verdict, from, to int64, gone bool) error {
	if !slices.IsSortedFunc(told, func(a, b topic.AbortedTransaction) int { return int(a.First - b.First) }) {
		return fmt.Errorf("aborted transactions are not sorted: %+v", told)
	}
	for i, a := range told {
		if slices.Contains(told[:i], a) {
			return fmt.Errorf("readers are told of %+v twice", a)
		}
		if id, ok := log.aborts[a.Last]; !ok || id != a.ProducerID {
			return fmt.Errorf("readers are told of %+v, which has no marker", a)
		}
		if a.Last < from || a.First >= to {
			return fmt.Errorf("readers are told of %+v, which they have not read of", a)
		}
	}
	for _, a := range log.aborted {
		is := slices.ContainsFunc(told, func(b topic.AbortedTransaction) bool {
			return b.ProducerID == a.ProducerID && b.Last == a.Last && (b.First == a.First || gone && b.First < a.First)
		})
		if !is && a.First < to && a.Last >= from {
			return fmt.Errorf("%+v was aborted, readers are told of %+v", a, told)
		}
	}
	return nil
}

// readCommitted reads what the bridge, plugins and mirrors do.
func readCommitted(set *topic.Set, p *topic.Partition) (map[int64]string, error) {
	seen := map[int64]string{}
	for next := p.LogStartOffset(); next < p.LastStableOffset(); {
		bs, err := set.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return nil, err
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil || b.Control() || b.NextOffset() <= next {
				return nil, fmt.Errorf("batch of offsets %d to %d at %d, control: %v, %w", b.BaseOffset(), b.LastOffset(), next, b.Control(), err)
			}
			for _, r := range rs {
				if r.Offset >= p.LogStartOffset() {
					seen[r.Offset] = string(r.Value)
				}
			}
			next = b.NextOffset()
		}
	}
	return seen, nil
}
