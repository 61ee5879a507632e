package topic

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/weirmq/weir/appliance/record"
)

// transactions is which transactions have records in a partition: those that are open
// and those that were aborted. Unlike producers it is as of what is committed, for
// readers go by it. Partition.stateMu guards it.
type transactions struct {
	next    int64 // what lies below is in it: a replay tells of it again
	open    map[int64]openTransaction
	aborted []AbortedTransaction // by Last
	// forgotten counts those that were dropped from aborted since the start.
	forgotten int64
}

type openTransaction struct {
	first int64 // offset of its first batch here
	epoch int16
}

// AbortedTransaction is the records of a producer that readers of what is committed
// must leave out: those from First up to the marker at Last.
type AbortedTransaction struct {
	ProducerID, First, Last int64
	// stable was the last stable offset once it was aborted: transactions that were
	// aborted later do not begin before.
	stable int64
}

// settle takes in a batch that is committed.
func (t *transactions) settle(b record.Batch) {
	if b.BaseOffset() < t.next {
		return
	}
	t.next = b.NextOffset()
	id := b.ProducerID()
	is, open := t.open[id]
	if !b.Control() {
		// One without records is what compaction has left: its marker may be gone as well.
		if !open && b.Count() > 0 {
			t.open[id] = openTransaction{b.BaseOffset(), b.ProducerEpoch()}
		}
		return
	}
	m, ok, err := b.Marker()
	if err != nil || !ok || !open {
		return // what it was to end stays open: the coordinator's next start ends it
	}
	delete(t.open, id)
	if !m.Commit {
		t.aborted = append(t.aborted, AbortedTransaction{id, is.first, b.BaseOffset(), min(t.unstable(), b.NextOffset())})
	}
}

// unstable is the first offset of an open transaction; math.MaxInt64 when there is none.
func (t *transactions) unstable() int64 {
	first := int64(math.MaxInt64)
	for _, o := range t.open {
		first = min(first, o.first)
	}
	return first
}

// abortedIn lists the aborted transactions with records from offset from on and
// below to, by their first offset.
func (t *transactions) abortedIn(from, to int64) (out []AbortedTransaction) {
	i := sort.Search(len(t.aborted), func(i int) bool { return t.aborted[i].Last >= from })
	for _, a := range t.aborted[i:] {
		if a.First < to {
			out = append(out, a)
		}
		if a.stable >= to {
			break
		}
	}
	slices.SortFunc(out, func(a, b AbortedTransaction) int { return int(a.First - b.First) })
	return out
}

// forget drops the aborted transactions whose marker lies below offset.
func (t *transactions) forget(offset int64) (dropped bool) {
	i := sort.Search(len(t.aborted), func(i int) bool { return t.aborted[i].Last >= offset })
	t.aborted = slices.Delete(t.aborted, 0, i)
	t.forgotten += int64(i)
	return i > 0
}

// abortedBelow tells, for the cleaner, which batches below offset were aborted and which
// markers say so.
func (p *Partition) abortedBelow(offset int64) (aborted, marked func(h record.Batch) bool) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	by := map[int64][]AbortedTransaction{}
	for _, a := range p.state.abortedIn(0, offset) {
		by[a.ProducerID] = append(by[a.ProducerID], a)
	}
	find := func(h record.Batch) (a AbortedTransaction, ok bool) {
		all := by[h.ProducerID()] // one after the other
		i := sort.Search(len(all), func(i int) bool { return all[i].Last >= h.BaseOffset() })
		if i == len(all) || h.BaseOffset() < all[i].First {
			return a, false
		}
		return all[i], true
	}
	aborted = func(h record.Batch) bool {
		a, ok := find(h)
		return ok && h.BaseOffset() < a.Last
	}
	marked = func(h record.Batch) bool {
		a, ok := find(h)
		return ok && h.BaseOffset() == a.Last
	}
	return aborted, marked
}

func (p *Partition) forgetAborted(offset int64) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.state.transactions.forget(offset) {
		p.state.dirty = true
	}
}

