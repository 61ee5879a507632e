package mqtt

import (
	"net"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// publishFor takes a message that comes by no connection, as if client had sent it; with
// a testament it is a will.
func (srv *Server) publishFor(client string, m *packet.Publish, t *testament) error {
	c := &conn{srv: srv, id: client, version: packet.V5, testament: t, out: outbox{failed: true}} // nobody reads an answer
	c.acks.init()
	c.sitDown()
	defer c.standUp()
	c.in.begin()
	err := c.accept(m, m.Topic)
	c.in.stage()
	return err
}

// Publish takes a message of the server's own. Its routes, subscribers and limits are
// those of any message; no access rule is asked. Nobody waits for its commit, but a
// failure is counted and logged.
func (srv *Server) Publish(m *packet.Publish) error {
	srv.mu.Lock()
	if srv.closed {
		srv.mu.Unlock()
		return net.ErrClosed
	}
	srv.wg.Add(1)
	srv.mu.Unlock()
	defer srv.wg.Done()
	err := srv.publishFor("", m, nil)
	if err != nil {
		srv.countRefused(err, 1, silent(m))
	}
	return err
}
