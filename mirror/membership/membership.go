// Package membership is the sites' gossip: which sites exist, which are alive,
// what they say of themselves and how far away they are. It is hashicorp/serf
// with what an appliance needs around it: it starts without a network, joins when
// there is one, bounds its queues, and never opens to a network unencrypted.
//
// Gossip decides nothing. Mirroring works without it; a member that is failed
// here may be well and only cut off from us.
package membership

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	// MaxTagBytes bounds all tags of a member together, names and values.
	MaxTagBytes = 400
	// MaxMembers bounds what Members returns.
	MaxMembers = 10_000
	// DefaultBind is where members listen, TCP and UDP.
	DefaultBind = "127.0.0.1:7946"

	eventQueue   = 256
	recentEvents = 64
	retryMin     = time.Second
	retryMax     = time.Minute
)

// Options is how a site takes part.
type Options struct {
	// Site is the member's name, unique in the fleet: letters, digits, '-', '_' and '.'.
	Site string `yaml:"site"`
	// Bind is host:port for TCP and UDP; "" means DefaultBind, port 0 picks one.
	Bind string `yaml:"bind"`
	// Advertise is what others dial if it is not Bind: behind a port forward.
	Advertise string `yaml:"advertise"`
	// Join is host:port of some members. It may hold this member itself.
	Join []string `yaml:"join"`
	// Tags is what this site says of itself, at most MaxTagBytes.
	Tags map[string]string `yaml:"tags"`
	// Keys encrypts the gossip: base64 of 16, 24 or 32 bytes each. The first is
	// used, all are understood, so keys can be rotated. Required unless Bind is
	// a loopback address.
	Keys []string `yaml:"keys"`
	// Logger gets what serf has to say; nil discards it.
	Logger *slog.Logger `yaml:"-"`

	tune func(*memberlist.Config) // test seam: faster probes
}

// Validate says what is wrong and how to mend it.
func (o Options) Validate() error {
	_, err := o.config()
	return err
}

// Status is one word for where a member stands.
type Status string

const (
	Alive   Status = "alive"
	Leaving Status = "leaving"
	Left    Status = "left"
	Failed  Status = "failed"
	None    Status = "none"
)

// Member is one site.
type Member struct {
	Name   string            `json:"name"`
	Addr   string            `json:"addr"`
	Status Status            `json:"status"`
	Tags   map[string]string `json:"tags,omitempty"`
	// RTTMs is the estimated round trip, 0 while unknown and for the site itself.
	RTTMs float64 `json:"rtt_ms"`
	Self  bool    `json:"self,omitempty"`
}

// Event is a change of one member.
type Event struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Status Status    `json:"status"`
}

// Report is what a site knows of the fleet, for GET /v1/status.
type Report struct {
	Members []Member `json:"members"`
	Events  []Event  `json:"events,omitempty"` // the latest, oldest first
	// Problem is why this site does not take part (yet), "" when it does.
	Problem string `json:"problem,omitempty"`
}

// Membership is this site's part in the gossip. All methods may be called concurrently.
type Membership struct {
	opts   Options
	log    *slog.Logger
	events chan serf.Event
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	serf    *serf.Serf // nil until the network let it start
	recent  []Event
	problem string
}

// Start takes part. It binds if it can and returns without waiting for others,
// without a network, too: binding and joining are tried until they work. An
// error is one of the options.
func Start(o Options) (*Membership, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Membership{opts: o, log: o.Logger, events: make(chan serf.Event, eventQueue), done: make(chan struct{}), problem: "starting"}
	m.wg.Go(m.watch)
	if _, err := m.bind(); err != nil {
		m.problem = err.Error()
	}
	m.wg.Go(m.takePart)
	return m, nil
}

// Close tells the others that this site leaves, which takes a second or so, and
// returns once everything has ended.
func (m *Membership) Close() error { return m.end(true) }

func (m *Membership) end(leave bool) (err error) {
	m.once.Do(func() {
		close(m.done)
		m.mu.Lock()
		s := m.serf
		m.mu.Unlock()
		if s != nil && leave {
			err = s.Leave()
		}
		m.wg.Wait()
		// takePart may have started it in between.
		if s = m.current(); s != nil {
			err = errors.Join(err, s.Shutdown())
			<-s.ShutdownCh()
		}
	})
	return err
}

func (m *Membership) current() *serf.Serf {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serf
}

// Addr is where this member listens, "" while it does not.
func (m *Membership) Addr() string {
	s := m.current()
	if s == nil {
		return ""
	}
	self := s.LocalMember()
	return net.JoinHostPort(self.Addr.String(), strconv.Itoa(int(self.Port)))
}

