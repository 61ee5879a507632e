package mqtt

import (
	"context"
	"sync/atomic"
)

// writers is the goroutines that write for connections. Some wait for the next one to
// write for, with the stacks that they have grown.
type writers struct {
	next chan *conn
	idle atomic.Int32
}

// maxIdleWriters bounds the writers that wait; each takes some KiB.
const maxIdleWriters = 512

// write has a connection's output written.
func (srv *Server) write(c *conn) {
	select {
	case srv.writers.next <- c:
	default:
		srv.wg.Add(1) // before c has ended, which the server waits for
		go srv.writer(c)
	}
}

func (srv *Server) writer(c *conn) {
	defer srv.wg.Done()
	for c != nil {
		c.write()
		c = srv.writers.wait(srv.ctx)
	}
}

// wait returns the next connection to write for; nil ends the writer.
func (w *writers) wait(ctx context.Context) (c *conn) {
	defer w.idle.Add(-1)
	if w.idle.Add(1) > maxIdleWriters {
		return nil
	}
	select {
	case c = <-w.next:
	case <-ctx.Done():
	}
	return c
}

// shrink ends half of those who wait: they are made again when they are needed.
func (w *writers) shrink() {
	for range w.idle.Load() / 2 {
		select {
		case w.next <- nil:
		default:
		}
	}
}
