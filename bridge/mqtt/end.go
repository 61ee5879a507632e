package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// end says why, closes, waits for the connection's goroutines and frees the session.
func (c *conn) end(err error) {
	defer c.srv.wg.Done()
	defer close(c.done)
	c.note(err)
	if c.sess != nil {
		c.srv.detach(c)
		c.farewell(err)
	}
	written := c.out.close()
	c.cancel()
	c.acks.close()
	linger := time.NewTimer(lingerTime)
	select {
	case <-written:
	case <-linger.C:
	}
	linger.Stop()
	c.nc.Close()
	<-written
	c.tasks.Wait()
	if c.sess != nil {
		c.srv.release(c)
	}
	c.forgetIdentity()
	c.srv.forget(c)
}

// lingerTime bounds how long a connection that is over may take to take its last bytes.
const lingerTime = time.Second

// note logs what is worth a line: not that clients come and go.
func (c *conn) note(err error) {
	var pe *packet.Error
	switch {
	case c.ctx.Err() != nil, errors.Is(err, errDone), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
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

// farewell sends an MQTT 5 client a DISCONNECT with the reason [MQTT-4.13.1-1].
func (c *conn) farewell(err error) {
	var pe *packet.Error
	d := packet.Disconnect{Type: packet.TypeDisconnect}
	switch {
	case c.version != packet.V5 || errors.Is(err, errDone) || !c.open: // [MQTT-3.14.0-1]
		return
	case c.takingOver.Load():
		d.Reason = packet.SessionTakenOver
	case c.revoked.Load():
		d.Reason = packet.NotAuthorized
	case c.srv.ctx.Err() != nil:
		if d.Reason = packet.ServerShuttingDown; c.srv.opts.ServerReference != "" { // [MQTT-4.11]
			d.Reason = packet.UseAnotherServer
			d.Props.SetBytes(packet.ServerReference, []byte(c.srv.opts.ServerReference))
		}
	case errors.As(err, &pe):
		if d.Reason = pe.Reason; c.problems {
			d.Props.SetBytes(packet.ReasonString, []byte(pe.Error()))
		}
	case c.ctx.Err() != nil: // what the client released cannot be stored
		d.Reason = packet.UnspecifiedError
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.Reason = packet.KeepAliveTimeout
	default:
		return
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
