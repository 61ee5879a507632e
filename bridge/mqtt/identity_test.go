package mqtt_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// everything is a client that may do everything.
type everything struct{}

func (everything) MayPublish([]byte) bool   { return true }
func (everything) MaySubscribe(string) bool { return true }
func (everything) MayKeep(string) bool      { return true }
func (everything) OnNarrowed(func())        {}
func (everything) Expired() bool            { return false }
func (everything) OnEnd(func())             {}
func (everything) Close()                   {}

// charged is a client that has a quota of so many bytes, after which it owes for ever.
type charged struct {
	everything
	left int
}

func (c *charged) Charged() bool { return true }

func (c *charged) ChargePublish(bytes int, _ time.Time) time.Duration {
	if c.left -= bytes; c.left < 0 || bytes == 0 && c.left == 0 {
		return time.Second
	}
	return 0
}

// within is a client that may use only what begins with a prefix.
type within struct {
	everything
	prefix string
	ended  chan func()
}

func (w within) MayPublish(topic []byte) bool { return strings.HasPrefix(string(topic), w.prefix) }
func (w within) MaySubscribe(filter string) bool {
	return strings.HasPrefix(mqtt.FixedPart(filter), w.prefix)
}
func (w within) OnEnd(end func()) { w.ended <- end }

// A device that is known by its user name, and may use only what bears that name.
func identifyByName(b *box) chan func() {
	ended := make(chan func(), 16)
	b.opts.Identify = func(l mqtt.Login) (mqtt.Identity, error) { return within{prefix: l.UserName + "/", ended: ended}, nil }
	return ended
}

func as(user string) func(*packet.Connect) {
	return func(p *packet.Connect) { p.HasUserName, p.UserName = true, []byte(user) }
}

func TestPublishIsAuthorized(t *testing.T) {
	b := newBox(t)
	identifyByName(b)
	b.start()
	defer b.stop()
	c, _ := b.connect(v5, "c", as("pump"))
	c.send(publish(v5, 1, "pump/temp", "ok"))
	c.expect("PUBACK #1")
	c.send(publish(v5, 2, "tank/temp", "no"))
	c.expect("PUBACK #2 87")
	old, _ := b.connect(v3, "old", as("pump"))
	old.send(publish(v3, 1, "tank/temp", "no"))
	old.expect("closed") // 3.1.1 has no other way to say no
}

func TestSubscribeIsAuthorized(t *testing.T) {
	b := newBox(t)
	identifyByName(b)
	b.start()
	defer b.stop()
	c, _ := b.connect(v5, "c", as("pump"))
	c.send(subscribe(v5, 1, "pump/#", "#", "+/temp", "tank/temp"))
	c.expect("SUBACK #1 01 87 87 87")
	d, _ := b.connect(v3, "d", as("pump"))
	d.send(subscribe(v3, 1, "pump/#", "#"))
	d.expect("SUBACK #1 01 80")
}

func TestWillIsAuthorized(t *testing.T) {
	b := newBox(t)
	identifyByName(b)
	b.start()
	defer b.stop()
	_, got := b.connect(v5, "c", func(p *packet.Connect) {
		as("pump")(p)
		p.HasWill, p.Will.Topic = true, []byte("tank/gone")
	})
	if got != "CONNACK 87" {
		t.Errorf("will on another's topic: %s, want CONNACK 87", got)
	}
}

// A session is not taken over by a user who may not have what it is subscribed to.
func TestResumedSessionsAreAuthorized(t *testing.T) {
	b := newBox(t)
	identifyByName(b)
	b.start()
	defer b.stop()
	c, _ := b.connect(v5, "c", func(p *packet.Connect) { as("pump")(p); keep(p) })
	c.send(subscribe(v5, 1, "pump/#"))
	c.expect("SUBACK #1 01")
	c.send(disconnect())
	c.expect("closed")
	other, got := b.connect(v5, "c", func(p *packet.Connect) { as("tank")(p); keep(p); p.CleanStart = false })
	if got != "CONNACK 00" {
		t.Fatalf("resume: %s, want a new session", got)
	}
	pub, _ := b.connect(v5, "pub", as("pump"))
	pub.send(publish(v5, 1, "pump/secret", "x"))
	pub.expect("PUBACK #1")
	other.send(publish(v5, 1, "tank/x", "y"))
	other.expect("PUBACK #1") // and nothing of the pump's before it
}

// A client whose login ends is disconnected, also while it is silent.
func TestLoginThatEndsClosesTheConnection(t *testing.T) {
	b := newBox(t)
	ended := identifyByName(b)
	b.start()
	defer b.stop()
	c, _ := b.connect(v5, "c", as("pump"))
	(<-ended)()
	c.expect("DISCONNECT 87")
	c.expect("closed")
}
