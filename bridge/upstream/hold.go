package upstream

import "time"

// maxHold is the longest pause before a message that was refused for now is tried again.
const maxHold = 10 * time.Second

// hold is the messages of a direction that were refused for now. While there are any
// nothing else is published: the first is tried alone until it passes, then the next,
// so that they keep their order. Those that were in flight behind the first when it was
// refused may have passed it.
type hold struct {
	p       *pump
	waiting []*message
	pause   time.Duration
	retry   <-chan time.Time // nil: the first is on its way
}

// queue is what the pump reads from, nil while messages are held.
func (h *hold) queue() <-chan *message {
	if len(h.waiting) > 0 {
		return nil
	}
	return h.p.queue
}

// add takes in what was refused: another message, or the first, once more.
func (h *hold) add(m *message) {
	switch {
	case m.held:
		h.pause = min(2*h.pause, maxHold)
		h.retry = time.After(h.pause)
		return
	case len(h.waiting) == 0:
		h.pause = minBackoff
		h.retry = time.After(h.pause)
	}
	h.waiting = append(h.waiting, m)
	h.p.counts.held.Store(int64(len(h.waiting)))
}

// try publishes the first.
func (h *hold) try(to peer) error {
	h.retry = nil
	h.waiting[0].held = true
	return h.p.publish(to, h.waiting[0])
}

// next goes on after the first was settled.
func (h *hold) next(to peer) error {
	h.waiting = h.waiting[1:]
	h.p.counts.held.Store(int64(len(h.waiting)))
	if len(h.waiting) == 0 {
		h.p.counts.why.Store(nil)
		return nil
	}
	h.pause = minBackoff
	return h.try(to)
}
