package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The rows that need no binary and no root run, little as they are given here.
func TestRowsRun(t *testing.T) {
	o := options{dir: t.TempDir(), pairs: 1, bytes: 64 << 10, waiters: 4, partitions: []int{3}}
	out := &table{progress: io.Discard}
	for _, r := range rows {
		if strings.HasPrefix(r.name, "kafka-") || strings.HasPrefix(r.name, "mqtt-") || r.name == "restart" || r.name == "wear" || r.name == "create" || r.name == "filled" {
			continue
		}
		before := len(out.lines)
		if err := r.run(o, out); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		if len(out.lines) == before {
			t.Errorf("%s adds no line to the table", r.name)
		}
	}
}

// What the row wear counts is written, image or not.
func TestWearWrites(t *testing.T) {
	for name, prepare := range map[string]func(dir string) (writes, error){"weir": weirWrites, "files": filesWrite} {
		dir := t.TempDir()
		do, err := prepare(dir)
		if err != nil {
			t.Fatal(err)
		}
		w := &wearSide{name: name}
		if err := w.pace(300*time.Millisecond, wearParts, do.send); err != nil {
			t.Fatal(err)
		}
		if _, err := do.finish(); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(dir + "/*.log")
		if name == "weir" {
			logs, err = filepath.Glob(dir + "/topics/*/*.log")
		}
		if err != nil || len(logs) != wearParts || w.messages != 2*wearParts {
			t.Errorf("%s: %d messages in %d files, %v; want %d in %d", name, w.messages, len(logs), err, 2*wearParts, wearParts)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--rows append,sideways", `no row "sideways"`},
		{"--partitions 10,none", `"none" is no number`},
		{"--pairs 2", "at least 5"},
		{"--bytes 10", "at least 1 MiB"},
	} {
		if _, err := parse(strings.Fields(c.args)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
}

func TestMemoryIsRefused(t *testing.T) {
	if kind, err := fileSystemType("/dev/shm"); err != nil || kind != "tmpfs" {
		t.Skipf("/dev/shm is no tmpfs here: %s, %v", kind, err)
	}
	if _, err := fileSystem("/dev/shm"); err == nil || !strings.Contains(err.Error(), "is memory") {
		t.Errorf("/dev/shm: %v, want a refusal that says it is memory", err)
	}
}

func TestRatioIsOfTurns(t *testing.T) {
	mine, other := []float64{2, 20, 8}, []float64{1, 10, 16}
	next := func(xs []float64) func() ([]float64, error) {
		return func() ([]float64, error) { x := xs[0]; xs = xs[1:]; return []float64{x}, nil }
	}
	out := &table{progress: io.Discard}
	if err := out.compare(3, []measure{{what: "w", goal: "g", unit: "u"}}, side{"a", next(mine)}, side{"b", next(other)}); err != nil {
		t.Fatal(err)
	}
	if want := "| w | 8.00 u | 10.0 u b | 2.00 (0.50 to 2.00) | g |"; out.lines[0] != want {
		t.Errorf("line %s, want %s", out.lines[0], want)
	}
}
