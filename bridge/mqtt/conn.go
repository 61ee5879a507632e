package mqtt

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// conn is one network connection. Its read loop decodes all packets that one read of
// the socket delivered, stages their messages as one batch for each partition, and
// reads on; nothing waits for the disk but the PUBACK. A connection without packets is
// quiet, and takes little memory (quiet.go).
type conn struct {
	srv     *Server
	nc      net.Conn
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed when the connection is gone and the session is free
	tasks   sync.WaitGroup
	remote  string
	version packet.Version
	id      string
	sess    *session                // nil until CONNECT is accepted
	served  atomic.Pointer[session] // sess once CONNACK is out, for the writer
	auth    *enhanced
	who     Identity // nil: everything is allowed

	door    *door       // it came by
	frail   bool        // nc is Frail
	trusted bool        // the client is a part of this process
	revoked atomic.Bool // the login has ended before the connection
	rates   []allowance // that its messages are held to

	window     int           // unacknowledged messages that the client takes
	maxPacket  int           // bytes; 0: any
	problems   bool          // the client wants reason strings [MQTT-3.1.2-29]
	idle       time.Duration // 1.5 x keep alive; 0: for ever
	until      time.Time     // of the last sign of life, with idle; zero: for ever
	keepAlive  time.Duration // to be announced; 0: the client's stands
	open       bool          // CONNACK has accepted the client
	normal     bool          // DISCONNECT came: no will
	testament  *testament    // the message is a will; there is no client
	aliases    [][]byte      // of the client
	given      aliases       // to the client
	takingOver atomic.Bool

	*desk // of the read loop; nil while it is quiet
	first [1]byte
	out   outbox
	acks  acks
}

// errDone ends the read loop without a word: the client said DISCONNECT.
var errDone = errors.New("disconnected")

// read is the read loop: it ends with the connection, or with errQuiet.
func (c *conn) read() error {
	limit, busy := c.srv.opts.MaxConnectBytes, true
	if c.sess != nil {
		limit = c.srv.opts.MaxPacketBytes
	}
	if err := c.arm(true); err != nil {
		return err
	}
	for {
		n, err := c.nc.Read(c.buf[len(c.buf):cap(c.buf)])
		if err != nil {
			if err = c.slack(err, busy); err != nil {
				return err
			}
			busy = false
			continue
		}
		busy = true
		c.srv.traffic.bytesIn.Add(uint64(n))
		filled := len(c.buf)+n == cap(c.buf)
		c.buf = c.buf[:len(c.buf)+n]
		used, need, err := c.packets(limit)
		if err != nil {
			c.in.stage() // what came before the fault was sound
			return err
		}
		c.in.stage()
		c.keep(used, need, filled)
		if used > 0 && c.sess != nil { // only whole packets count as signs of life
			if c.alive(); limit != c.srv.opts.MaxPacketBytes {
				limit = c.srv.opts.MaxPacketBytes
				if len(c.buf) == 0 { // CONNECT was all: most clients do not hurry to say more
					return errQuiet
				}
				err = c.arm(true)
			} else if c.frail {
				err = c.arm(false)
			}
		}
		if err == nil && c.ctx.Err() != nil {
			err = net.ErrClosed
		}
		if err != nil {
			return err
		}
	}
}

// packets handles the whole packets in the buffer. need is the length of the one
// that is not whole yet, as far as it is known.
func (c *conn) packets(limit int) (used, need int, err error) {
	c.in.begin()
	for used < len(c.buf) {
		f, n, err := packet.Split(c.buf[used:], limit)
		if err != nil {
			c.countOversize(f, err)
			return used, 0, err
		}
		if n == 0 || n > len(c.buf)-used {
			return used, n, nil
		}
		used += n
		if c.sess == nil {
			if err := c.connect(f); err != nil {
				return used, 0, err
			}
			if c.sess != nil {
				limit = c.srv.opts.MaxPacketBytes
			}
			continue
		}
		if err := c.handle(f); err != nil {
			return used, 0, err
		}
	}
	return used, 0, c.checkLogin()
}

