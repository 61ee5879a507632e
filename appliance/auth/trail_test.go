package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
)

// lockedTable is a table that several goroutines use.
type lockedTable struct {
	mu sync.Mutex
	t  table
}

func (l *lockedTable) All() (map[string][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t.All()
}

func (l *lockedTable) PutAll(values map[string][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t.PutAll(values)
}

func (l *lockedTable) Delete(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t.Delete(key)
}

func (l *lockedTable) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.t.values)
}

// paper is a log that a test reads.
type paper struct {
	mu     sync.Mutex
	events []auth.Event
	block  chan struct{} // nil: does not
	err    error
}

func (p *paper) Append(ctx context.Context, tp record.TopicPartition, b record.Batch) (int64, error) {
	if p.block != nil {
		select {
		case <-p.block:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return -1, p.err
	}
	var d record.Decoder
	if err := d.Reset(b); err != nil {
		return -1, err
	}
	for {
		var r record.Record
		if more, err := d.Next(&r); err != nil || !more {
			return 0, err
		}
		var e auth.Event
		if err := json.Unmarshal(r.Value, &e); err != nil {
			return -1, fmt.Errorf("%w: %q", err, r.Value)
		}
		p.events = append(p.events, e)
	}
}

func TestTrailWritesWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{}
		trail := auth.NewTrail(p, 0, slog.New(slog.DiscardHandler))
		a := open(t, auth.Options{Trail: trail})
		s := session(t, a, "alice", "10.0.0.1")
		for range 5 {
			s.Authorize(auth.Write, auth.Topic, "t")
		}
		time.Sleep(11 * time.Second)
		s.Authorize(auth.Write, auth.Topic, "t")
		_, _ = a.Password(auth.Peer{Host: "10.0.0.2", Via: "http"}, "alice", "wrong")
		trail.Close()
		want := []auth.Event{
			{Kind: auth.Login, Principal: "User:alice", Host: "10.0.0.1", Via: "kafka", Detail: "password", Count: 1},
			{Kind: auth.Denied, Principal: "User:alice", Host: "10.0.0.1", Via: "kafka", Operation: "WRITE", Resource: "TOPIC", Name: "t", Count: 1},
			{Kind: auth.Denied, Principal: "User:alice", Host: "10.0.0.1", Via: "kafka", Operation: "WRITE", Resource: "TOPIC", Name: "t", Count: 5},
			{Kind: auth.LoginFailed, Principal: "User:alice", Host: "10.0.0.2", Via: "http", Detail: "unknown user or wrong password", Count: 1},
		}
		if len(p.events) != len(want) {
			t.Fatalf("events %+v", p.events)
		}
		for i, e := range p.events {
			if e.Time.IsZero() {
				t.Errorf("event %d has no time", i)
			}
			if e.Time = (time.Time{}); e != want[i] {
				t.Errorf("event %d: %+v, want %+v", i, e, want[i])
			}
		}
	})
}

// A log that stands still, or fails, holds nobody up: events are lost, and counted.
func TestTrailNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{block: make(chan struct{})}
		trail := auth.NewTrail(p, 0, slog.New(slog.DiscardHandler))
		a := open(t, auth.Options{Trail: trail})
		start := time.Now()
		for i := range 5_000 {
			a.Report(auth.Event{Kind: auth.Denied, Name: fmt.Sprint(i)})
		}
		if time.Since(start) > 0 {
			t.Error("reporting waited")
		}
		close(p.block)
		trail.Close()
		a.Report(auth.Event{Kind: auth.Denied})
		if written, lost := trail.Counts(); written+lost != 5_000 || lost == 0 || int(written) != len(p.events) {
			t.Errorf("%d written, %d lost, %d in the log", written, lost, len(p.events))
		}
		broken := auth.NewTrail(&paper{err: errors.New("disk")}, 0, slog.New(slog.DiscardHandler))
		open(t, auth.Options{Trail: broken}).Report(auth.Event{Kind: auth.Denied})
		broken.Close()
		if written, lost := broken.Counts(); written != 0 || lost != 1 {
			t.Errorf("a log that fails: %d written, %d lost", written, lost)
		}
	})
}