// Members is the fleet as it is known here, by name.
func (m *Membership) Members() []Member {
	s := m.current()
	if s == nil {
		return []Member{{Name: m.opts.Site, Status: None, Tags: maps.Clone(m.opts.Tags), Self: true}}
	}
	here, _ := s.GetCoordinate()
	var out []Member
	for _, x := range s.Members() {
		y := Member{
			Name: x.Name, Addr: net.JoinHostPort(x.Addr.String(), strconv.Itoa(int(x.Port))),
			Status: Status(x.Status.String()), Tags: maps.Clone(x.Tags), Self: x.Name == m.opts.Site,
		}
		if there, ok := s.GetCachedCoordinate(x.Name); ok && here != nil && !y.Self {
			y.RTTMs = float64(here.DistanceTo(there)) / float64(time.Millisecond)
		}
		if out = append(out, y); len(out) == MaxMembers {
			break
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Status is the fleet, the latest changes and what is wrong.
func (m *Membership) Status() Report {
	members := m.Members()
	m.mu.Lock()
	defer m.mu.Unlock()
	return Report{Members: members, Events: slices.Clone(m.recent), Problem: m.problem}
}

// watch drains serf's events, which would block its gossip if nobody did.
func (m *Membership) watch() {
	for {
		select {
		case <-m.done:
			return
		case e := <-m.events:
			if change, ok := e.(serf.MemberEvent); ok {
				m.note(change)
			}
		}
	}
}

func (m *Membership) note(e serf.MemberEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range e.Members {
		status := Status(x.Status.String())
		m.log.Info("membership: member is "+string(status), "member", x.Name)
		m.recent = append(m.recent, Event{Time: time.Now().UTC(), Name: x.Name, Status: status})
	}
	if n := len(m.recent) - recentEvents; n > 0 {
		m.recent = slices.Delete(m.recent, 0, n)
	}
}

// takePart starts serf and joins, and joins again whenever this site is alone.
func (m *Membership) takePart() {
	for tries := 0; ; tries++ {
		err := m.join()
		m.mu.Lock()
		if m.problem = ""; err != nil {
			m.problem = err.Error()
		}
		m.mu.Unlock()
		wait := retryMax
		if err != nil {
			m.log.Debug("membership: not joined", "err", err)
			wait = min(retryMax, retryMin<<min(tries, 10))
		} else {
			tries = 0
		}
		t := time.NewTimer(wait/2 + rand.N(wait/2)) // a fleet must not come back in step
		select {
		case <-m.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// bind starts serf if it is not started yet.
func (m *Membership) bind() (*serf.Serf, error) {
	if s := m.current(); s != nil {
		return s, nil
	}
	conf, err := m.opts.config()
	if err != nil {
		return nil, err
	}
	conf.EventCh = m.events
	s, err := serf.Create(conf)
	if err != nil {
		return nil, fmt.Errorf("membership: start: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serf = s
	return s, nil
}

// join makes one attempt at what is still missing.
func (m *Membership) join() error {
	s, err := m.bind()
	if err != nil {
		return err
	}
	if len(m.opts.Join) == 0 || !alone(s) {
		return nil
	}
	if _, err := s.Join(m.opts.Join, true); err != nil {
		return fmt.Errorf("membership: join: %w", err)
	}
	return nil
}

func alone(s *serf.Serf) bool {
	n := 0
	for _, x := range s.Members() {
		if x.Status == serf.StatusAlive {
			n++
		}
	}
	return n < 2
}

// config turns the options into serf's and checks them.
func (o Options) config() (*serf.Config, error) {
	var errs []error
	conf := serf.DefaultConfig()
	conf.Init()
	conf.NodeName, conf.Tags = o.Site, maps.Clone(o.Tags)
	conf.ValidateNodeNames, conf.MsgpackUseNewTimeFormat = true, true
	conf.MaxQueueDepth = 4096
	conf.MemberlistConfig = memberlist.DefaultWANConfig()
	if o.Site == "" || len(o.Site) > 64 || strings.IndexFunc(o.Site, func(r rune) bool { return !strings.ContainsRune(nameLetters, r) }) >= 0 {
		errs = append(errs, fmt.Errorf("membership: site %q: want 1-64 letters, digits, '-', '_' or '.'", o.Site))
	}
	size := 0
	for k, v := range o.Tags {
		size += len(k) + len(v)
	}
	if size > MaxTagBytes {
		errs = append(errs, fmt.Errorf("membership: tags take %d bytes, at most %d", size, MaxTagBytes))
	}
	ml := conf.MemberlistConfig
	bind := o.Bind
	if bind == "" {
		bind = DefaultBind
	}
	var err error
	if ml.BindAddr, ml.BindPort, err = hostPort(bind); err != nil {
		errs = append(errs, fmt.Errorf("membership: bind %q: %w", bind, err))
	}
	ml.AdvertisePort = ml.BindPort
	if o.Advertise != "" {
		if ml.AdvertiseAddr, ml.AdvertisePort, err = hostPort(o.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("membership: advertise %q: %w", o.Advertise, err))
		}
	}
	if ml.Keyring, err = o.keyring(); err != nil {
		errs = append(errs, err)
	}
	if ip := net.ParseIP(ml.BindAddr); len(o.Keys) == 0 && (ip == nil || !ip.IsLoopback()) {
		errs = append(errs, fmt.Errorf("membership: bind %q is not a loopback address, so keys are required: make one with \"openssl rand -base64 32\"", bind))
	}
	logger := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if o.Logger != nil {
		logger = slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug)
	}
	conf.Logger, ml.Logger = logger, logger
	if o.tune != nil {
		o.tune(ml)
	}
	return conf, errors.Join(errs...)
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func hostPort(s string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	if net.ParseIP(host) == nil {
		return "", 0, errors.New("want an IP address and a port")
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, int(n), err
}

func (o Options) keyring() (*memberlist.Keyring, error) {
	if len(o.Keys) == 0 {
		return nil, nil
	}
	keys := make([][]byte, len(o.Keys))
	for i, text := range o.Keys {
		key, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = memberlist.ValidateKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("membership: key %d: want base64 of 16, 24 or 32 bytes: %w", i+1, err)
		}
		keys[i] = key
	}
	return memberlist.NewKeyring(keys, keys[0])
}
