package sparkplug_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/bridge/sparkplug"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew; inspect the diff")

// TestTraces plays the scripts of testdata: a line that begins with ">" is a message, what
// follows is the verdict and the state after it.
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatal("no traces", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".trace"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s differs (-rewrite to accept):\n%s", file, got)
			}
		})
	}
}

// play runs a script: "> AT TOPIC [seq=N] [bdSeq=N] [ts=N] [junk]" with spBv1.0/ left out of
// TOPIC, "> AT doubt", or "> limits NODES DEVICES".
func play(t *testing.T, script string) string {
	limits := sparkplug.Limits{MaxNodes: 2, MaxDevices: 2, RebirthInterval: 10 * time.Second}
	tr := sparkplug.New(limits)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var out strings.Builder
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "#") || line == "\n" {
			out.WriteString(line)
		}
		event, is := strings.CutPrefix(strings.TrimSpace(line), "> ")
		if !is {
			continue
		}
		out.WriteString(line)
		words := strings.Fields(event)
		at, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if words[1] == "doubt" {
			tr.Doubt()
			fmt.Fprintf(&out, "  = %s\n", state(tr))
			continue
		}
		topic, ok := sparkplug.ParseTopic([]byte("spBv1.0/" + words[1]))
		if !ok {
			t.Fatalf("%q is no topic", words[1])
		}
		v := tr.Observe(start.Add(at), topic, payloadOf(t, words[2:]))
		if s := verdict(v); s != "" {
			fmt.Fprintf(&out, "  %s\n", s)
		}
		fmt.Fprintf(&out, "  = %s\n", state(tr))
	}
	return out.String()
}

func verdict(v sparkplug.Verdict) string {
	var s []string
	for _, w := range []struct {
		is   bool
		name string
	}{{v.Stale, "stale"}, {v.Full, "full"}, {v.Rebirth, "rebirth"}} {
		if w.is {
			s = append(s, w.name)
		}
	}
	return strings.Join(s, " ")
}

func state(tr *sparkplug.Tracker) string {
	st := tr.Status()
	var s []string
	for _, n := range st.Listed {
		is := "offline"
		if n.Online {
			is = "online"
		}
		if n.Online && n.Stale {
			is = "stale"
		}
		line := fmt.Sprintf("%s %s seq=%d devices=%d/%d", n.Name, is, n.Seq, n.DevicesOnline, n.Devices)
		for _, d := range n.Named {
			line += map[bool]string{true: " +", false: " -"}[d.Online] + d.Name
		}
		if n.Gaps+n.Rebirths > 0 {
			line += fmt.Sprintf(" gaps=%d rebirths=%d", n.Gaps, n.Rebirths)
		}
		s = append(s, line)
	}
	return strings.TrimSpace(fmt.Sprintf("%s [gaps=%d unborn=%d rebirths=%d malformed=%d late=%d untracked=%d]",
		strings.Join(s, ", "), st.Gaps, st.Unborn, st.Rebirths, st.Malformed, st.LateDeaths, st.Untracked))
}

// payloadOf encodes a payload, with a metric of every wire type before what counts.
func payloadOf(t *testing.T, words []string) []byte {
	t.Helper()
	b := []byte{2<<3 | 2, 13, 2 << 3, 7, 12<<3 | 5, 0, 0, 128, 63, 1<<3 | 2, 4, 't', 'e', 'm', 'p'}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if name == "junk" {
			return []byte(`{"t":1}`)
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatal(w, err)
		}
		switch name {
		case "ts":
			b = binary.AppendUvarint(append(b, 1<<3), n)
		case "seq":
			b = binary.AppendUvarint(append(b, 3<<3), n)
		case "bdSeq":
			m := binary.AppendUvarint(append([]byte("\x0a\x05bdSeq"), 11<<3), n)
			b = append(append(b, 2<<3|2, byte(len(m))), m...)
		default:
			t.Fatalf("what is %q?", w)
		}
	}
	return b
}

func TestParseTopic(t *testing.T) {
	for topic, want := range map[string]string{
		"spBv1.0/g/NDATA/n":       "g n  3",
		"spBv1.0/g/DBIRTH/n/d":    "g n d 4",
		"spBv1.0/g/NBIRTH/n/d":    "",
		"spBv1.0/g/DDATA/n":       "",
		"spBv1.0/g/DDATA/n/":      "",
		"spBv1.0/g/DDATA/n/d/e":   "",
		"spBv1.0/g/NCMD/n":        "",
		"spBv1.0/g/DCMD/n/d":      "",
		"spBv1.0/STATE/host":      "",
		"spBv1.0//NDATA/n":        "",
		"spBv1.0/g/NDATA/":        "",
		"spBv1.0/":                "",
		"spAv1.0/g/NDATA/n":       "",
		"site/spBv1.0/g/NDATA/n":  "",
		"spBv1.0/g/NDATA/n/":      "",
		"spBv1.0/a b/DDEATH/ü/ d": "a b ü  d 5",
	} {
		got := ""
		if tp, ok := sparkplug.ParseTopic([]byte(topic)); ok {
			got = fmt.Sprintf("%s %s %s %d", tp.Group, tp.Node, tp.Device, tp.Kind)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
}

// The request is what Eclipse Tahu's encoder makes of it, byte by byte.
func TestRebirthPayload(t *testing.T) {
	want := "\x08\xe8\x07\x12\x1b\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01"
	want = strings.Replace(want, "\x1b", string(rune(len(want)-5)), 1)
	if got := string(sparkplug.AppendRebirth(nil, 1000)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	tr := sparkplug.New(sparkplug.Limits{MaxNodes: 1, MaxDevices: 1, RebirthInterval: time.Second})
	now := time.Unix(1, 0)
	topic := []byte("spBv1.0/g/NDATA/n")
	body := payloadOf(t, []string{"ts=1", "seq=0"})
	if n := testing.AllocsPerRun(100, func() {
		tp, _ := sparkplug.ParseTopic(topic)
		body[len(body)-1]++
		body[len(body)-1] &= 0x7f
		tr.Observe(now, tp, body)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever comes, the limits hold and nothing panics.
func FuzzObserve(f *testing.F) {
	f.Add("spBv1.0/g/NBIRTH/n", []byte("\x08\x01\x12\x09\x0a\x05bdSeq\x58\x01\x18\x00"))
	f.Add("spBv1.0/g/DDATA/n/d", []byte("\x18\xff\x01"))
	f.Add("spBv1.0/g/NDEATH/n", []byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		tp, ok := sparkplug.ParseTopic([]byte(name))
		if !ok {
			return
		}
		tr := sparkplug.New(sparkplug.Limits{MaxNodes: 1, MaxDevices: 1, RebirthInterval: time.Second})
		now := time.Unix(1, 0)
		first := tr.Observe(now, tp, body)
		if birth, ok := sparkplug.ParseTopic([]byte("spBv1.0/other/NBIRTH/n")); ok {
			tr.Observe(now, birth, nil)
			tr.Observe(now, tp, body)
		}
		if st := tr.Status(); st.Nodes > 1 || st.Devices > 1 || st.Rebirths > 1 {
			t.Errorf("%+v after %q", st, name)
		}
		if first.Rebirth && !first.Stale {
			t.Errorf("%+v: a birth is asked for without need", first)
		}
	})
}
