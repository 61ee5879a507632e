package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// AuditTopic is where the trail is written.
const AuditTopic = "__weir_audit"

// Kinds of events.
const (
	Login         = "login"
	LoginFailed   = "login-failed"
	Denied        = "denied"
	RulesChanged  = "acl-changed"
	UserChanged   = "user-changed"
	TopicChanged  = "topic-changed"
	ConfigChanged = "config-changed"
)

// Event is one thing worth knowing afterwards. It is written as JSON, under its kind
// as the record's key.
type Event struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Principal Principal `json:"principal"`
	Host      string    `json:"host"`
	Via       string    `json:"via"` // kafka, mqtt, http
	Operation string    `json:"operation,omitempty"`
	Resource  string    `json:"resource,omitempty"` // its type
	Name      string    `json:"name,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	// Count is how many such events there were since the last one was written.
	Count int `json:"count"`
}

// Limits of the trail.
const (
	// DefaultMaxQueued is how many events may wait to be written, at most, unless
	// NewTrail is told otherwise.
	DefaultMaxQueued = 1024

	maxTogether = 256              // events in one batch
	sameWithin  = 10 * time.Second // events that differ in nothing are counted, not written
	maxSame     = 1024             // different events that are counted at a time
	writeWithin = 10 * time.Second
	maxDetail   = 512 // bytes of each text
)

// Trail writes events to a partition of the audit topic. Telling it never waits and
// never fails: what there is no room for is counted as lost. A nil Trail is told in vain.
type Trail struct {
	log  record.Appender
	tp   record.TopicPartition
	note *slog.Logger

	mu     sync.Mutex
	closed bool
	same   map[Event]*repeat // by the event without time and count
	queue  chan Event
	done   chan struct{}

	written, lost atomic.Int64
}

type repeat struct {
	since time.Time
	more  int
}

// NewTrail writes to the log until Close. At most maxQueued events wait to be written; 0:
// DefaultMaxQueued.
func NewTrail(log record.Appender, maxQueued int, note *slog.Logger) *Trail {
	t := &Trail{log: log, tp: record.TopicPartition{Topic: AuditTopic}, note: note,
		same: map[Event]*repeat{}, queue: make(chan Event, cmp.Or(maxQueued, DefaultMaxQueued)), done: make(chan struct{})}
	go t.run()
	return t
}

// Close writes what waits and ends the trail.
func (t *Trail) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.queue)
	}
	t.mu.Unlock()
	<-t.done
}

// Counts are the events written and those lost since the start.
func (t *Trail) Counts() (written, lost int64) {
	if t == nil {
		return 0, 0
	}
	return t.written.Load(), t.lost.Load()
}

func (t *Trail) record(e Event) {
	if t == nil {
		return
	}
	for _, text := range []*string{&e.Name, &e.Detail, (*string)(&e.Principal)} {
		*text = (*text)[:min(len(*text), maxDetail)]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	at := e.Time
	e.Time, e.Count = time.Time{}, 0
	seen := t.same[e]
	if seen != nil && at.Sub(seen.since) < sameWithin {
		seen.more++
		return
	}
	if seen == nil {
		if len(t.same) >= maxSame {
			t.forget(at)
		}
		seen = &repeat{}
		t.same[e] = seen
	}
	key := e
	e.Time, e.Count = at, 1+seen.more
	select {
	case t.queue <- e:
		*seen = repeat{since: at}
	default:
		t.lost.Add(1)
		delete(t.same, key)
	}
}

// forget makes room among the events that are counted. What was counted and not
// written yet is written now.
func (t *Trail) forget(now time.Time) {
	for e, seen := range t.same {
		if now.Sub(seen.since) < sameWithin && len(t.same) < maxSame {
			continue
		}
		delete(t.same, e)
		if seen.more > 0 {
			e.Time, e.Count = now, seen.more
			select {
			case t.queue <- e:
			default:
				t.lost.Add(int64(seen.more))
			}
		}
	}
}

func (t *Trail) run() {
	defer close(t.done)
	for e := range t.queue {
		events := []Event{e}
	more:
		for len(events) < maxTogether {
			select {
			case e, ok := <-t.queue:
				if !ok {
					break more
				}
				events = append(events, e)
			default:
				break more
			}
		}
		t.write(events)
	}
}

func (t *Trail) write(events []Event) {
	var b record.Builder
	b.Reset()
	for _, e := range events {
		value, err := json.Marshal(e)
		if err != nil {
			t.lost.Add(1)
			continue
		}
		b.Add(&record.Record{Timestamp: e.Time.UnixMilli(), Key: []byte(e.Kind), Value: value})
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	batch, err := b.Build(record.None)
	if err == nil {
		_, err = t.log.Append(ctx, t.tp, batch)
	}
	if err != nil {
		t.lost.Add(int64(len(events)))
		t.note.Warn("audit events are lost", "events", len(events), "error", err)
		return
	}
	t.written.Add(int64(len(events)))
}
