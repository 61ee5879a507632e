package mirror

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// State is where a partition's mirroring stands.
type State string

const (
	Connecting State = "connecting" // the target must be asked where it stands
	Streaming  State = "streaming"
	Halted     State = "halted" // until the operator acts and restarts the flow
)

// A window is the progress of one partition: what was read from the source and
// is not yet acknowledged by the target. It is a pure state machine: it does no
// I/O and knows no time; the flow feeds it and obeys it.
//
//	connecting --resolved--> streaming --trouble, once all is answered--> connecting
//	                             |
//	                             +--a gap that policy does not allow--> halted
//
// Whatever goes wrong, the answer is the same: wait until every batch on its
// way is answered or failed, ask the target for its end offset, drop what it
// already has, send the rest again. Nothing is guessed from an error code.
type window struct {
	state   State
	reason  string // why it is not streaming
	trouble trouble

	anchor anchor
	source int64 // offset after the last acknowledged record of the source
	target int64 // where the target must put pending[0]

	pending []wire // in order; the first sent of them are on their way
	sent    int
	flying  int // of those sent, how many are not answered yet
	nextID  int64
}

// wire is a batch as it goes to the target, or a gap between two batches.
type wire struct {
	id     int64
	batch  record.Batch
	count  int64
	first  int64       // source offset of its first record
	next   int64       // source offset to go on from once it is acknowledged
	gap    *record.Gap // instead of a batch
	credit int64       // bytes of the flow's budget, returned with it
	readAt time.Time

	answered bool // with what follows
	outcome  trouble
	base     int64
	reason   string
}

// trouble is why the window must stop and ask, the graver the greater.
type trouble int

const (
	calm      trouble = iota
	unsure            // ask the target for its end offset, then go on
	tooLarge          // pending[0] must be split
	rejected          // pending[0] holds a record that the target refuses
	expelled          // the producer id is not accepted any more: claim a new one
	diverged          // the target is not as we left it
	bridgeGap         // pending[0] is a gap
)

// begin starts a window whose position is known.
func (w *window) begin(a anchor, source, target int64) {
	*w = window{state: Streaming, anchor: a, source: source, target: target, nextID: w.nextID}
}

// wants reports whether more should be read from the source. While a small
// batch is not acknowledged nothing is: what arrives meanwhile is merged into
// the next one, so that tiny batches cost at most one request per round trip.
func (w *window) wants() bool {
	if w.state != Streaming || w.trouble != calm || len(w.pending) >= maxPendingBatches {
		return false
	}
	for i := range w.pending {
		if w.pending[i].gap == nil && len(w.pending[i].batch) < smallBatchBytes {
			return false
		}
	}
	return true
}

// offer adds a wire behind the others.
func (w *window) offer(x wire) {
	w.nextID++
	x.id = w.nextID
	w.pending = append(w.pending, x)
	w.checkGap()
}

func (w *window) sendable() bool {
	return w.state == Streaming && w.trouble == calm && w.sent < len(w.pending) &&
		w.flying < MaxInFlightBatches && w.pending[w.sent].gap == nil
}

// send takes the next wire to go and the target offset it must get. Only when sendable.
func (w *window) send() (x wire, target int64) {
	target = w.target
	for i := range w.sent {
		target += w.pending[i].count
	}
	x = w.pending[w.sent]
	w.sent++
	w.flying++
	return x, target
}

// answer notes the outcome of a wire sent. base is the offset the target gave
// it, -1 when not said. It returns the wires that are thereby done with. Answers
// may come in any order; they count from the front.
func (w *window) answer(id int64, outcome trouble, base int64, reason string) (done []wire) {
	w.flying--
	for i := range w.pending[:w.sent] {
		if x := &w.pending[i]; x.id == id {
			x.answered, x.outcome, x.base, x.reason = true, outcome, base, reason
		}
	}
	n, at := 0, w.target
	for ; w.trouble == calm && n < w.sent && w.pending[n].answered; n++ {
		x := &w.pending[n]
		if x.outcome != calm {
			w.stop(x.outcome, x.reason)
			break
		}
		if x.base >= 0 && x.base != at {
			w.stop(diverged, fmt.Sprintf("the target appended at offset %d what belongs at %d", x.base, at))
			break
		}
		at += x.count
	}
	if n > 0 {
		done = w.pop(n)
	}
	w.settle()
	w.checkGap()
	return done
}

func (w *window) stop(t trouble, reason string) {
	if t > w.trouble {
		w.trouble, w.reason = t, reason
	}
}

// settle leaves streaming once in trouble and nothing is on its way.
func (w *window) settle() {
	if w.trouble != calm && w.flying == 0 && w.state == Streaming {
		w.state, w.sent = Connecting, 0
	}
}

func (w *window) checkGap() {
	if len(w.pending) > 0 && w.pending[0].gap != nil && w.state == Streaming && w.trouble == calm {
		w.stop(bridgeGap, w.pending[0].gap.Reason)
		w.settle()
	}
}

// pop moves past the first n wires.
func (w *window) pop(n int) (done []wire) {
	done = append(done, w.pending[:n]...)
	for i := range done {
		w.source, w.target = done[i].next, w.target+done[i].count
	}
	rest := copy(w.pending, w.pending[n:])
	clear(w.pending[rest:])
	w.pending, w.sent = w.pending[:rest], max(0, w.sent-n)
	return done
}

// resolved is told the target's end offset while nothing is on its way. It
// returns the wires that the target proves to have. ok is false when that end
// is none that this window can have caused.
func (w *window) resolved(end int64) (done []wire, ok bool) {
	n, have := 0, w.target
	for n < len(w.pending) && w.pending[n].gap == nil && have < end {
		have += w.pending[n].count
		n++
	}
	if have != end {
		return nil, false
	}
	return w.pop(n), true
}

// resume goes on after resolved, when what troubled it is mended.
func (w *window) resume() {
	w.state, w.reason, w.trouble, w.sent = Streaming, "", calm, 0
	for i := range w.pending {
		w.pending[i].answered = false
	}
	w.checkGap()
}

// replace puts other wires in the place of the first, which keep its budget.
func (w *window) replace(xs ...wire) {
	xs[len(xs)-1].credit += w.pending[0].credit
	for i := range xs {
		w.nextID++
		xs[i].id, xs[i].readAt = w.nextID, w.pending[0].readAt
	}
	w.pending = append(xs, w.pending[1:]...)
}

// halt stops for good. It returns all wires, whose budget is free again.
func (w *window) halt(reason string) (done []wire) {
	done, w.pending, w.sent = w.pending, nil, 0
	w.state, w.reason = Halted, reason
	return done
}
