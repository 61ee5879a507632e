package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Parting is a network connection that has a word of its own for why it ends, as a
// WebSocket has (RFC 6455, 7.1).
type Parting interface {
	// Part says it and closes. The client has so long to take it and to answer.
	Part(reason packet.Reason, within time.Duration)
}

// end says why, closes, waits for the connection's goroutines and frees the session.
func (c *conn) end(err error) {
	defer c.srv.wg.Done()
	c.note(err)
	reason, told := c.cause(err)
	if c.sess != nil {
		c.srv.detach(c)
		c.farewell(reason, told, err)
	}
	written := c.out.close()
	c.cancel()
	c.acks.close()
	gone := c.hangUp(written, reason, told)
	<-written
	c.tasks.Wait()
	if c.sess != nil {
		c.srv.release(c)
	}
	c.forgetIdentity()
	close(c.done) // who takes the session over does not wait for a client that does not answer
	<-gone
	c.srv.forget(c)
}

// lingerTime bounds how long a connection that is over may take to take its last bytes,
// and then to answer that it is over.
const lingerTime = time.Second

// hangUp closes the connection once all is written. It returns what is closed then.
func (c *conn) hangUp(written <-chan struct{}, reason packet.Reason, told bool) <-chan struct{} {
	linger := time.NewTimer(lingerTime)
	defer linger.Stop()
	select {
	case <-written:
		if p, ok := c.nc.(Parting); ok && told {
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				p.Part(reason, lingerTime)
			}()
			return gone
		}
	case <-linger.C:
	}
	c.nc.Close()
	return written
}

// note logs what is worth a line: not that clients come and go.
func (c *conn) note(err error) {
	var pe *packet.Error
	var refused *refusal
	switch {
	case c.ctx.Err() != nil, errors.Is(err, errDone), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
	case errors.As(err, &refused): // and logged
		c.srv.refusals.messages.Add(1)
	case errors.As(err, &pe):
		c.srv.refusals.protocol.Add(1)
		c.srv.closedFor(c, pe)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.srv.refusals.keepAlive.Add(1)
		c.srv.opts.Log.Info("mqtt: connection timed out", "client", c.id, "remote", c.remote)
	default:
		c.srv.opts.Log.Debug("mqtt: connection lost", "client", c.id, "remote", c.remote, "err", err)
	}
}

// cause is why the connection ends; false: the client is gone, there is nobody to tell.
func (c *conn) cause(err error) (reason packet.Reason, told bool) {
	var pe *packet.Error
	switch {
	case errors.Is(err, errDone):
		return packet.Success, true
	case c.takingOver.Load():
		return packet.SessionTakenOver, true
	case c.revoked.Load():
		return packet.NotAuthorized, true
	case c.srv.ctx.Err() != nil:
		return packet.ServerShuttingDown, true
	case errors.As(err, &pe):
		return pe.Reason, true
	case c.ctx.Err() != nil: // what the client released cannot be stored
		return packet.UnspecifiedError, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return packet.KeepAliveTimeout, true
	}
	return packet.Success, false
}

// farewell sends an MQTT 5 client a DISCONNECT with the reason [MQTT-4.13.1-1].
func (c *conn) farewell(reason packet.Reason, told bool, err error) {
	if !told || reason == packet.Success || c.version != packet.V5 || !c.open { // [MQTT-3.14.0-1]
		return
	}
	d := packet.Disconnect{Type: packet.TypeDisconnect, Reason: reason}
	var pe *packet.Error
	if reason == packet.ServerShuttingDown && c.srv.opts.ServerReference != "" { // [MQTT-4.11]
		d.Reason = packet.UseAnotherServer
		d.Props.SetBytes(packet.ServerReference, []byte(c.srv.opts.ServerReference))
	} else if errors.As(err, &pe) && reason == pe.Reason && c.problems {
		d.Props.SetBytes(packet.ReasonString, []byte(pe.Error()))
	}
	if c.maxPacket > 0 && len(d.Append(nil, c.version)) > c.maxPacket { // [MQTT-3.14.2-3]
		d.Props.Delete(packet.ReasonString)
	}
	c.out.answer(func(dst []byte) []byte { return d.Append(dst, c.version) })
}

// kick ends the connection from any goroutine, without waiting.
func (c *conn) kick() {
	c.cancel()
	c.acks.close()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}
