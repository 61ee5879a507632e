package mirror

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew; look at the diff before you commit it")

// Each file of testdata/window is a script of steps with the state after each:
//
//	begin S T        the position is known: source offset, target offset
//	offer N [bytes]  N records were read, as a batch of that many bytes
//	gap N            N offsets are missing
//	send             send all that may go
//	ok N             the oldest wire on its way is answered: appended at N, -1 when not said
//	lost             no answer to it came
//	fail WHAT        it is refused
//	swap             the two oldest wires on their way are answered in the other order
//	resolved E       the target ends at E
//	resume
func TestWindowTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/window/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := traceWindow(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got, want) {
				t.Errorf("trace differs; want\n%s\ngot\n%s", want, got)
			}
		})
	}
}

func traceWindow(t *testing.T, script string) []byte {
	var out bytes.Buffer
	tr := windowTrace{w: &window{state: Connecting}}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			fmt.Fprintln(&out, line)
			continue
		}
		if strings.HasPrefix(line, " ") {
			continue // what an earlier run printed
		}
		fmt.Fprintf(&out, "%s\n  %s\n", line, tr.step(t, strings.Fields(line)))
		fmt.Fprintf(&out, "  %s\n", tr.state())
	}
	return out.Bytes()
}

type windowTrace struct {
	w      *window
	read   int64 // source offset read up to
	flying []int64
}

var troubleNames = map[trouble]string{calm: "calm", unsure: "unsure", tooLarge: "too-large", rejected: "rejected", expelled: "expelled", diverged: "diverged", bridgeGap: "gap"}

func (tr *windowTrace) step(t *testing.T, f []string) string {
	args := make([]int64, len(f))
	for i := 1; i < len(f); i++ {
		fmt.Sscan(f[i], &args[i])
	}
	w := tr.w
	switch f[0] {
	case "begin":
		w.begin(anchor{}, args[1], args[2])
		tr.read, tr.flying = args[1], nil
	case "offer":
		size := int64(smallBatchBytes)
		if len(args) > 2 {
			size = args[2]
		}
		w.offer(wire{batch: make(record.Batch, size), count: args[1], first: tr.read, next: tr.read + args[1]})
		tr.read += args[1]
	case "gap":
		w.offer(wire{gap: &record.Gap{Reason: string(SourcePurged)}, first: tr.read, next: tr.read + args[1]})
		tr.read += args[1]
	case "send":
		var sent []string
		for w.sendable() {
			x, at := w.send()
			tr.flying = append(tr.flying, x.id)
			sent = append(sent, fmt.Sprintf("#%d at %d", x.id, at))
		}
		return "sent " + strings.Join(sent, ", ")
	case "swap":
		tr.flying[0], tr.flying[1] = tr.flying[1], tr.flying[0]
	case "ok":
		return tr.answer(calm, args[1])
	case "lost":
		return tr.answer(unsure, -1)
	case "fail":
		for k, name := range troubleNames {
			if name == f[1] {
				return tr.answer(k, -1)
			}
		}
		t.Fatalf("no trouble %q", f[1])
	case "resolved":
		done, ok := w.resolved(args[1])
		return fmt.Sprintf("%s fits=%v", names(done), ok)
	case "resume":
		w.resume()
	case "halt":
		return names(w.halt("test"))
	default:
		t.Fatalf("no step %q", f[0])
	}
	return "-"
}

func (tr *windowTrace) answer(outcome trouble, base int64) string {
	id := tr.flying[0]
	tr.flying = tr.flying[1:]
	return fmt.Sprintf("#%d: %s", id, names(tr.w.answer(id, outcome, base, "said so")))
}

func names(done []wire) string {
	var out []string
	for i := range done {
		out = append(out, fmt.Sprintf("#%d", done[i].id))
	}
	return "done [" + strings.Join(out, " ") + "]"
}

func (tr *windowTrace) state() string {
	w := tr.w
	return fmt.Sprintf("%s %s source=%d target=%d pending=%d sent=%d flying=%d wants=%v", w.state, troubleNames[w.trouble], w.source, w.target, len(w.pending), w.sent, w.flying, w.wants())
}