// keep moves the rest of the buffer to its front and fits the buffer to the traffic.
// It grows by doubling as bytes arrive: a length alone allocates nothing.
func (c *conn) keep(used, need int, filled bool) {
	rest := c.buf[used:]
	size := cap(c.buf)
	switch {
	case len(rest) == size: // full, and the packet is not whole
		size = min(2*size, max(need, size+1))
	case filled && size < busyRead:
		size *= 2
	case size > busyRead && len(rest) < firstRead && need <= busyRead:
		size = busyRead
	}
	if size != cap(c.buf) {
		c.buf = append(make([]byte, 0, size), rest...)
		return
	}
	c.buf = c.buf[:copy(c.buf[:cap(c.buf)], rest)]
}

func (c *conn) handle(f packet.Frame) error {
	switch f.Type {
	case packet.TypePublish:
		return c.publish(f)
	case packet.TypePuback:
		var a packet.Ack
		if err := a.Decode(f, c.version); err != nil {
			return err
		}
		c.sess.acked(a.PacketID)
		return nil
	case packet.TypePubrel, packet.TypePubrec, packet.TypePubcomp:
		return c.handshake(f)
	case packet.TypeSubscribe:
		return c.subscribe(f)
	case packet.TypeUnsubscribe:
		return c.unsubscribe(f)
	case packet.TypePingreq:
		if err := packet.CheckPing(f); err != nil {
			return err
		}
		return c.answer(func(dst []byte) []byte { return packet.AppendPing(dst, packet.TypePingresp) })
	case packet.TypeDisconnect:
		return c.disconnect(f)
	case packet.TypeAuth:
		return c.authenticate(f)
	case packet.TypeConnect:
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.1.0-2", Text: "second CONNECT"}
	}
	return &packet.Error{Reason: packet.ProtocolError, Text: f.Type.String() + " from a client"}
}

// answer sends one packet; a client that takes nothing any more is cut off.
func (c *conn) answer(encode func([]byte) []byte) error {
	if !c.out.answer(encode) {
		c.srv.refusals.slow.Add(1)
		return &packet.Error{Reason: packet.QuotaExceeded, Text: "client does not read its answers (max_outgoing_bytes)"}
	}
	return nil
}

// gather is called by the writer: it appends the acks that are ready.
func (c *conn) gather(dst []byte) []byte {
	lost := false
	c.acks.take(func(p *pendingAck, err error) {
		a := packet.Ack{Type: p.kind, PacketID: p.id, Reason: p.reason}
		switch {
		case err == nil:
		case p.kind == packet.TypePubcomp: // it cannot say that the release is not stored
			lost = true
			return
		default:
			if a.Reason = ackReason(err); c.problems {
				a.Props.SetBytes(packet.ReasonString, []byte(err.Error()))
			}
		}
		if a.Reason.Failed() && c.version != packet.V5 && p.kind != packet.TypePubcomp {
			return // the connection is being closed
		}
		if c.maxPacket > 0 && a.EncodedLen(c.version) > c.maxPacket { // [MQTT-3.4.2-2]
			a.Props.Reset()
		}
		dst = a.Append(dst, c.version)
	})
	if lost {
		c.kick()
	}
	return dst
}

// write has the writer write all that there is to write.
func (c *conn) write() {
	if err := c.out.write(c.nc, c.srv.opts.WriteTimeout, c.gather, c.drained); err != nil {
		c.kick()
	}
}

// drained is called by the writer after each write.
func (c *conn) drained(n int) {
	c.srv.traffic.bytesOut.Add(uint64(n))
	if s := c.served.Load(); s != nil {
		s.drained()
	}
}

// committed is called once for every group, on the goroutine that commits rounds.
func (c *conn) committed(topic string, count, silent int, err error) {
	if errors.Is(err, record.ErrUnknownTopicOrPartition) {
		c.srv.forgetTopic(topic) // deleted; the client's next try makes it again
	}
	switch {
	case c.testament != nil:
		c.testament.committed(c.srv, err)
	case err == nil:
		c.srv.traffic.committed.Add(uint64(count))
	default:
		c.srv.countRefused(err, count, silent)
		c.srv.storageFailed(err)
	}
	c.out.flush()
}

var _ record.Completion = (*group)(nil)
