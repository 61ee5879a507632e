package mqtt_test

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// riddle is an exchange of two steps: the client says a name, is asked for the same
// backwards, and is in.
type riddle struct{ name string }

func (r *riddle) Step(data []byte) ([]byte, mqtt.Identity, error) {
	if r.name == "" {
		r.name = string(data)
		return []byte("backwards " + r.name), nil, nil
	}
	for i := range r.name {
		if len(data) != len(r.name) || data[len(data)-1-i] != r.name[i] {
			return nil, nil, errors.New("wrong answer")
		}
	}
	return []byte("welcome"), everything{}, nil
}

func auth(reason packet.Reason, method, data string) []byte {
	a := packet.Disconnect{Type: packet.TypeAuth, Reason: reason}
	a.Props.SetBytes(packet.AuthMethod, []byte(method))
	a.Props.SetBytes(packet.AuthData, []byte(data))
	return a.Append(nil, v5)
}

func by(method, data string) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.Props.SetBytes(packet.AuthMethod, []byte(method))
		p.Props.SetBytes(packet.AuthData, []byte(data))
	}
}

// Enhanced authentication, before CONNACK and again after it (4.12).
func TestEnhancedAuthentication(t *testing.T) {
	b := newBox(t)
	b.opts.Exchange = func(l mqtt.Login, method string) (mqtt.Exchange, error) {
		if method != "RIDDLE" {
			return nil, errors.New("unknown")
		}
		return &riddle{}, nil
	}
	b.start()
	defer b.stop()
	const more = packet.ContinueAuthentication
	in := func() *client {
		t.Helper()
		c, got := b.connect(v5, "c", by("RIDDLE", "abc"))
		if got != "AUTH 18 RIDDLE backwards abc" {
			t.Fatal(got)
		}
		c.send(auth(more, "RIDDLE", "cba"))
		c.expect("CONNACK 00")
		return c
	}
	c := in()
	c.send(publish(v5, 1, "t", "x"), auth(packet.ReAuthenticate, "RIDDLE", "ab"))
	c.anyOrder("AUTH 18 RIDDLE backwards ab", "PUBACK #1")
	c.send(publish(v5, 2, "t", "x"), auth(more, "RIDDLE", "ba")) // messages go on meanwhile
	c.anyOrder("AUTH 00 RIDDLE welcome", "PUBACK #2")
	for _, bad := range []struct {
		name string
		send []byte
		want string
	}{
		{"wrong answer", auth(packet.ReAuthenticate, "RIDDLE", "ab"), "AUTH 18 RIDDLE backwards ab"},
		{"out of turn", auth(more, "RIDDLE", "x"), "DISCONNECT 82"},
		{"another method", auth(packet.ReAuthenticate, "OTHER", "x"), "DISCONNECT 82"},
	} {
		c := in()
		c.send(bad.send)
		c.expect(bad.want)
		if bad.want != "DISCONNECT 82" {
			c.send(auth(more, "RIDDLE", "no"))
			c.expect("DISCONNECT 87")
		}
		if got := c.next(); got != "closed" {
			t.Errorf("%s: %s", bad.name, got)
		}
	}
	for _, bad := range []struct {
		send []byte
		want string
	}{
		{auth(more, "RIDDLE", "no"), "CONNACK 87"},
		{auth(more, "OTHER", "cba"), "closed"},
		{publish(v5, 1, "t", "x"), "closed"},
		{disconnect(), "closed"},
	} {
		c, _ := b.connect(v5, "c", by("RIDDLE", "abc"))
		c.send(bad.send)
		if got := c.next(); got != bad.want {
			t.Errorf("%x: %s, want %s", bad.send, got, bad.want)
		}
	}
	if _, got := b.connect(v5, "c", by("OTHER", "x")); got != "CONNACK 8c" {
		t.Errorf("unknown method: %s", got)
	}
	plain := b.client(v5, "plain")
	plain.send(auth(packet.ReAuthenticate, "RIDDLE", "x"))
	plain.expect("DISCONNECT 82", "closed")
}
