package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// outbox is a connection's output: feeds, pumps and the read loop append packets, one
// goroutine writes all that has gathered in one write. It is bounded: messages are
// refused over the limit, and a client that does not even take its answers is cut off.
type outbox struct {
	limit   int
	wake    chan struct{}
	touched atomic.Bool

	mu      sync.Mutex
	buf     []byte
	closing bool // write what is left, then end
}

// keepBytes is the output memory that an idle connection may keep.
const keepBytes = 4 << 10

func newOutbox(limit int) *outbox { return &outbox{limit: limit, wake: make(chan struct{}, 1)} }

// publish appends a message; false when there is no room for it.
func (o *outbox) publish(m *message, d *delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.qos == 0 && len(o.buf) >= o.limit || o.closing {
		return false
	}
	o.buf = m.append(o.buf, d)
	return true
}

// room reports whether another message may be appended.
func (o *outbox) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) < o.limit && !o.closing
}

// answer appends an answer to the client and starts the writer; false when the
// client does not read what it is sent.
func (o *outbox) answer(encode func(dst []byte) []byte) bool {
	o.mu.Lock()
	if o.closing || len(o.buf) > 2*o.limit {
		o.mu.Unlock()
		return false
	}
	o.buf = encode(o.buf)
	o.mu.Unlock()
	o.flush()
	return true
}

// flush starts the writer.
func (o *outbox) flush() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// touch reports whether the caller is the one who must untouch.
func (o *outbox) touch() bool { return !o.touched.Swap(true) }

func (o *outbox) untouch() {
	o.touched.Store(false)
	o.flush()
}

// close makes the writer end after what has been appended so far.
func (o *outbox) close() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	o.flush()
}

// write is the writer: it ends after close or when the socket fails. gather adds what
// is ready to be acknowledged; drained is called when output has left.
func (o *outbox) write(nc net.Conn, timeout time.Duration, gather func([]byte) []byte, drained func(n int)) error {
	var spare []byte
	for range o.wake {
		for {
			o.mu.Lock()
			out, closing := gather(o.buf), o.closing
			if len(out) == 0 { // idle: keep little memory
				if cap(out) > keepBytes {
					o.buf = nil
				}
				o.mu.Unlock()
				if spare = nil; closing {
					return nil
				}
				break
			}
			o.buf = spare
			o.mu.Unlock()
			if err := nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
				return err
			}
			if _, err := nc.Write(out); err != nil {
				return err
			}
			drained(len(out))
			spare = out[:0]
		}
	}
	return nil
}
