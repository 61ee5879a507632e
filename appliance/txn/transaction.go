package txn

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// State is where a transaction stands. The numbers are those that Kafka stores.
type State int8

const (
	// Empty has had no transaction yet.
	Empty State = iota
	// Ongoing has partitions that are written to.
	Ongoing
	// PrepareCommit is decided; not all partitions have their markers.
	PrepareCommit
	// PrepareAbort likewise.
	PrepareAbort
	// CompleteCommit has ended.
	CompleteCommit
	// CompleteAbort likewise.
	CompleteAbort
	// Dead is forgotten.
	Dead
)

var stateNames = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead"}

// String is Kafka's name for the state.
func (s State) String() string { return stateNames[s] }

// States lists all states.
func States() []State {
	return []State{Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Dead}
}

// lastEpoch is the greatest epoch that a producer is given: the marker that fences it
// has the one after.
const lastEpoch = math.MaxInt16 - 1

// Moment is when something happens: the best wall time known, which may jump, and the
// time known to have passed, which does not.
type Moment struct {
	Wall    time.Time
	Elapsed time.Duration
}

// Transaction is one transactional.id, its producer and its transactions one after
// another: a state machine without lock, clock or I/O.
type Transaction struct {
	limits *Limits
	id     string

	state      State
	producerID int64
	epoch      int16
	previous   int16 // the epoch before the last bump, NoEpoch where a retry could not have it
	replaced   int64 // the producer id before this one, when its epochs were used up
	next       int64 // the one to come with the transaction's completion
	timeout    time.Duration
	bumps      bool
	partitions map[record.TopicPartition]struct{} // of the transaction; once it is decided those without marker

	started, updated time.Time // wall
	deadline         time.Duration

	now Moment // of this step
	out []Effect
}

// New returns the transaction of an id that nobody has used yet. The limits must outlive it.
func New(limits *Limits, id string, now Moment) *Transaction {
	return &Transaction{limits: limits, id: id, producerID: NoProducer, epoch: NoEpoch, previous: NoEpoch,
		replaced: NoProducer, next: NoProducer, updated: now.Wall, partitions: map[record.TopicPartition]struct{}{}}
}

func (t *Transaction) clone() *Transaction {
	c := *t
	c.partitions, c.out = maps.Clone(t.partitions), nil
	return &c
}

// State is the transaction's state.
func (t *Transaction) State() State { return t.state }

// Deadline is when a Tick is due, in time elapsed; ok is false when time changes nothing.
func (t *Transaction) Deadline() (at time.Duration, ok bool) {
	switch t.state {
	case Ongoing:
		return t.deadline, true
	case PrepareCommit, PrepareAbort:
		return 0, true
	}
	return 0, false
}

// Step applies an event and returns the answer, if it is a request, and what
// follows from it: at most one Store, and that first.
func (t *Transaction) Step(now Moment, ev Event) (Answer, []Effect) {
	t.now, t.out = now, nil
	var a Answer
	switch ev := ev.(type) {
	case Init:
		a = t.onInit(&ev)
	case Add:
		a.Err = t.onAdd(&ev)
	case End:
		a = t.onEnd(&ev)
	case Marked:
		t.onMarked(&ev)
	case Abort:
		if t.state == Ongoing {
			a.TookID = t.end(false, true, ev.NewID)
		}
	case Tick:
		a = t.onTick(&ev)
	default:
		panic(fmt.Sprintf("txn: internal error: event %T", ev))
	}
	return a, t.out
}

func (t *Transaction) answer() Answer { return Answer{ProducerID: t.producerID, Epoch: t.epoch} }

func (t *Transaction) fail(err error) Answer {
	return Answer{Err: err, ProducerID: NoProducer, Epoch: NoEpoch}
}

