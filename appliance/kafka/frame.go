package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// headLen is the part of a request that decides how large it may be: size, API
	// key, version, correlation id.
	headLen = 12
	// frameStep is the memory a request gets before its bytes have come; it grows by
	// doubling from there, so a length prefix alone allocates no more than this.
	frameStep = 4 << 10
	// keepFrame is the largest buffer kept for the next request.
	keepFrame = 1 << 20
	// freeFrame is the size below which a request is not counted against
	// queued.max.request.bytes: the number of connections bounds these.
	freeFrame = 64 << 10
	// readChunk is what must arrive within one read timeout.
	readChunk = 64 << 10
)

// longAgo as a deadline ends a read that is under way.
var longAgo = time.Unix(1, 0)

// Reasons why a connection is closed that are the client's doing.
var (
	errFrameSize   = errors.New("impossible request size")
	errFrameBudget = errors.New("requests being received use all of queued.max.request.bytes")
	errMalformed   = errors.New("malformed request")
	errVersion     = errors.New("unsupported version")
	errUnknownAPI  = errors.New("unknown API key")
)

// budget is the memory that large requests on all connections share.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// frame is one request's bytes, without the size before them.
type frame struct {
	bytes   []byte
	counted int // taken from the budget
}

var frames = sync.Pool{New: func() any { return &frame{bytes: make([]byte, 0, frameStep)} }}

// release gives the memory back, if keep is false to the garbage collector: a
// decoded request points into it.
func (f *frame) release(b *budget, keep bool) {
	b.give(f.counted)
	f.counted = 0
	if keep && cap(f.bytes) <= keepFrame {
		f.bytes = f.bytes[:0]
		frames.Put(f)
	}
}

// frameReader cuts requests off a connection.
type frameReader struct {
	ctx     context.Context
	nc      net.Conn
	br      *bufio.Reader
	o       *Options
	budget  *budget
	started bool
	// before is when the client must have logged in; zero: it has, or need not.
	before time.Time
}

// next reads one request. The error is io.EOF when the client has closed the
// connection between two requests.
func (fr *frameReader) next() (*frame, error) {
	wait := fr.o.HandshakeTimeout
	if fr.started {
		wait = fr.o.MaxIdle
	}
	fr.setDeadline(wait)
	if _, err := fr.br.Peek(1); err != nil {
		return nil, err
	}
	fr.started = true
	fr.setDeadline(fr.o.ReadTimeout)
	head, err := fr.br.Peek(headLen)
	if err != nil {
		return nil, unexpected(err)
	}
	size := int32(binary.BigEndian.Uint32(head))
	a := lookup(int16(binary.BigEndian.Uint16(head[4:])))
	if limit := a.frameLimit(fr.o); size < headLen-4 || int64(size) > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes for API key %d, at most %d are taken", errFrameSize, size, binary.BigEndian.Uint16(head[4:]), limit)
	}
	if !fr.before.IsZero() && !beforeLogin(int16(binary.BigEndian.Uint16(head[4:]))) {
		return nil, fmt.Errorf("%w: API key %d before SaslAuthenticate", errLogin, binary.BigEndian.Uint16(head[4:]))
	}
	return fr.take(size)
}

// raw reads a SASL token that stands in no request, as after SaslHandshake v0.
func (fr *frameReader) raw() (*frame, error) {
	fr.setDeadline(fr.o.ReadTimeout)
	head, err := fr.br.Peek(4)
	if err != nil {
		return nil, unexpected(err)
	}
	size := int32(binary.BigEndian.Uint32(head))
	if size < 0 || int(size) > fr.o.MaxAdminBytes {
		return nil, fmt.Errorf("%w: SASL token of %d bytes", errFrameSize, size)
	}
	return fr.take(size)
}

// take reads what follows the size.
func (fr *frameReader) take(size int32) (*frame, error) {
	if _, err := fr.br.Discard(4); err != nil {
		return nil, unexpected(err)
	}
	f := frames.Get().(*frame)
	if err := fr.fill(f, int(size)); err != nil {
		f.release(fr.budget, true)
		return nil, unexpected(err)
	}
	return f, nil
}

// fill reads size bytes, growing the buffer only as they arrive.
func (fr *frameReader) fill(f *frame, size int) error {
	for f.bytes = f.bytes[:0]; len(f.bytes) < size; {
		have := len(f.bytes)
		if have == cap(f.bytes) || cap(f.bytes) == 0 {
			grown := make([]byte, have, min(size, max(2*have, frameStep)))
			copy(grown, f.bytes)
			f.bytes = grown
		}
		if more := cap(f.bytes) - freeFrame - f.counted; more > 0 && size > freeFrame {
			if !fr.budget.take(more) {
				return fmt.Errorf("%w (%d)", errFrameBudget, fr.budget.limit)
			}
			f.counted += more
		}
		end := min(size, cap(f.bytes), have+readChunk)
		fr.setDeadline(fr.o.ReadTimeout)
		n, err := io.ReadFull(fr.br, f.bytes[have:end])
		f.bytes = f.bytes[:have+n]
		if err != nil {
			return err
		}
	}
	return nil
}

func (fr *frameReader) setDeadline(d time.Duration) {
	at := time.Now().Add(d)
	if !fr.before.IsZero() && fr.before.Before(at) {
		at = fr.before
	}
	_ = fr.nc.SetReadDeadline(at) // a closed connection says so at the read
	if fr.ctx.Err() != nil {
		_ = fr.nc.SetReadDeadline(longAgo) // or this would undo what the end of ctx has set
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// header is a request header, v1 or v2.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte // points into the frame
	body          []byte
}

// parseHeader reads the header. Version 2 (flexible requests) keeps the client id a
// plain nullable string, not a compact one, and adds tagged fields after it. Of a
// version that is not served nobody knows what follows the client id.
func parseHeader(b []byte) (h header, err error) {
	r := reader{b: b}
	h.key, h.version, h.correlationID = r.int16(), r.int16(), r.int32()
	h.clientID = r.nullableString()
	if r.bad {
		return h, fmt.Errorf("%w: header cut short", errMalformed)
	}
	if a := lookup(h.key); a != nil && a.serves(h.version) {
		r.flexible = isFlexible(h.key, h.version)
		r.tags()
	}
	if r.bad {
		return h, fmt.Errorf("%w: tagged fields of the header", errMalformed)
	}
	h.body = r.b
	return h, nil
}

// isFlexible reports whether the request uses KIP-482's compact encoding.
func isFlexible(key, version int16) bool {
	first := flexibleFrom[min(max(int(key), 0), maxKey)]
	return version >= first
}

// flexibleFrom is the first flexible version by API key, asked of kmsg once.
var flexibleFrom = func() (from [maxKey + 1]int16) {
	for key := range from {
		from[key] = math.MaxInt16
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if req.SetVersion(v); req.IsFlexible() {
				from[key] = v
				break
			}
		}
	}
	return from
}()
