package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// maxBehind is how much of its schedule a device that was held up catches up on.
const maxBehind = time.Second

// device is one simulated sensor. All its fields but the outbox belong to the
// goroutine of run.
type device struct {
	fleet  *Fleet
	index  int
	name   string
	topic  string
	bad    bool
	rng    *rand.Rand
	source source
	outbox outbox

	seq        int64
	connects   int
	client     mqtt.Client
	lost       chan struct{} // closed when the client's connection is lost
	nextSample time.Time
}

// run publishes until ctx ends and then, until drain ends, gets the rest acked.
func (d *device) run(ctx, drain context.Context) {
	defer d.disconnect()
	d.schedule()
	for ctx.Err() == nil {
		if !d.online() && !d.connect(ctx) {
			continue
		}
		if !d.waitTurn(ctx) || !d.waitSpace(ctx) || !d.online() {
			continue
		}
		d.publish()
	}
	for d.outbox.len() > 0 && drain.Err() == nil {
		if d.online() || d.connect(drain) {
			d.waitAcks(drain)
		}
	}
}

func (d *device) online() bool { return d.client != nil && d.client.IsConnectionOpen() }

// connect makes one attempt, with a pause after a failure.
func (d *device) connect(ctx context.Context) bool {
	select {
	case d.fleet.dialing <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	d.disconnect()
	err := d.dial()
	<-d.fleet.dialing
	if err != nil {
		d.fleet.failed(fmt.Errorf("%s: %w", d.name, err))
		d.fleet.connFailed.Add(1)
		d.pause(ctx)
		return false
	}
	d.fleet.connected.Add(1)
	if d.connects++; d.connects > 1 {
		d.fleet.reconnects.Add(1)
	}
	return true
}

// dial makes a new paho client over the same outbox: its Connect resends the
// outbox in order and returns after that, so no new reading can overtake an old
// one. (A paho client that reconnects by itself resends concurrently with new
// publishes.)
func (d *device) dial() error {
	o, lost := &d.fleet.opts, make(chan struct{})
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + o.Broker).
		SetClientID(d.name).
		SetProtocolVersion(4).
		SetCleanSession(false).
		SetAutoReconnect(false).
		SetKeepAlive(30 * time.Second).
		SetConnectTimeout(o.ConnectTimeout).
		SetWriteTimeout(o.WriteTimeout).
		SetOrderMatters(false).
		SetStore(&d.outbox).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			c, err := net.DialTimeout("tcp", o.Broker, o.ConnectTimeout)
			if err != nil {
				return nil, err
			}
			return &brittleConn{Conn: c}, nil
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			d.fleet.failed(fmt.Errorf("%s: connection lost: %w", d.name, err))
			close(lost)
		}))
	pending := d.outbox.len()
	token := client.Connect()
	if !token.WaitTimeout(2 * o.ConnectTimeout) {
		client.Disconnect(0)
		return fmt.Errorf("no CONNACK from %s within %v", o.Broker, 2*o.ConnectTimeout)
	}
	if err := token.Error(); err != nil {
		return err
	}
	d.fleet.resent.Add(int64(pending))
	if !client.IsConnectionOpen() {
		return fmt.Errorf("connection to %s lost while resending", o.Broker)
	}
	d.client, d.lost = client, lost
	return nil
}

// brittleConn closes itself when a write fails. paho goes on to write the next
// message after one that ran into its write timeout, which would leave a hole in
// the order of readings.
type brittleConn struct{ net.Conn }

func (c *brittleConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Close()
	}
	return n, err
}

// pause waits between half of and the whole maximal backoff, so that a fleet
// does not return in one wave.
func (d *device) pause(ctx context.Context) {
	half := d.fleet.opts.MaxBackoff / 2
	sleep(ctx, half+time.Duration(d.rng.Int64N(int64(half)+1)))
}

func (d *device) disconnect() {
	if d.client != nil {
		d.client.Disconnect(250)
		d.client = nil
		d.fleet.connected.Add(-1)
	}
}

func (d *device) publish() {
	d.seq++
	payload := d.source.next(time.Now()).payload(d.name, d.seq)
	if d.bad {
		payload = spoil(payload, d.seq)
	}
	d.outbox.stage(d.seq)
	// The token is no ack: paho completes it also when the reading is sent again
	// on a new connection. The outbox sees the PUBACK.
	token := d.client.Publish(d.topic, 1, false, payload)
	if d.outbox.unstage() {
		d.seq-- // refused before it was stored: the next reading takes the number
	}
	if token.Error() != nil {
		// paho gave up handing it to the connection, which may live on: the next
		// reading would overtake this one.
		d.disconnect()
	}
}

// schedule spreads the devices evenly over their first interval.
func (d *device) schedule() {
	d.nextSample = time.Now()
	if rate := d.fleet.opts.Rate; rate > 0 {
		d.nextSample = d.nextSample.Add(time.Duration(d.rng.Float64() / rate * float64(time.Second)))
	}
}

func (d *device) waitTurn(ctx context.Context) bool {
	rate := d.fleet.opts.Rate
	if rate == 0 {
		return true
	}
	now := time.Now()
	if wait := d.nextSample.Sub(now); wait > 0 && !sleep(ctx, wait) {
		return false
	}
	if oldest := now.Add(-maxBehind); d.nextSample.Before(oldest) {
		d.nextSample = oldest
	}
	d.nextSample = d.nextSample.Add(time.Duration(float64(time.Second) / rate))
	return true
}

func (d *device) waitSpace(ctx context.Context) bool {
	for d.outbox.len() >= d.fleet.opts.Window {
		select {
		case <-d.outbox.space:
		case <-d.lost:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (d *device) waitAcks(ctx context.Context) {
	for d.outbox.len() > 0 {
		select {
		case <-d.outbox.space:
		case <-d.lost:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
