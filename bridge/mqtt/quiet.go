package mqtt

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A connection is busy while packets come, and quiet otherwise. Most are quiet most of
// the time, and there may be tens of thousands, so a quiet one holds no buffers and
// waits for one byte on a goroutine that has done nothing else: its stack is of the
// least size, where one that has handled a packet never is again.

const (
	quietAfter = 250 * time.Millisecond // without a byte
	firstRead  = 2 << 10                // read buffer of a connection that gets busy
	busyRead   = 64 << 10               // that of one whose reads fill it
)

// Frail is a network connection that does not outlive the deadline of a read, as a
// WebSocket does not. Once busy it stays so.
type Frail interface{ DeadlineEnds() }

// desk is what the read loop works at: busy connections have one each.
type desk struct {
	buf []byte
	pub packet.Publish
	in  intake
}

var desks = sync.Pool{New: func() any { return new(desk) }}

func (c *conn) sitDown() {
	c.desk = desks.Get().(*desk)
	if c.in.c = c; cap(c.buf) == 0 {
		c.buf = make([]byte, 0, firstRead)
	}
}

// standUp gives the desk back. Everything has been staged.
func (c *conn) standUp() {
	d := c.desk
	c.desk = nil
	if d.in.c, d.in.topic = nil, nil; cap(d.buf) > busyRead {
		d.buf = nil
	}
	d.buf = d.buf[:0]
	desks.Put(d)
}

var errQuiet = errors.New("quiet")

// serve runs a new connection.
func (c *conn) serve() {
	c.until = time.Now().Add(c.srv.opts.ConnectTimeout)
	c.sitDown()
	c.work()
}

// work serves a busy connection until it is quiet or over.
func (c *conn) work() {
	err := c.read()
	c.standUp()
	if err == errQuiet {
		if err = c.arm(false); err == nil {
			c.acks.shrink()
			go c.wait()
			return
		}
	}
	c.end(err)
}

// wait is the whole life of a quiet connection.
func (c *conn) wait() {
	n, err := c.nc.Read(c.first[:])
	c.stir(n, err)
}

// stir ends the quiet of a connection.
func (c *conn) stir(n int, err error) {
	if n == 0 {
		c.end(err)
		return
	}
	c.srv.traffic.bytesIn.Add(1)
	c.sitDown()
	c.buf = append(c.buf, c.first[0])
	c.work()
}

// alive notes a sign of life of the client.
func (c *conn) alive() {
	if c.until = (time.Time{}); c.idle > 0 {
		c.until = time.Now().Add(c.idle)
	}
}

// arm sets the deadline of reads: when the client has been given up, or, soon, when it
// is time to see whether the connection is quiet. It fails once the connection is over.
func (c *conn) arm(soon bool) error {
	at := c.until
	if soon && c.sess != nil && !c.frail {
		if look := time.Now().Add(quietAfter); at.IsZero() || look.Before(at) {
			at = look
		}
	}
	if err := c.nc.SetReadDeadline(at); err != nil {
		return err
	}
	if c.ctx.Err() != nil { // kick has set another
		return net.ErrClosed
	}
	return nil
}

// slack says what follows from a read that failed: nil, that the next deadline is set.
// busy is whether bytes have come since the last time.
func (c *conn) slack(err error, busy bool) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded), c.sess == nil, c.frail, c.ctx.Err() != nil:
		return err
	case !c.until.IsZero() && !time.Now().Before(c.until):
		return err
	case !busy && len(c.buf) == 0:
		return errQuiet
	}
	return c.arm(true)
}
