package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// wills is the wills that are due and that something refuses which may pass, such as a
// full disk: nobody is there to be told, so they wait until it has. A will that is
// published goes in one group of the write-ahead log with the record of its session that
// has it no longer: no crash loses it or publishes it twice.
type wills struct {
	publishing sync.Mutex // one at a time; before any lock of retained, sessions and shares

	mu      sync.Mutex
	waiting []*will
	more    chan struct{} // one begins to wait
}

// willRetry is how often the wills that wait are tried.
const willRetry = time.Second

// passing reports whether what refuses a will may pass by itself.
func passing(err error) bool {
	var pe *packet.Error
	if errors.As(err, &pe) {
		return pe.Reason == packet.QuotaExceeded
	}
	return !errors.Is(err, record.ErrTooLarge) && !errors.Is(err, record.ErrInvalidRecord)
}

// execute publishes the wills of a session that are due, in their order.
func (srv *Server) execute(s *session) {
	s.mu.Lock()
	none := len(s.due) == 0
	s.mu.Unlock()
	if none { // as mostly: connections that end do not wait for each other
		return
	}
	srv.wills.publishing.Lock()
	defer srv.wills.publishing.Unlock()
	s.mu.Lock()
	due := slices.Clone(s.due)
	s.mu.Unlock()
	var err error
	for _, w := range due {
		if srv.wills.waits(w) {
			err = errWaits
			continue
		}
		if err == nil {
			err = srv.publishWill(w)
		}
		switch {
		case err == nil:
		case passing(err) && srv.wills.wait(srv.opts.MaxWaitingWills, w):
			srv.opts.Log.Warn("mqtt: will cannot be published yet", "client", s.id, "topic", string(w.msg.Topic), "err", err)
		default:
			srv.loseWill(w, err)
			err = nil
		}
	}
}

// errWaits is why a will is not published before an earlier one of its client.
var errWaits = errors.New("an earlier will of the client waits")

// wait adds a will unless limit are there; 0 is no limit.
func (ws *wills) wait(limit int, w *will) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if limit > 0 && len(ws.waiting) >= limit {
		return false
	}
	ws.waiting = append(ws.waiting, w)
	select {
	case ws.more <- struct{}{}:
	default:
	}
	return true
}

func (ws *wills) count() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.waiting)
}

func (ws *wills) waits(w *will) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return slices.Contains(ws.waiting, w)
}

// retryWills is the life of the wills that wait.
func (srv *Server) retryWills() {
	defer srv.wg.Done()
	for {
		select {
		case <-srv.ctx.Done():
			return
		case <-srv.wills.more:
		}
		for again := true; again; {
			if sleep(srv.ctx, willRetry); srv.ctx.Err() != nil {
				return
			}
			again = srv.retryAll()
		}
	}
}

// retryAll tries the wills that wait, and reports whether some still do. The first that
// a full disk refuses ends the round.
func (srv *Server) retryAll() (again bool) {
	ws := &srv.wills
	ws.publishing.Lock()
	defer ws.publishing.Unlock()
	ws.mu.Lock()
	all := slices.Clone(ws.waiting)
	ws.mu.Unlock()
	var still []*will
	behind, full := map[*session]bool{}, false
	for _, w := range all {
		err := errWaits
		if !full && !behind[w.sess] {
			err = srv.publishWill(w)
		}
		switch full = full || errors.Is(err, record.ErrDiskFull); {
		case err == nil:
		case passing(err):
			still, behind[w.sess] = append(still, w), true
		default:
			srv.loseWill(w, err)
		}
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.waiting = append(still, ws.waiting[len(all):]...) // and what has come meanwhile
	return len(ws.waiting) > 0
}

// testament is one try to publish a will.
type testament struct {
	will *will
	sess *session

	mu     sync.Mutex
	staged bool
	left   bool // nobody waits for err any more
	err    error
}

// publishWill stages a due will and the record of its session without it. The error is
// why it is not; should the commit fail later, it waits for another try.
func (srv *Server) publishWill(w *will) error {
	m := w.msg
	m.PacketID = 1
	if w.who != nil && !w.who.MayPublish(m.Topic) { // the rules have changed since CONNECT
		return &refusal{byACL, &packet.Error{Reason: packet.NotAuthorized, Text: fmt.Sprintf("not allowed to publish on %q", m.Topic)}}
	}
	t := &testament{will: w, sess: w.sess}
	err := srv.publishFor(w.sess.id, &m, t)
	staged, failed := t.leave()
	if err = errors.Join(err, failed); err == nil && !staged { // its route drops it
		srv.store.saveWithout(w.sess, w, func(error) {}, srv.store.stage)
		srv.traffic.wills.Add(1)
	}
	return err
}

// leave returns what has become of the try so far. Nobody asks again.
func (t *testament) leave() (staged bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
	return t.staged, t.err
}

// stageWill stages the writes of a will with the record of the session that it was in.
func (c *conn) stageWill(writes []record.AsyncWrite) {
	t := c.testament
	t.mu.Lock()
	t.staged = true
	t.mu.Unlock()
	c.srv.store.saveWithout(t.sess, t.will, func(error) {}, func(also ...record.AsyncWrite) {
		c.srv.log.AppendGroup(append(writes, also...))
	})
}

// committed is told how the try ended. A will that is not in the log is due again.
func (t *testament) committed(srv *Server, err error) {
	if err == nil {
		srv.traffic.wills.Add(1)
		srv.traffic.committed.Add(1)
		return
	}
	s := t.sess
	s.mu.Lock()
	if !slices.Contains(s.due, t.will) {
		s.due, s.dirty = slices.Insert(s.due, 0, t.will), true
	}
	s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err = err; t.left {
		srv.wills.wait(0, t.will)
	}
}

// loseWill lets go of a will that cannot be published, which is counted and logged.
func (srv *Server) loseWill(w *will, err error) {
	srv.refused.wills[causeOf(err)].Add(1)
	srv.countRefused(err, 1, silent(&w.msg))
	srv.opts.Log.Error("mqtt: will lost", "client", w.sess.id, "topic", string(w.msg.Topic), "err", err)
	srv.store.saveWithout(w.sess, w, func(error) {}, srv.store.stage)
}

// inherit gives the wills of a session that ends to the one that takes its place.
func (srv *Server) inherit(s, old *session) {
	srv.wills.publishing.Lock()
	defer srv.wills.publishing.Unlock()
	old.saving.Lock() // so that a save of it is staged before any of its heir's
	defer old.saving.Unlock()
	old.mu.Lock()
	old.fallDue()
	due := old.due
	old.due = nil
	old.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range due {
		w.sess = s
	}
	s.due = append(due, s.due...)
}

// abandonWills says which wills the end of the server loses: those of sessions that are
// stored wait in their records.
func (srv *Server) abandonWills() {
	ws := &srv.wills
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.waiting {
		w.sess.mu.Lock()
		stored := w.sess.stored
		w.sess.mu.Unlock()
		if !stored {
			srv.opts.Log.Error("mqtt: will lost", "client", w.sess.id, "topic", string(w.msg.Topic), "err", "the server ends before it could be published, and the session does not outlive that")
		}
	}
}