// settle takes in a batch of a transaction, or its marker, that is committed.
func (p *Partition) settle(b record.Batch) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.state.settle(b)
	p.unstable.Store(p.state.transactions.unstable())
}

func (s *state) settle(b record.Batch) {
	if !b.Transactional() {
		return
	}
	s.transactions.settle(b)
	if p := s.producers[b.ProducerID()]; p != nil && b.Control() && p.endedAt == b.BaseOffset() {
		p.before = nil
	}
	s.dirty = true
}

// recall takes in a batch that recovery has found: it has its offset, and is committed.
func (s *state) recall(b record.Batch, maxProducers int) {
	s.note(b, maxProducers)
	s.settle(b)
}

// LastStableOffset is the offset up to which all transactions are decided: at most the
// high watermark.
func (p *Partition) LastStableOffset() int64 {
	// In this order: a transaction is known to be open before the watermark passes its
	// first record, and its outcome is before it is known to be decided.
	hw := p.hw.Load()
	return max(min(hw, p.unstable.Load()), p.start.Load())
}

// EndTransaction stages the marker that ends a producer's transaction, and reports
// whether there is one to end: done is completed once the marker is committed if
// staged is true, and never otherwise. It is the coordinator's to call.
func (p *Partition) EndTransaction(m record.Marker, done record.Completion) (staged bool, err error) {
	p.staging.Lock()
	defer p.staging.Unlock()
	if err := p.Err(); err != nil {
		return false, err
	}
	p.stateMu.Lock()
	known := p.state.producers[m.ProducerID]
	open := known != nil && known.txn >= 0
	p.stateMu.Unlock()
	if !open {
		return false, nil
	}
	b := record.NewMarker(m, p.set.opts.Now().UnixMilli())
	if err := p.set.space.take(len(b), true); err != nil { // it lets the log be read on, and be compacted
		return false, err
	}
	if err := p.set.wal.Begin(1, entryAppendLen+len(b)); err != nil {
		return false, storageError(err)
	}
	p.put(b, done)
	p.set.wal.End()
	return true, nil
}

// Producer is what a partition knows of an idempotent producer.
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none is known
	LastTimestamp    int64 // ms; -1: none since the start
	CoordinatorEpoch int32 // of its last marker; -1: none since the start
	TransactionStart int64 // first offset of its open transaction; -1: none is open
}

// Producers lists the idempotent producers that the partition knows, by id.
func (p *Partition) Producers() []Producer {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	out := make([]Producer, 0, len(p.state.producers))
	for id, x := range p.state.producers {
		last := int32(record.NoSequence)
		if x.n > 0 {
			last = x.last[x.n-1].last
		}
		out = append(out, Producer{id, x.epoch, last, x.timestamp, x.coordinatorEpoch, x.txn})
	}
	slices.SortFunc(out, func(a, b Producer) int { return int(a.ID - b.ID) })
	return out
}

const (
	openTransactionLen    = 18
	abortedTransactionLen = 32
)

func (t *transactions) appendOpen(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.next))
	for id, o := range t.open {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(o.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(o.first))
	}
	return b
}

func (t *transactions) decodeOpen(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	t.next = int64(binary.BigEndian.Uint64(b))
	for b = b[8:]; len(b) >= openTransactionLen; b = b[openTransactionLen:] {
		t.open[int64(binary.BigEndian.Uint64(b))] = openTransaction{epoch: int16(binary.BigEndian.Uint16(b[8:])), first: int64(binary.BigEndian.Uint64(b[10:]))}
	}
	return len(b) == 0
}

func (t *transactions) appendAborted(b []byte) []byte {
	for _, a := range t.aborted {
		for _, n := range []int64{a.ProducerID, a.First, a.Last, a.stable} {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
	}
	return b
}

func (t *transactions) decodeAborted(b []byte) bool {
	for ; len(b) >= abortedTransactionLen; b = b[abortedTransactionLen:] {
		at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
		t.aborted = append(t.aborted, AbortedTransaction{at(0), at(8), at(16), at(24)})
	}
	return len(b) == 0
}