func TestPlanStart(t *testing.T) {
	a, b, c, d := hexID{1}, hexID{2}, hexID{3}, hexID{4}
	known := anchor{Generation: 1, SourceID: a, TargetID: c, SourceOffset: 100, TargetOffset: 70, SequenceBase: 10}
	for _, test := range []struct {
		name  string
		known bool
		src   sourceView
		dst   targetView
		want  plan
	}{
		{"first time", false, sourceView{a, 5, 50}, targetView{c, 0}, plan{claim: true, from: 5}},
		{"somebody's records there", false, sourceView{a, 5, 50}, targetView{c, 9}, plan{claim: true, from: 5, event: PositionLost}},
		{"nothing since the anchor", true, sourceView{a, 0, 100}, targetView{c, 70}, plan{from: 100}},
		{"some since the anchor", true, sourceView{a, 0, 200}, targetView{c, 90}, plan{from: 100, skip: 20}},
		{"target without ids", true, sourceView{a, 0, 200}, targetView{hexID{}, 90}, plan{from: 100, skip: 20}},
		{"source recreated", true, sourceView{b, 0, 7}, targetView{c, 70}, plan{claim: true, event: SourceRecreated}},
		{"target recreated", true, sourceView{a, 0, 200}, targetView{d, 0}, plan{claim: true, from: 30, event: TargetRecreated}},
		{"target recreated, source partly gone", true, sourceView{a, 50, 200}, targetView{d, 0}, plan{claim: true, from: 50, event: TargetRecreated, lost: [2]int64{30, 50}}},
		{"target lost its tail", true, sourceView{a, 0, 200}, targetView{c, 60}, plan{claim: true, from: 90, event: TargetTruncated}},
		{"target wiped, no ids", true, sourceView{a, 0, 200}, targetView{hexID{}, 0}, plan{claim: true, from: 30, event: TargetTruncated}},
		{"source lost its tail", true, sourceView{a, 0, 80}, targetView{c, 70}, plan{claim: true, from: 80, event: SourceTruncated}},
		{"source purged", true, sourceView{a, 150, 200}, targetView{c, 70}, plan{claim: true, from: 150, event: SourcePurged, lost: [2]int64{100, 150}}},
		{"source purged of what was mirrored", true, sourceView{a, 150, 200}, targetView{c, 120}, plan{claim: true, from: 150, event: SourcePurged}},
	} {
		got := planStart(known, test.known, test.src, test.dst)
		if (got.event == "") != (got.detail == "") {
			t.Errorf("%s: event %q with detail %q", test.name, got.event, got.detail)
		}
		if got.detail = ""; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestSequenceWrapsAsKafkaDoes(t *testing.T) {
	a := anchor{SequenceBase: 5}
	for target, want := range map[int64]int32{5: 0, 6: 1, 5 + 1<<31 - 1: 1<<31 - 1, 5 + 1<<31: 0, 5 + 1<<32 + 3: 3} {
		if got := a.sequence(target); got != want {
			t.Errorf("sequence at %d is %d, want %d", target, got, want)
		}
	}
}

func TestBookKeepsTheFirstClaimAndTheNewestPlace(t *testing.T) {
	tp := record.TopicPartition{Topic: "t"}
	at := func(generation, pid, target int64) anchor {
		return anchor{Generation: generation, ProducerID: pid, TargetOffset: target}
	}
	b := book{}
	for i, step := range []struct{ note, want anchor }{
		{at(1, 7, 0), at(1, 7, 0)},
		{at(1, 8, 0), at(1, 7, 0)}, // a later claim of the same generation lost
		{at(1, 7, 50), at(1, 7, 50)},
		{at(1, 7, 40), at(1, 7, 50)}, // a late refresh of an old process
		{at(2, 9, 45), at(2, 9, 45)},
		{at(1, 7, 60), at(2, 9, 45)}, // a zombie of the old generation
	} {
		if b.note(tp, step.note); b[tp] != step.want {
			t.Fatalf("step %d: %+v, want %+v", i, b[tp], step.want)
		}
	}
}

func FuzzParseAnchor(f *testing.F) {
	f.Add("up/mqtt/3", `{"generation":1,"source_topic_id":"00000000000000000000000000000001","source_offset":1,"target_topic":"e.mqtt","target_topic_id":"00000000000000000000000000000002","target_offset":9,"producer_id":4,"producer_epoch":0,"sequence_base":2}`)
	f.Add("a/b", `{}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		if flow, tp, err := parseAnchorKey(key); err == nil {
			if again, same, err := parseAnchorKey(anchorKey(flow, tp)); err != nil || again != flow || same != tp {
				t.Fatalf("key %q does not come back: %q %v %v", key, again, same, err)
			}
		}
		if a, err := parseAnchor([]byte(value)); err == nil && a.sequence(a.TargetOffset) < 0 {
			t.Fatalf("negative sequence of %+v", a)
		}
	})
}
