package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/topic"
)

// run runs one command line and returns its exit code and what it printed.
func runLog(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := runCLI(&session{ctx: t.Context(), in: strings.NewReader(""), out: &out, err: &errs}, args)
	return code, out.String() + errs.String()
}

// verifyBesideAnother verifies a stopped folder while another does: nothing runs there.
func verifyBesideAnother(t *testing.T, data string) {
	t.Helper()
	another, err := lockData(data, toRead)
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if code, out := runLog(t, "log", "verify", data); code != exitOK || strings.Contains(out, "running") {
		t.Fatalf("verify of a stopped folder beside another: %d %s", code, out)
	}
	if code, out := runLog(t, "log", "repair", data); code != exitFailed || !strings.Contains(out, "running") {
		t.Fatalf("repair of a folder that somebody reads: %d %s", code, out)
	}
}

func TestLogVerifyAndRepair(t *testing.T) {
	data := t.TempDir()
	s := startSite(t, "--data", data)
	for range 3 {
		if code, out := runLog(t, "produce", "--kafka", s.kafka, "t", "one", "two", "three"); code != exitOK {
			t.Fatal(out)
		}
	}
	if code, out := runLog(t, "log", "repair", data); code != exitFailed || !strings.Contains(out, "running") {
		t.Fatalf("repair beside a running appliance: %d %s", code, out)
	}
	if code := s.stop(); code != exitOK {
		t.Fatal("exit", code)
	}
	if code, out := runLog(t, "log", "verify", data); code != exitOK {
		t.Fatalf("verify of a sound folder: %d %s", code, out)
	}
	verifyBesideAnother(t, data)
	segment := filepath.Join(data, "topics", "t-0", "00000000000000000000.log")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[70] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := runLog(t, "--json", "log", "verify", data)
	var report dataReport
	if err := json.Unmarshal([]byte(strings.SplitAfter(out, "\n}\n")[0]), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code != exitUnhealthy || len(report.Findings) != 1 || report.Findings[0].Kind != "batches" || report.Findings[0].First != 0 {
		t.Fatalf("verify: %d %+v", code, report)
	}
	if code, out := runLog(t, "log", "repair", data); code != exitOK || !strings.Contains(out, "Nothing was changed") {
		t.Fatalf("dry run: %d %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(data, "quarantine")); err == nil {
		t.Fatal("the dry run changed something")
	}
	if code, out := runLog(t, "log", "repair", "--yes", data); code != exitOK || !strings.Contains(out, "done: ") {
		t.Fatalf("repair: %d %s", code, out)
	}
	kept, _ := filepath.Glob(filepath.Join(data, "quarantine", "*.log-*"))
	if len(kept) != 1 {
		t.Fatal("the damaged bytes were not kept", kept)
	}
	if after, _ := os.ReadFile(segment); !bytes.Equal(after, b) {
		t.Fatal("the segment was changed")
	}
	s = startSite(t, "--data", data)
	if code, out := runLog(t, "consume", "--kafka", s.kafka, "t", "--idle", "2s"); code != exitOK || strings.Count(out, "one") < 2 {
		t.Fatalf("what is whole is not served: %d %s", code, out)
	}
}

func TestLogDumpOfTheWriteAheadLog(t *testing.T) {
	data := t.TempDir()
	s := startSite(t, "--data", data)
	for _, value := range []string{"one", "two", "three"} {
		if code, out := runLog(t, "produce", "--kafka", s.kafka, "t", value); code != exitOK {
			t.Fatal(out)
		}
	}
	// It is there to be read beside a running appliance.
	files, err := filepath.Glob(filepath.Join(data, "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	code, out := runLog(t, "log", "dump", files[0])
	for _, want := range []string{"append t-0 offsets 0-0, 1 records, ", "append t-0 offsets 2-2, 1 records, ", "-> 00000000000000000000.log @0", "to be replayed"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("dump has no %q: %d %s", want, code, out)
		}
	}
	if code := s.stop(); code != exitOK {
		t.Fatal("exit", code)
	}
	code, out = runLog(t, "--json", "log", "dump", filepath.Join(data, "wal"))
	offset := int64(0)
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var r topic.WALRound
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if !r.Checkpointed {
			t.Errorf("after a clean stop round %d is to be replayed", r.Round)
		}
		for _, e := range r.Entries {
			if e.Topic != "t" || e.Kind != "append" {
				continue
			}
			if e.Offset != offset || e.LastOffset != offset || e.Records != 1 || e.Segment != 0 || e.Error != "" {
				t.Errorf("entry %+v, want offset %d", e, offset)
			}
			offset++
		}
	}
	if code != exitOK || offset != 3 {
		t.Errorf("%d of 3 batches: %d", offset, code)
	}
	if err := os.WriteFile(files[0], make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := runLog(t, "log", "dump", files[0]); code != exitFailed || !strings.Contains(out, filepath.Base(files[0])) {
		t.Errorf("a file of zeros: %d %s", code, out)
	}
}

// What the disk did not keep is in front of the operator, not only in the log of a start.
func TestStatusWarnsOfDamage(t *testing.T) {
	data := t.TempDir()
	s := startSite(t, "--data", data)
	for _, value := range []string{"one", "two", "three"} {
		if code, out := runLog(t, "produce", "--kafka", s.kafka, "t", value); code != exitOK {
			t.Fatal(out)
		}
	}
	if code := s.stop(); code != exitOK {
		t.Fatal("exit", code)
	}
	segment := filepath.Join(data, "topics", "t-0", "00000000000000000000.log")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[70] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = startSite(t, "--data", data)
	if code, out := runLog(t, "consume", "--kafka", s.kafka, "t", "-n", "2"); code != exitOK || strings.Contains(out, "one") {
		t.Fatalf("%d %s", code, out)
	}
	if code, out := runLog(t, "status", "--http", s.http); code != exitOK || !strings.Contains(out, "! records lost to damage on the disk: 1, the first of them offsets 0 to 0 of t-0") {
		t.Errorf("%d %s", code, out)
	}
	if code := s.stop(); code != exitOK {
		t.Fatal("exit", code)
	}
	if code, out := runLog(t, "log", "verify", data); code != exitUnhealthy || !strings.Contains(out, "known already") {
		t.Errorf("%d %s", code, out)
	}
}
