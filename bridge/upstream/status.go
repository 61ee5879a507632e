package upstream

import "time"

// State is what a link is doing.
type State string

// The states of a link.
const (
	Connecting State = "connecting" // or waiting for the next attempt
	Connected  State = "connected"
	// Stalled is connected without progress: messages are in flight, and nothing was
	// acknowledged for a while.
	Stalled State = "stalled"
)

// Status is a snapshot for GET /v1/status.
type Status struct {
	Name  string    `json:"name"`
	URL   string    `json:"url"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"` // why it is not connected, or why messages are held
	In    Direction `json:"in"`
	Out   Direction `json:"out"`
}

// Direction is the messages of one direction since the start.
type Direction struct {
	Messages int64 `json:"messages"` // carried and acknowledged
	InFlight int64 `json:"in_flight"`
	Held     int64 `json:"held"`     // of those in flight: refused for now, and tried again
	Unmapped int64 `json:"unmapped"` // passed over: no filter has them any more
	// Refused is those that the receiver will never take, by its reason.
	Refused map[string]int64 `json:"refused,omitempty"`
	// LastProgress is when the last message was acknowledged or refused for good; zero: none was.
	LastProgress time.Time `json:"last_progress,omitzero"`
}

// Status returns a snapshot.
func (l *Link) Status() Status {
	l.mu.Lock()
	st := Status{Name: l.opts.Name, URL: l.opts.URL, State: l.state, Since: l.since, Error: l.reason}
	l.mu.Unlock()
	st.In, st.Out = l.in.snapshot(), l.out.snapshot()
	for _, c := range []*counts{&l.in, &l.out} {
		if why := c.why.Load(); why != nil && st.Error == "" {
			st.Error = *why
		}
	}
	if st.State == Connected && (st.In.stalled() || st.Out.stalled()) {
		st.State = Stalled
	}
	return st
}

func (c *counts) snapshot() Direction {
	d := Direction{Messages: c.messages.Load(), InFlight: c.inFlight.Load(), Held: c.held.Load(), Unmapped: c.unmapped.Load()}
	for i := range c.refused {
		if n := c.refused[i].Load(); n > 0 {
			if d.Refused == nil {
				d.Refused = map[string]int64{}
			}
			d.Refused[label(forGood[i])] = n
		}
	}
	if at := c.progress.Load(); at != 0 {
		d.LastProgress = time.Unix(0, at).UTC()
	}
	return d
}

func (d Direction) stalled() bool { return d.without() > stallAfter }

// without is for how long there was no progress though messages are in flight.
func (d Direction) without() time.Duration {
	if d.InFlight == 0 {
		return 0
	}
	return time.Since(d.LastProgress)
}

func (l *Link) set(s State, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != s {
		l.state, l.since = s, time.Now()
	}
	l.reason = reason
}
