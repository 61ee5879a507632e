package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fails runs a command that must end with the code, and returns what it said.
func (s *site) fails(code int, args ...string) string {
	s.t.Helper()
	_, errs, got := weir(s.t, "", append(args, s.address(args)...)...)
	if got != code {
		s.t.Errorf("weir %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, errs)
	}
	return errs
}

// want compares what a command prints.
func (s *site) want(out string, args ...string) {
	s.t.Helper()
	if got := s.run("", args...); got != out {
		s.t.Errorf("weir %s prints %q, want %q", strings.Join(args, " "), got, out)
	}
}

func TestConsumeFromTo(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "topic", "create", "t", "-p", "2")
	at := func(hour int) time.Time { return time.Date(2026, 1, 31, hour, 0, 0, 0, time.UTC) }
	var lines strings.Builder
	for i := range 10 {
		fmt.Fprintf(&lines, `{"value":"%d","partition":0,"timestamp":"%s"}`+"\n", i, at(i).Format(time.RFC3339))
	}
	s.run(lines.String(), "produce", "t", "-f", "json")
	s.want("0\n1\n2\n", "consume", "t", "--to", "3")
	s.want("7\n8\n9\n", "consume", "t", "--from", "-3", "--to", "end")
	s.want("4\n5\n", "consume", "t", "--from", "4", "--to", "6")
	s.want("8\n9\n", "consume", "t", "--from", "2026-01-31T07:30:00Z", "--to", "end")
	s.want("0\n1\n", "consume", "t", "--to", "2026-01-31T01:30:00Z")
	s.want("", "consume", "t", "--from", "-1h", "--to", "end") // none is that young
	s.want("", "consume", "t", "--from", "end", "--to", "end")
	s.want("", "consume", "t", "--from", "6", "--to", "4")
	s.want("", "consume", "t", "-p", "1", "--to", "end")
	s.want("0\n1\n", "consume", "t", "-p", "0", "--count", "2")
	s.want("0@0 3\n", "consume", "t", "-n", "1", "-f", `%v@%p %T`[:5]+` 3\n`)
	if errs := s.fails(exitNotFound, "consume", "t", "-p", "2"); !strings.Contains(errs, "topic 't' has no partition 2: it has 2, from 0") {
		t.Error(errs)
	}
	if errs := s.fails(exitNotFound, "consume", "nope"); !strings.Contains(errs, "topic 'nope' does not exist: see weir topic list") {
		t.Error(errs)
	}
	s.fails(exitUsage, "consume", "t", "-g", "g", "--to", "end")
	s.fails(exitUsage, "consume", "t", "-f", "xml")
}

// --to end stops behind the marker of a transaction, and before one that is open.
func TestConsumeToTheEndOfTransactions(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "topic", "create", "t", "-p", "1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint("committed:", end))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	s.want("committed:true\n", "consume", "t", "--to", "end")
	s.want("committed:true\ncommitted:false\n", "consume", "t", "--to", "end", "--uncommitted")
}

// Without --to consume waits for what comes; Ctrl-C commits and is no failure.
func TestConsumeTailsUntilInterrupted(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "produce", "t", "before")
	ctx, interrupt := context.WithCancel(t.Context())
	out := &syncBuffer{grew: make(chan struct{}, 1)}
	ended := make(chan int, 1)
	go func() {
		args := []string{"consume", "t", "-g", "tail", "--kafka", s.kafka}
		ended <- runCLI(&session{ctx: ctx, in: strings.NewReader(""), out: out, err: out}, args)
	}()
	wait := func(text string) {
		for out.line(text) == "" {
			select {
			case <-out.grew:
			case <-time.After(time.Minute):
				t.Fatalf("no %s in %s", text, out.line(""))
			}
		}
	}
	wait("before")
	s.run("", "produce", "t", "after")
	wait("after")
	interrupt()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d: %s", code, out.line(""))
	}
	var g groupDescription
	if err := json.Unmarshal([]byte(s.run("", "group", "describe", "tail", "--json")), &g); err != nil {
		t.Fatal(err)
	}
	if g.Lag != 0 || g.State != "Empty" || len(g.Members) != 0 {
		t.Errorf("after Ctrl-C the group is %+v", g)
	}
}

