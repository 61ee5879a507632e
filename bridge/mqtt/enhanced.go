package mqtt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Exchange is one enhanced authentication under way, such as SCRAM.
type Exchange interface {
	// Step takes the client's data and returns the answer to it. The identity is there
	// once the client is known; after an error the exchange is over.
	Step(data []byte) (answer []byte, who Identity, err error)
}

// maxAuthSteps bounds the AUTH packets of one exchange.
const maxAuthSteps = 8

// enhanced is the enhanced authentication of one connection (4.12).
type enhanced struct {
	method   string
	exchange Exchange        // nil: none is under way
	connect  *packet.Connect // that waits for its CONNACK; nil: the client is in already
	steps    int
}

// begin starts the exchange that a CONNECT with an authentication method asks for. c
// goes on with AUTH packets, or with CONNACK if the first data were enough.
func (c *conn) begin(p *packet.Connect, method string) error {
	x, err := c.exchange(method, login(c, p))
	if err != nil {
		return c.deny(err)
	}
	data, _ := p.Props.Bytes(packet.AuthData)
	c.auth = &enhanced{method: method, exchange: x, connect: p}
	return c.step(data)
}

func (c *conn) exchange(method string, l Login) (Exchange, error) {
	if c.srv.opts.Exchange == nil {
		return nil, &packet.Error{Reason: packet.BadAuthenticationMethod, Clause: "MQTT-4.12.0-1", Text: "no enhanced authentication is offered"}
	}
	x, err := c.srv.opts.Exchange(l, method)
	if err != nil {
		return nil, &packet.Error{Reason: packet.BadAuthenticationMethod, Clause: "MQTT-4.12.0-1", Text: fmt.Sprintf("authentication method %.64q: %v", method, err)}
	}
	return x, nil
}

// authenticate takes an AUTH packet: the next step of an exchange, or, once the client
// is in, the first one of another [MQTT-4.12.1-1].
func (c *conn) authenticate(f packet.Frame) error {
	var a packet.Disconnect
	if err := a.Decode(f, c.version); err != nil {
		return err
	}
	method, _ := a.Props.Bytes(packet.AuthMethod)
	data, _ := a.Props.Bytes(packet.AuthData)
	e := c.auth
	switch {
	case e == nil:
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-4.12.0-6", Text: "AUTH after a CONNECT without an authentication method"}
	case string(method) != e.method: // [MQTT-4.12.0-5], [MQTT-4.12.1-1]
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-4.12.0-5", Text: "AUTH with another authentication method than CONNECT"}
	case e.exchange == nil && a.Reason == packet.ReAuthenticate:
		x, err := c.exchange(e.method, Login{ClientID: c.id, Remote: c.nc.RemoteAddr(), TLS: tlsState(c.nc), Takes: c.door.Takes})
		if err != nil {
			return err
		}
		e.exchange, e.steps = x, 0
	case e.exchange == nil || a.Reason != packet.ContinueAuthentication:
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.15.2-1", Text: "AUTH with " + a.Reason.String() + " out of turn"}
	}
	return c.step(data)
}

// step gives the exchange the client's data and tells the client what came of it.
func (c *conn) step(data []byte) error {
	e := c.auth
	if e.steps++; e.steps > maxAuthSteps {
		return c.unauthenticated(errors.New("the exchange has no end"))
	}
	answer, who, err := e.exchange.Step(data)
	if err != nil {
		return c.unauthenticated(err)
	}
	if who == nil { // [MQTT-4.12.0-2]
		return c.sendAuth(packet.ContinueAuthentication, answer)
	}
	e.exchange = nil
	if p := e.connect; p != nil {
		e.connect = nil
		if err := c.become(who, p); err != nil {
			return c.deny(err)
		}
		return c.accepted(p, answer)
	}
	c.forgetIdentity()
	if err := c.become(who, &packet.Connect{}); err != nil {
		return err
	}
	return c.sendAuth(packet.Success, answer)
}

// unauthenticated ends a connection whose exchange has failed: with CONNACK before the
// client is in, with DISCONNECT after that ([MQTT-4.12.0-4], [MQTT-4.12.1-2]).
func (c *conn) unauthenticated(err error) error {
	var slow *Refusal
	if errors.As(err, &slow) {
		c.holdBack(slow.After)
	}
	c.srv.refusals.logins.Add(1)
	pe := c.unknown(err, packet.NotAuthorized)
	pe.Clause = cmp.Or(pe.Clause, "MQTT-4.12.0-4")
	if c.auth.connect != nil {
		return c.deny(pe)
	}
	return pe
}

func (c *conn) sendAuth(reason packet.Reason, data []byte) error {
	a := packet.Disconnect{Type: packet.TypeAuth, Reason: reason}
	a.Props.SetBytes(packet.AuthMethod, []byte(c.auth.method))
	if data != nil {
		a.Props.SetBytes(packet.AuthData, data)
	}
	return c.answer(func(dst []byte) []byte { return a.Append(dst, c.version) })
}

// keepConnect is a CONNECT that outlives the bytes that it came in.
func keepConnect(f packet.Frame) (*packet.Connect, error) {
	f.Body = bytes.Clone(f.Body)
	p := new(packet.Connect)
	return p, p.Decode(f)
}