func (t *Transaction) onInit(ev *Init) Answer {
	switch known := ev.ProducerID != NoProducer; {
	case ev.Timeout <= 0 || ev.Timeout > t.limits.MaxTimeout:
		return t.fail(fmt.Errorf("%w: transaction.timeout.ms is %v, transaction.max.timeout.ms allows %v", ErrInvalidTransactionTimeout, ev.Timeout, t.limits.MaxTimeout))
	case t.state == PrepareCommit || t.state == PrepareAbort:
		return t.fail(t.incomplete())
	case known && t.epoch != NoEpoch && !t.isOrWas(ev.ProducerID, ev.Epoch):
		return t.fail(t.fenced(ev.ProducerID, ev.Epoch))
	case t.state == Ongoing:
		// Whoever was at it is fenced, and then this one begins.
		took := t.end(false, true, ev.NewID)
		return Answer{Err: t.incomplete(), ProducerID: NoProducer, Epoch: NoEpoch, TookID: took, Again: true}
	case known && t.epoch != NoEpoch && (ev.ProducerID != t.producerID || ev.Epoch != t.epoch):
		t.timeout = ev.Timeout
		t.store() // a retry, or a producer whose transaction took too long: it was bumped then
		return t.answer()
	}
	took := t.epoch == NoEpoch || t.epoch >= lastEpoch
	if took {
		t.replaced, t.producerID, t.epoch, t.previous = t.producerID, ev.NewID, 0, NoEpoch
	} else {
		t.epoch, t.previous = t.epoch+1, NoEpoch
		if ev.ProducerID != NoProducer {
			t.previous = t.epoch - 1
		}
	}
	t.state, t.timeout = Empty, ev.Timeout
	t.store()
	a := t.answer()
	a.TookID = took
	return a
}

// isOrWas reports whether the producer is the one that has the id now, or the one whose
// epoch was bumped with nobody else coming between.
func (t *Transaction) isOrWas(id int64, epoch int16) bool {
	if id == t.producerID {
		return epoch == t.epoch || epoch == t.previous && epoch != NoEpoch
	}
	return id == t.replaced && id != NoProducer && epoch >= lastEpoch && t.epoch == 0
}

func (t *Transaction) fenced(id int64, epoch int16) error {
	return fmt.Errorf("%w: transactional.id %q belongs to producer %d with epoch %d, not to %d with epoch %d", ErrProducerFenced, t.id, t.producerID, t.epoch, id, epoch)
}

func (t *Transaction) incomplete() error {
	return fmt.Errorf("%w: the last transaction of %q waits for %d partitions", ErrConcurrentTransactions, t.id, len(t.partitions))
}

// current checks that a request is the producer's.
func (t *Transaction) current(id int64, epoch int16) error {
	switch {
	case t.state == Dead || id != t.producerID:
		return fmt.Errorf("%w: %q has producer id %d, not %d", ErrInvalidProducerIDMapping, t.id, t.producerID, id)
	case epoch != t.epoch:
		return t.fenced(id, epoch)
	}
	return nil
}

// Check reports whether the producer may write to the partition as part of the
// transaction.
func (t *Transaction) Check(id int64, epoch int16, tp record.TopicPartition) error {
	if err := t.current(id, epoch); err != nil {
		return err
	}
	if _, in := t.partitions[tp]; t.state != Ongoing || !in {
		return fmt.Errorf("%w: %s is not part of a transaction of %q", record.ErrInvalidTxnState, tp, t.id)
	}
	return nil
}

func (t *Transaction) onAdd(ev *Add) error {
	if err := t.current(ev.ProducerID, ev.Epoch); err != nil {
		return err
	}
	if t.state == PrepareCommit || t.state == PrepareAbort {
		return t.incomplete()
	}
	added := slices.DeleteFunc(slices.Clone(ev.Partitions), func(tp record.TopicPartition) bool {
		_, in := t.partitions[tp]
		return in
	})
	if len(t.partitions)+len(added) > t.limits.MaxPartitions {
		return fmt.Errorf("%w: a transaction of %d partitions, at most %d", ErrLimit, len(t.partitions)+len(added), t.limits.MaxPartitions)
	}
	if len(added) == 0 {
		return nil
	}
	if t.state != Ongoing {
		t.state, t.started, t.deadline = Ongoing, t.now.Wall, t.now.Elapsed+t.timeout
	}
	t.bumps = ev.Bump
	for _, tp := range added {
		t.partitions[tp] = struct{}{}
	}
	t.store()
	return nil
}

