package site_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The box without its metadata, stopped and killed, without the copy too: clients
// read what they wrote, and the page and the metrics say what has happened.
func TestLostMetadataLosesNothing(t *testing.T) {
	dir := t.TempDir() + "/data"
	s := realWeir(t, dir)
	want := map[string]string{}
	for round, lost := range [][]string{{"metadata.db"}, {"metadata.db", "metadata.copy"}, {"metadata.copy"}} {
		writeKafka(t, s, fmt.Sprintf("round %d", round), want)
		if round == 1 {
			s.Kill()
		} else {
			stop(t, s)
		}
		for _, name := range lost {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect := topicOf(want, "kept")
		if got := readTopic(t, s, "kept", len(expect)); !maps.Equal(got, expect) {
			t.Fatalf("round %d: %d records are not what was written", round, len(got))
		}
		readByKcat(t, s.Addresses().Kafka, slices.Collect(maps.Values(expect)))
		rebuilt := slices.Contains(lost, "metadata.db")
		for path, sign := range map[string]string{"/metrics": "weir_metadata_rebuilt 1\n", "/v1/status": "the metadata"} {
			if _, body, err := s.Get(t.Context(), path); err != nil || strings.Contains(string(body), sign) != rebuilt {
				t.Errorf("round %d: %s says %q: %v, %v", round, path, sign, !rebuilt, err)
			}
		}
	}
	stop(t, s)
}

func readByKcat(t *testing.T, broker string, want []string) {
	t.Helper()
	kcat, err := exec.LookPath("kcat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		t.Log("kcat is not installed: read by franz-go alone")
		return
	}
	out, err := exec.CommandContext(t.Context(), kcat, "-b", broker, "-C", "-t", "kept", "-o", "beginning", "-e", "-q", "-f", "%s\n").Output()
	if err != nil {
		t.Fatalf("kcat: %v", err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("kcat read %d records, want %d", len(got), len(want))
	}
}
