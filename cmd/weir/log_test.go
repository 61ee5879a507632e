package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run runs one command line and returns its exit code and what it printed.
func runLog(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := runCLI(&session{ctx: t.Context(), in: strings.NewReader(""), out: &out, err: &errs}, args)
	return code, out.String() + errs.String()
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
