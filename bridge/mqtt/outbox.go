package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// outbox is a connection's output: feeds, pumps and the read loop append packets, one
// goroutine at a time writes all that has gathered in one write, as long as there is
// something. It is bounded: messages are refused over the limit, and a client that does
// not even take its answers is cut off. With nothing to write it holds no memory.
type outbox struct {
	limit   int
	start   func() // has write called on a goroutine of its own
	touched atomic.Bool

	mu      sync.Mutex
	buf     *buffer // nil: empty
	writing bool
	failed  bool          // the socket has; nothing more is written
	ended   chan struct{} // made by close, closed by the writer: write what is left, then end
}

// buffer is memory of outboxes, which the writers take turns with.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// keepBytes is the largest buffer that is used again.
const keepBytes = 64 << 10

func (b *buffer) free() {
	if b.b = b.b[:0]; cap(b.b) <= keepBytes {
		buffers.Put(b)
	}
}

// space returns the buffer to append to. o.mu is held.
func (o *outbox) space() *buffer {
	if o.buf == nil {
		o.buf = buffers.Get().(*buffer)
	}
	return o.buf
}

// size is how many bytes wait. o.mu is held.
func (o *outbox) size() int {
	if o.buf == nil {
		return 0
	}
	return len(o.buf.b)
}

// over reports whether nothing may be appended any more. o.mu is held.
func (o *outbox) over() bool { return o.ended != nil || o.failed }

// publish appends a message; false when there is no room for it.
func (o *outbox) publish(m *message, d *delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.qos == 0 && o.size() >= o.limit || o.over() {
		return false
	}
	b := o.space()
	b.b = m.append(b.b, d)
	return true
}

// room reports whether another message may be appended.
func (o *outbox) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size() < o.limit && !o.over()
}

// answer appends an answer to the client and starts the writer; false when the
// client does not read what it is sent.
func (o *outbox) answer(encode func(dst []byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over() || o.size() > 2*o.limit {
		return false
	}
	b := o.space()
	b.b = encode(b.b)
	o.rouse()
	return true
}

// flush starts the writer.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rouse()
}

// rouse is flush with o.mu held. A writer that is at work looks once more before it ends.
func (o *outbox) rouse() {
	if !o.writing && !o.over() {
		o.writing = true
		o.start()
	}
}

// touch reports whether the caller is the one who must untouch.
func (o *outbox) touch() bool { return !o.touched.Swap(true) }

func (o *outbox) untouch() {
	o.touched.Store(false)
	o.flush()
}

// close makes the writer end after what has been appended so far, and returns what is
// closed then.
func (o *outbox) close() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rouse()
	o.ended = make(chan struct{})
	if !o.writing {
		close(o.ended)
	}
	return o.ended
}

// write is the writer: it ends when there is nothing left or the socket fails. gather adds
// what is ready to be acknowledged; drained is called when output has left.
func (o *outbox) write(nc net.Conn, timeout time.Duration, gather func([]byte) []byte, drained func(n int)) error {
	for out := o.take(gather); out != nil; out = o.take(gather) {
		err := nc.SetWriteDeadline(time.Now().Add(timeout))
		if err == nil {
			_, err = nc.Write(out.b)
		}
		if err != nil {
			o.fail()
			return err
		}
		drained(len(out.b))
		out.free()
	}
	return nil
}

// take returns what is to be written; nil ends the writer.
func (o *outbox) take(gather func([]byte) []byte) *buffer {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.space()
	o.buf = nil
	if b.b = gather(b.b); len(b.b) > 0 {
		return b
	}
	b.free()
	o.end()
	return nil
}

func (o *outbox) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed, o.buf = true, nil
	o.end()
}

// end ends the writer. o.mu is held.
func (o *outbox) end() {
	if o.writing = false; o.ended != nil {
		close(o.ended)
	}
}