func (t *Transaction) onEnd(ev *End) Answer {
	if done, a := t.ended(ev); done {
		return a
	}
	if err := t.current(ev.ProducerID, ev.Epoch); err != nil {
		return t.fail(err)
	}
	switch {
	case t.state == Ongoing:
	case t.state == PrepareCommit || t.state == PrepareAbort:
		return t.fail(t.incomplete())
	case ev.Bump && !ev.Commit:
		// Nothing was written, as far as is known here; but something may be under way,
		// which the next epoch keeps out (KIP-890).
	default:
		return t.fail(fmt.Errorf("%w: %q has no transaction to end, it is %v", record.ErrInvalidTxnState, t.id, t.state))
	}
	took := t.end(ev.Commit, ev.Bump, ev.NewID)
	a := t.answer()
	if t.next != NoProducer {
		a.ProducerID, a.Epoch = t.next, 0
	}
	a.TookID = took
	return a
}

// ended answers an End that was done already: its answer was lost, and it is sent again.
func (t *Transaction) ended(ev *End) (done bool, a Answer) {
	again := ev.ProducerID == t.producerID && ev.Epoch == t.epoch
	if ev.Bump {
		again = ev.ProducerID == t.producerID && ev.Epoch != NoEpoch && ev.Epoch == t.previous ||
			ev.ProducerID == t.replaced && ev.ProducerID != NoProducer && ev.Epoch == lastEpoch && t.epoch == 0
	}
	if !again {
		return false, a
	}
	switch t.state {
	case CompleteCommit, CompleteAbort:
		if ev.Commit != (t.state == CompleteCommit) {
			return true, t.fail(fmt.Errorf("%w: the last transaction of %q is %v", record.ErrInvalidTxnState, t.id, t.state))
		}
		return true, t.answer()
	case PrepareCommit, PrepareAbort:
		if ev.Commit != (t.state == PrepareCommit) {
			return true, t.fail(fmt.Errorf("%w: the last transaction of %q is %v", record.ErrInvalidTxnState, t.id, t.state))
		}
		return true, t.fail(t.incomplete())
	}
	return false, a
}

// end decides the transaction. With bump its markers have the next epoch, which fences
// the one that it was written with; when there is none left, the producer gets newID.
func (t *Transaction) end(commit, bump bool, newID int64) (took bool) {
	if t.state = PrepareAbort; commit {
		t.state = PrepareCommit
	}
	t.previous = NoEpoch
	if bump {
		if took = t.epoch >= lastEpoch; took {
			t.next = newID
		}
		t.epoch, t.previous = t.epoch+1, t.epoch
	}
	if len(t.partitions) == 0 {
		t.complete()
		return took
	}
	t.store()
	t.mark()
	return took
}

func (t *Transaction) mark() {
	t.out = append(t.out, Mark{
		Marker:     record.Marker{ProducerID: t.producerID, ProducerEpoch: t.epoch, Commit: t.state == PrepareCommit},
		Partitions: t.sorted(),
	})
}

func (t *Transaction) onMarked(ev *Marked) {
	if t.state != PrepareCommit && t.state != PrepareAbort {
		return
	}
	for _, tp := range ev.Partitions {
		delete(t.partitions, tp)
	}
	if len(t.partitions) == 0 {
		t.complete()
	}
}

func (t *Transaction) complete() {
	t.state += CompleteCommit - PrepareCommit
	if t.next != NoProducer {
		t.replaced, t.producerID, t.epoch, t.previous, t.next = t.producerID, t.next, 0, NoEpoch, NoProducer
	}
	t.started = time.Time{}
	t.store()
}

func (t *Transaction) onTick(ev *Tick) (a Answer) {
	switch {
	case t.state == Ongoing && t.now.Elapsed >= t.deadline:
		a.TookID = t.end(false, true, ev.NewID)
	case t.state == PrepareCommit || t.state == PrepareAbort:
		if len(t.partitions) == 0 {
			t.complete()
		} else {
			t.mark()
		}
	}
	return a
}

func (t *Transaction) store() {
	t.updated = t.now.Wall
	t.out = append(t.out, Store{t.encode()})
}

// sorted is the partitions, by topic and number.
func (t *Transaction) sorted() []record.TopicPartition {
	return slices.SortedFunc(maps.Keys(t.partitions), func(a, b record.TopicPartition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