func TestProduceTakesKeysFilesAndCodecs(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "topic", "create", "t", "-p", "1")
	s.run("a:1\nb:\nplain\n", "produce", "t", "-K", ":", "-Z", "-z", "zstd")
	s.want("a 1 1\nb  -1\n plain 5\n", "consume", "t", "--to", "end", "-f", `%k %v %V\n`)
	s.run("one\n", "produce", "t", "-k", "k", "-H", "x=1", "-H", "y=2", "--acks", "1")
	s.want("k one x=1,y=2\n", "consume", "t", "--from", "3", "--to", "end", "-f", `%k %v %h\n`)

	// A topic goes through a file into another.
	file := filepath.Join(t.TempDir(), "batch.json")
	if err := os.WriteFile(file, []byte(s.run("", "consume", "t", "--to", "end", "-f", "json")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("", "topic", "create", "copy", "-p", "1")
	var done produced
	if err := json.Unmarshal([]byte(s.run("", "produce", "copy", "-F", file, "-f", "json", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	if done.Records != 4 || len(done.Offsets) != 1 || done.Offsets[0] != (producedRange{0, 0, 3, 4}) {
		t.Errorf("produce says %+v", &done)
	}
	layout := `%k %v %V %T %h\n`
	s.want(s.run("", "consume", "t", "--to", "end", "-f", layout), "consume", "copy", "--to", "end", "-f", layout)

	for _, c := range []struct {
		code  int
		stdin string
		args  string
		says  string
	}{
		{exitNotFound, "", "produce t -F /nonexistent", "no such file"},
		{exitUsage, "{}\nnot json\n", "produce t -f json", "line 2 of stdin: not a record as weir consume -f json prints it"},
		{exitUsage, "", "produce t v -f json", "not for arguments"},
		{exitUsage, "", "produce t -K : -k k", "--key"},
		{exitUsage, "", "produce t -z brotli v", "none"},
		{exitFailed, "", "produce t -p 9 v", "partition"},
	} {
		_, errs, code := weir(t, c.stdin, append(strings.Fields(c.args), "--kafka", s.kafka)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("weir %s: exit %d, want %d with %q: %s", c.args, code, c.code, c.says, errs)
		}
	}
}

func TestGroupSeekAndDelete(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "topic", "create", "t", "-p", "1")
	s.run("0\n1\n2\n3\n4\n", "produce", "t")
	s.run("", "consume", "t", "-g", "g", "-n", "5")
	if out := s.run("", "group", "seek", "g", "--to", "-2", "--dry-run"); !strings.Contains(out, "nothing was set") {
		t.Error(out)
	}
	s.run("", "group", "seek", "g", "--to", "-2")
	s.want("3\n4\n", "consume", "t", "-g", "g", "-n", "2")
	s.run("", "group", "reset-offsets", "g", "--to", "start", "-t", "t")
	s.want("0\n", "consume", "t", "-g", "g", "-n", "1")
	s.run("", "group", "seek", "made", "--to", "end", "-t", "t")
	if out := s.run("", "group", "describe", "made"); !strings.Contains(out, "lag 0") {
		t.Error(out)
	}
	s.fails(exitNotFound, "group", "seek", "nope", "--to", "start")
	s.fails(exitNotFound, "group", "delete", "nope")

	// A group in use is neither moved nor deleted.
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.PollFetches(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"group", "seek", "g", "--to", "end"}, {"group", "delete", "g"}} {
		if errs := s.fails(exitFailed, args...); !strings.Contains(errs, "stop its consumers first") {
			t.Errorf("%v: %s", args, errs)
		}
	}
	cl.Close()
	s.run("", "group", "delete", "g", "made")
	if out := s.run("", "group", "list"); strings.Contains(out, "made") {
		t.Error(out)
	}
}

func TestConfigOfTopicsAndBrokers(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "topic", "create", "t")
	if out := s.run("", "topic", "create", "t", "u", "--if-not-exists"); out != "created u\nthere already: t\n" {
		t.Error(out)
	}
	s.run("", "topic", "create", "v", "--dry-run")
	s.fails(exitNotFound, "topic", "describe", "v")
	s.run("", "config", "alter", "--topic", "t", "-c", "retention.ms=1000")
	if out := s.run("", "config", "describe", "--topic", "t"); !strings.Contains(out, "retention.ms") || strings.Contains(out, "segment.bytes") {
		t.Error(out)
	}
	if out := s.run("", "config", "describe", "--topic", "t", "--all"); !strings.Contains(out, "segment.bytes") {
		t.Error(out)
	}
	s.run("", "config", "alter", "--topic", "t", "--delete-config", "retention.ms", "--dry-run")
	if out := s.run("", "config", "describe", "--topic", "t", "retention.ms", "--json"); !strings.Contains(out, `"value": "1000"`) {
		t.Error(out)
	}
	if out := s.run("", "config", "describe", "advertised.listeners"); !strings.Contains(out, s.kafka) {
		t.Error(out)
	}
	s.run("", "config", "alter", "--default", "-c", "log.roll.ms=3600000")
	if out := s.run("", "config", "describe", "--default"); !strings.Contains(out, "log.roll.ms  3600000  DYNAMIC_DEFAULT_BROKER_CONFIG") {
		t.Error(out)
	}
	if out := s.run("", "config", "describe", "--topic", "t"); !strings.Contains(out, "segment.ms    3600000  DYNAMIC_DEFAULT_BROKER_CONFIG") {
		t.Error(out)
	}
	if errs := s.fails(exitFailed, "config", "alter", "--broker", "1", "-c", "num.partitions=3"); !strings.Contains(errs, "cannot be changed at run time") {
		t.Error(errs)
	}
	s.fails(exitNotFound, "config", "describe", "--topic", "nope")
	s.fails(exitNotFound, "config", "describe", "no.such.key")
	s.fails(exitUsage, "config", "alter", "--topic", "t")
	if errs := s.fails(exitFailed, "config", "alter", "--topic", "t", "-c", "retention.mx=1"); !strings.Contains(errs, "retention.mx") {
		t.Error(errs)
	}
}

// A pipe whose reader has gone ends consume.
func TestConsumeIntoAClosedPipe(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	s.run("", "produce", "t", "v")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	var errs bytes.Buffer
	if code := runCLI(&session{ctx: t.Context(), in: strings.NewReader(""), out: w, err: &errs}, []string{"consume", "t", "--kafka", s.kafka}); code != exitFailed {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}
