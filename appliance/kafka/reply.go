package kafka

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// reply is an answer on its way: the connection's reader makes it, the writer sends
// it once it is known, in the order of the requests.
type reply interface {
	// ready returns a channel that is signalled, once, when the answer is known; nil
	// when it is known already.
	ready() <-chan struct{}
	// size is about how many bytes writeTo will write; it decides the deadline.
	size() int
	// writeTo sends the whole answer, size prefix included.
	writeTo(w io.Writer) error
	// release gives back what the reply holds. A reply that was never ready is not
	// released: somebody may still hold a pointer into it.
	release()
}

// encoded is a reply that is bytes already.
type encoded struct{ buf []byte }

var encodings = sync.Pool{New: func() any { return &encoded{} }}

func (e *encoded) ready() <-chan struct{} { return nil }
func (e *encoded) size() int              { return len(e.buf) }
func (e *encoded) writeTo(w io.Writer) error {
	_, err := w.Write(e.buf)
	return err
}

func (e *encoded) release() {
	if cap(e.buf) <= freeFrame {
		encodings.Put(e)
	}
}

// encode makes the reply to a request from a kmsg response.
func encode(correlationID int32, resp kmsg.Response) reply {
	e := encodings.Get().(*encoded)
	e.buf = appendResponseHeader(e.buf[:0], correlationID, resp.Key(), resp.IsFlexible())
	e.buf = resp.AppendTo(e.buf)
	binary.BigEndian.PutUint32(e.buf, uint32(len(e.buf)-4))
	return e
}

// appendResponseHeader appends the size, left 0, and the header. That of ApiVersions
// is always version 0, because the client cannot know yet what the broker can
// read; a client that gets this wrong fails at the first byte (KIP-511).
func appendResponseHeader(dst []byte, correlationID int32, key int16, flexible bool) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if flexible && key != apiVersionsKey {
		dst = append(dst, 0) // no tagged fields
	}
	return dst
}
