package device

import (
	"fmt"
	"sync"
	"time"
)

// What the last minutes are, and how often they are looked at.
const (
	sampleInterval = 10 * time.Second
	samples        = 31 // five minutes
	// forecastAfter is how long is measured before a forecast is made of it.
	forecastAfter = 10 * time.Minute
)

const day = 24 * time.Hour

// Options configures Measure. Device and Payload are required.
type Options struct {
	Device *Device
	// Payload is how many bytes the log has been given; it only grows.
	Payload func() uint64
	// Endurance is how many bytes the device stands (its TBW); 0 if that is not known.
	Endurance int64
	// Lifetime is how long it is to stand that.
	Lifetime time.Duration
	// Written replaces the device's counter; nil: Device.Written.
	Written func() (int64, error)
}

// Meter measures a device while a log is open. Its methods may be called concurrently.
type Meter struct {
	opts  Options
	start sample

	mu     sync.Mutex // guards ring
	ring   []sample   // the oldest first
	stop   chan struct{}
	ended  chan struct{}
	closed sync.Once
}

type sample struct {
	at      time.Time
	written int64
	payload int64
}

// Measure begins to measure, until Close.
func Measure(o Options) (*Meter, error) {
	if o.Written == nil {
		o.Written = o.Device.Written
	}
	m := &Meter{opts: o, stop: make(chan struct{}), ended: make(chan struct{})}
	var err error
	if m.start, err = m.sample(); err != nil {
		return nil, err
	}
	m.ring = append(m.ring, m.start)
	go m.watch()
	return m, nil
}

func (m *Meter) sample() (sample, error) {
	written, err := m.opts.Written()
	return sample{time.Now(), written, int64(m.opts.Payload())}, err
}

func (m *Meter) watch() {
	defer close(m.ended)
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.look()
		case <-m.stop:
			return
		}
	}
}

func (m *Meter) look() {
	s, err := m.sample()
	if err != nil {
		return // it answered at first: the next time it will again
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ring) == samples {
		m.ring = append(m.ring[:0], m.ring[1:]...)
	}
	m.ring = append(m.ring, s)
}

// Close ends the measurement. It may be called twice.
func (m *Meter) Close() {
	m.closed.Do(func() { close(m.stop); <-m.ended })
}

// Status is the device's part of GET /v1/status. Other programs' writes to the same
// device are in it.
type Status struct {
	Device              string  `json:"device"`
	WrittenBytes        int64   `json:"written_bytes"`        // since the start
	PayloadBytes        int64   `json:"payload_bytes"`        // given to the log since the start
	Amplification       float64 `json:"amplification"`        // written per payload byte since the start; 0 without payload
	RecentAmplification float64 `json:"recent_amplification"` // the same of the last minutes
	BytesPerDay         float64 `json:"bytes_per_day"`        // at the rate since the start
	// WornOutDays is in how many days so much was written as the device stands, at the
	// rate since the start, from new; 0 while that is not known.
	WornOutDays float64 `json:"worn_out_days,omitempty"`
	Warning     string  `json:"warning,omitempty"` // it will not last as long as it is to
}

// Status is what has been measured. A counter that fails says what it last said.
func (m *Meter) Status() Status {
	m.mu.Lock()
	oldest, last := m.ring[0], m.ring[len(m.ring)-1]
	m.mu.Unlock()
	if now, err := m.sample(); err == nil {
		last = now
	}
	st := Status{
		Device: m.opts.Device.Name, WrittenBytes: last.written - m.start.written, PayloadBytes: last.payload - m.start.payload,
		Amplification: amplification(m.start, last), RecentAmplification: amplification(oldest, last),
	}
	took := last.at.Sub(m.start.at)
	if took > 0 {
		st.BytesPerDay = float64(st.WrittenBytes) / took.Seconds() * day.Seconds()
	}
	if m.opts.Endurance > 0 && took >= forecastAfter && st.BytesPerDay > 0 {
		m.forecast(&st)
	}
	return st
}

func (m *Meter) forecast(st *Status) {
	st.WornOutDays = float64(m.opts.Endurance) / st.BytesPerDay
	if lifetime := m.opts.Lifetime.Hours() / 24; st.WornOutDays < lifetime {
		st.Warning = fmt.Sprintf("at %.1f GB a day, %.1f for each byte of payload, %s is worn out after %.0f days, it is to last %.0f: "+
			"take storage.commit.profile flash or wear, or larger batches", st.BytesPerDay/1e9, st.Amplification, st.Device, st.WornOutDays, lifetime)
	}
}

func amplification(from, to sample) float64 {
	if to.payload <= from.payload {
		return 0
	}
	return float64(to.written-from.written) / float64(to.payload-from.payload)
}
