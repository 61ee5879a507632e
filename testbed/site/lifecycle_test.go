package site_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/fleet"
	"github.com/weirmq/weir/testbed/site"
)

// realWeir starts the product itself.
func realWeir(t *testing.T, dir string) *site.Site {
	t.Helper()
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("needs bin/weir: make e2e runs this test")
	}
	s, err := site.Start(t.Context(), site.Options{Dir: dir, Host: site.LoopbackHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func stop(t *testing.T, s *site.Site) {
	t.Helper()
	if code, err := s.Stop(20 * time.Second); code != 0 || err != nil {
		t.Fatalf("SIGTERM: exit code %d, %v; log:\n%s", code, err, s.Output())
	}
}

func TestHealthPathsAnswer(t *testing.T) {
	s := realWeir(t, t.TempDir()+"/data")
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "weir_ready 1", "/": "<html"} {
		code, body, err := s.Get(t.Context(), path)
		if err != nil || code != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: %d %v %.80s", path, code, err, body)
		}
	}
	st, err := s.Status(t.Context())
	if err != nil || !st.Ready || st.Addresses != s.Addresses() {
		t.Errorf("status %+v, %v", st, err)
	}
	stop(t, s)
}

// What Kafka and MQTT clients wrote is there after a clean stop and after a kill,
// at the same offsets.
func TestRestartKeepsEverything(t *testing.T) {
	s := realWeir(t, t.TempDir()+"/data")
	want := map[string]string{} // by topic and offset
	for round := range 4 {
		writeKafka(t, s, fmt.Sprintf("round %d", round), want)
		r, err := fleet.Run(t.Context(), fleet.Options{Broker: s.Addresses().MQTT, Devices: 5, Rate: 100, Duration: 200 * time.Millisecond, Seed: uint64(round), Name: fmt.Sprintf("r%d", round)})
		if err != nil || r.Unacked() != 0 || r.Acked == 0 {
			t.Fatalf("devices: %+v, %v", r.Counts, err)
		}
		for o, v := range readTopic(t, s, "mqtt", len(topicOf(want, "mqtt"))+int(r.Acked)) {
			want["mqtt@"+o] = v
		}
		if round%2 == 0 {
			stop(t, s)
		} else {
			s.Kill()
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"kept", "mqtt"} {
			expect := topicOf(want, topic)
			got := readTopic(t, s, topic, len(expect))
			for o, v := range expect {
				if got[o] != v {
					t.Fatalf("round %d: %s offset %s is %q, was %q", round, topic, o, got[o], v)
				}
			}
		}
	}
	stop(t, s)
}

func topicOf(all map[string]string, topic string) map[string]string {
	out := map[string]string{}
	for at, v := range all {
		if o, ok := strings.CutPrefix(at, topic+"@"); ok {
			out[o] = v
		}
	}
	return out
}

func writeKafka(t *testing.T, s *site.Site, value string, want map[string]string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 50 {
		rec := &kgo.Record{Topic: "kept", Value: fmt.Appendf(nil, "%s, record %d", value, i)}
		if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
		want[fmt.Sprintf("kept@%d", rec.Offset)] = string(rec.Value)
	}
}

// readTopic reads n records of a topic of one partition: offset to value.
func readTopic(t *testing.T, s *site.Site, topic string, n int) map[string]string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := map[string]string{}
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("topic %s: %d of %d records: %v", topic, len(got), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[fmt.Sprint(r.Offset)] = string(r.Value) })
	}
	if len(got) != n {
		t.Fatalf("topic %s has %d records, want %d", topic, len(got), n)
	}
	return got
}

func TestTwoProcessesOnOneDirectory(t *testing.T) {
	dir := t.TempDir() + "/data"
	s := realWeir(t, dir)
	second, err := site.Start(t.Context(), site.Options{Dir: dir, Host: site.LoopbackHost()})
	if err == nil {
		second.Kill()
		t.Fatal("a second process runs on the same data directory")
	}
	if code := second.ExitCode(); code == 0 {
		t.Errorf("the second process ends with exit code 0")
	}
	if text := err.Error(); !strings.Contains(text, dir) || !strings.Contains(text, "another") {
		t.Errorf("the error does not name the directory and the cause: %s", text)
	}
	if _, err := s.Status(t.Context()); err != nil {
		t.Errorf("the first process was disturbed: %v", err)
	}
	stop(t, s)
}

func TestStopUnderLoadIsClean(t *testing.T) {
	s := realWeir(t, t.TempDir()+"/data")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := make(chan struct{}, 1)
	reports := make(chan fleet.Report, 1)
	f, err := fleet.New(fleet.Options{
		Broker: s.Addresses().MQTT, Devices: 20, Seed: 1, MaxBackoff: 50 * time.Millisecond, WriteTimeout: time.Second,
		OnAcked: func(e fleet.Event) {
			if e.Seq == 20 {
				select {
				case acked <- struct{}{}:
				default:
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		r, _ := f.Run(ctx)
		reports <- r
	}()
	<-acked
	stop(t, s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	r := <-reports
	if r.Unacked() != 0 {
		t.Errorf("%d of %d readings were never acked: %s", r.Unacked(), r.Sent, r.LastError)
	}
	stop(t, s)
}
