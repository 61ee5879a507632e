// Package upstream joins Weir's MQTT side with a broker that the site has already: it
// subscribes there and publishes here, and the other way round.
//
// A [Link] is two MQTT clients, one of that broker and one of Weir's own, and a pump
// for each direction. So what comes from there is a message like any other: the same
// routes, retained messages and subscribers. A pump acknowledges a message to the
// broker that it came from once the other has acknowledged it, which for Weir means
// that it is on the disk. Until then it counts as in flight; when as many as allowed
// are, nothing more is taken and that broker keeps the rest in its session. Nothing is
// dropped on the way, also over days without the link; a message may come twice after
// a connection was lost, as QoS 1 says.
//
// The clients speak MQTT 5, in which a receiver says why it refuses a message. One that
// it will never take is acknowledged, counted and logged, so that it does not block what
// is behind it; one that it does not take now is held and tried again (refusal.go). A
// broker that knows only MQTT 3.1.1 is spoken to in that.
//
// Both sessions are persistent. When either connection is lost both are closed and made
// anew, so that no state of the clients outlives them: what was not acknowledged is
// delivered again.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// Limits and defaults; those with an Options field can be changed.
const (
	DefaultMaxInFlight = 256
	MaxInFlight        = 16_384
	DefaultKeepAlive   = 30 * time.Second
	DefaultMaxBackoff  = time.Minute
	// MaxSubscriptions bounds each direction of a link.
	MaxSubscriptions = 256

	minBackoff     = 500 * time.Millisecond
	connectTimeout = 15 * time.Second
	writeTimeout   = 30 * time.Second
	// stallAfter is for how long nothing must be acknowledged of what is in flight for
	// the link to be called stalled.
	stallAfter = 15 * time.Second
)

// Options of a Link.
type Options struct {
	// Name tells links apart; it is in the default client identifier.
	Name string
	// URL of the broker: mqtt://HOST:PORT, mqtts://, ws:// or wss://.
	URL string
	// ClientID at that broker; "" is made of Site and Name. It must not change: the
	// broker's session with what was not delivered hangs on it.
	ClientID string
	Site     string
	Username string
	Password string
	TLS      *tls.Config // for mqtts and wss; nil: the system's authorities

	In  []Subscription // there -> Weir
	Out []Subscription // Weir -> there

	MaxInFlight int           // messages in flight in each direction; 0: DefaultMaxInFlight
	KeepAlive   time.Duration // 0: DefaultKeepAlive
	MaxBackoff  time.Duration // between attempts to connect; 0: DefaultMaxBackoff

	// Local opens a connection to Weir's own MQTT server, LocalUsername and
	// LocalPassword are what it asks for.
	Local                        func() (net.Conn, error)
	LocalUsername, LocalPassword string

	Log *slog.Logger // nil: no log

	dial func() (net.Conn, error) // of tests: to the broker, in place of URL
}

// Subscription is the messages of one direction.
type Subscription struct {
	// Filter is an MQTT topic filter.
	Filter string
	// QoS is 0 or 1.
	QoS byte
	// A topic name is Remote and what Filter matches at the broker, Local and the same
	// in Weir: with Remote "factory/" and Local "site7/", factory/pump there is
	// site7/pump here, in both directions.
	Local, Remote string
}

func (o Options) withDefaults() Options {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.KeepAlive = cmp.Or(o.KeepAlive, DefaultKeepAlive)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, DefaultMaxBackoff)
	if o.ClientID == "" {
		o.ClientID = "weir." + o.Site + "." + o.Name
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports the first option that cannot be. It opens nothing.
func (o Options) Validate() error {
	if o.Name == "" || strings.ContainsAny(o.Name, "/+#\x00 ") {
		return fmt.Errorf("upstream: name %q: use letters, digits, '-', '_' and '.'", o.Name)
	}
	if err := o.validate(); err != nil {
		return fmt.Errorf("upstream %s: %w", o.Name, err)
	}
	return nil
}

func (o Options) validate() error {
	if _, err := o.server(); err != nil {
		return err
	}
	if o.MaxInFlight < 0 || o.MaxInFlight > MaxInFlight {
		return fmt.Errorf("max_inflight is %d, it must be 1 to %d", o.MaxInFlight, MaxInFlight)
	}
	if len(o.In)+len(o.Out) == 0 {
		return errors.New("there is neither in nor out: say which topics to subscribe to there, or to publish there")
	}
	if n := max(len(o.In), len(o.Out)); n > MaxSubscriptions {
		return fmt.Errorf("%d filters in one direction, the limit is %d", n, MaxSubscriptions)
	}
	for _, s := range append(append([]Subscription(nil), o.In...), o.Out...) {
		if err := s.validate(); err != nil {
			return err
		}
	}
	for _, in := range o.In {
		for _, out := range o.Out {
			if intersects(in.remoteFilter(), out.remoteFilter()) && intersects(in.localFilter(), out.localFilter()) {
				return fmt.Errorf("in %q and out %q have topics in common: a message would go round for ever; keep them apart by other filters or prefixes", in.Filter, out.Filter)
			}
		}
	}
	return nil
}

// server is the broker's URL as the client library wants it.
func (o Options) server() (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	scheme, ok := map[string]string{"mqtt": "tcp", "tcp": "tcp", "mqtts": "ssl", "ssl": "ssl", "ws": "ws", "wss": "wss"}[u.Scheme]
	switch {
	case !ok:
		return "", fmt.Errorf("url %q: the scheme must be mqtt, mqtts, ws or wss", o.URL)
	case u.Host == "":
		return "", fmt.Errorf("url %q has no host", o.URL)
	case u.User != nil:
		return "", fmt.Errorf("url of %s holds a user; give username and password by their own keys", u.Host)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"tcp": "1883", "ssl": "8883", "ws": "80", "wss": "443"}[scheme])
	}
	u.Scheme = scheme
	return u.String(), nil
}

// Link is one upstream broker. Its methods may be called concurrently.
type Link struct {
	opts    Options
	cancel  context.CancelFunc
	done    chan struct{}
	in, out counts

	mu     sync.Mutex // guards what follows
	state  State
	since  time.Time
	reason string // why it is not connected
}

// Start begins to connect, and returns at once: the broker may be away for days.
func Start(o Options) (*Link, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Link{opts: o, cancel: cancel, done: make(chan struct{}), state: Connecting, since: time.Now()}
	go l.run(ctx)
	return l, nil
}

// Close ends the link and returns when its goroutines have ended. Sessions stay.
func (l *Link) Close() error {
	l.cancel()
	<-l.done
	return nil
}

// run keeps both connections up.
func (l *Link) run(ctx context.Context) {
	defer close(l.done)
	pause := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := l.live(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > l.opts.MaxBackoff {
			pause = minBackoff
		}
		l.set(Connecting, err.Error())
		l.opts.Log.Warn("upstream: not connected", "upstream", l.opts.Name, "err", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, l.opts.MaxBackoff)
	}
}

// live is one life of both connections; the error is why it ended.
func (l *Link) live(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in, out := l.newPump(ctx, l.opts.In, there, &l.in), l.newPump(ctx, l.opts.Out, here, &l.out)
	// What comes in is published here, and acknowledged there once it was acknowledged here.
	remote, err := l.dialRemote(traffic{receive: in.take, settle: out.settle,
		lost: func(err error) { cancel(fmt.Errorf("connection to %s lost: %w", l.opts.URL, err)) }})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer remote.close()
	local, err := l.dialLocal(traffic{receive: out.take, settle: in.settle,
		lost: func(err error) { cancel(fmt.Errorf("connection to Weir's own MQTT server lost: %w", err)) }})
	if err != nil {
		cancel(nil) // before close: a handler may wait for room
		return err
	}
	defer local.close()
	running.Go(func() { in.run(local, cancel) })
	running.Go(func() { out.run(remote, cancel) })
	defer cancel(nil)
	if err := errors.Join(subscribe(ctx, remote, l.opts.In, Subscription.remoteFilter), subscribe(ctx, local, l.opts.Out, Subscription.localFilter)); err != nil {
		return err
	}
	l.set(Connected, "")
	l.opts.Log.Info("upstream: connected", "upstream", l.opts.Name, "url", l.opts.URL, "mqtt", remote.version())
	<-ctx.Done()
	return context.Cause(ctx)
}

// Metrics writes the link's figures.
func Metrics(w *metric.Writer, links []*Link) {
	for _, l := range links {
		st := l.Status()
		connected := 0.0
		if st.State != Connecting {
			connected = 1
		}
		w.Gauge("weir_upstream_connected", "Whether the upstream broker is connected.", connected, "upstream", st.Name)
	}
	directions := func(add func(name, direction string, d Direction)) {
		for _, l := range links {
			st := l.Status()
			add(st.Name, "in", st.In)
			add(st.Name, "out", st.Out)
		}
	}
	directions(func(name, direction string, d Direction) {
		w.Counter("weir_upstream_messages_total", "Messages that were carried and acknowledged.", float64(d.Messages), "upstream", name, "direction", direction)
	})
	directions(func(name, direction string, d Direction) {
		w.Gauge("weir_upstream_inflight", "Messages that are not acknowledged yet.", float64(d.InFlight), "upstream", name, "direction", direction)
	})
	directions(func(name, direction string, d Direction) {
		w.Gauge("weir_upstream_stalled_seconds", "For how long nothing was acknowledged though messages are in flight; 0 when none is.", d.without().Seconds(), "upstream", name, "direction", direction)
	})
	directions(func(name, direction string, d Direction) {
		w.Gauge("weir_upstream_held", "Messages of those in flight that the receiver refused for now, and that are tried again.", float64(d.Held), "upstream", name, "direction", direction)
	})
	directions(func(name, direction string, d Direction) {
		for _, r := range forGood {
			w.Counter("weir_upstream_refused_total", "Messages that the receiver refused for good, and that are not on its side, by reason.", float64(d.Refused[label(r)]), "upstream", name, "direction", direction, "reason", label(r))
		}
	})
	directions(func(name, direction string, d Direction) {
		w.Counter("weir_upstream_unmapped_total", "Messages of an earlier configuration's filters, which were passed over.", float64(d.Unmapped), "upstream", name, "direction", direction)
	})
}
