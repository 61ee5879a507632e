package txn_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/txn"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew; inspect the diff")

// TestTraces plays the scripts of testdata: a line that begins with ">" is an
// event, what follows is the answer, the effects and the state after it.
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
				t.Errorf("%s differs (-rewrite to accept); got:\n%s", file, got)
			}
		})
	}
}

// player drives one transaction through one script.
type player struct {
	t      *testing.T
	limits txn.Limits
	x      *txn.Transaction
	now    txn.Moment
	nextID int64
	value  []byte // of the last store
	out    strings.Builder
}

func play(t *testing.T, script string) string {
	p := &player{t: t, limits: txn.Limits{MaxTimeout: time.Minute, MaxPartitions: 3}, nextID: 100}
	p.now.Wall = time.UnixMilli(1_800_000_000_000)
	p.x = txn.New(&p.limits, "id", p.now)
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, "#"):
			p.out.WriteString(line)
		case strings.HasPrefix(line, ">"):
			p.out.WriteString(line)
			p.event(strings.Fields(line[1:]))
		}
	}
	return p.out.String()
}

// event carries out one line: a verb and its arguments, name=value.
func (p *player) event(words []string) {
	arg := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		arg[k] = v
	}
	id, epoch := p.number(arg["id"], int64(txn.NoProducer)), int16(p.number(arg["epoch"], int64(txn.NoEpoch)))
	switch words[0] {
	case "init":
		timeout := 10 * time.Second
		if s := arg["timeout"]; s != "" {
			timeout, _ = time.ParseDuration(s)
		}
		p.step(txn.Init{ProducerID: id, Epoch: epoch, Timeout: timeout, NewID: p.nextID}, true)
	case "add":
		p.step(txn.Add{ProducerID: id, Epoch: epoch, Partitions: partitions(arg["to"]), Bump: arg["bump"] != ""}, true)
	case "end":
		p.step(txn.End{ProducerID: id, Epoch: epoch, Commit: arg["commit"] != "", Bump: arg["bump"] != "", NewID: p.nextID}, true)
	case "abort":
		p.step(txn.Abort{NewID: p.nextID}, false)
	case "marked":
		p.step(txn.Marked{Partitions: partitions(arg["in"])}, false)
	case "check":
		p.line("check: %v", errorText(p.x.Check(id, epoch, partitions(arg["to"])[0])))
	case "pass":
		d, _ := time.ParseDuration(arg["time"])
		p.now.Wall, p.now.Elapsed = p.now.Wall.Add(d), p.now.Elapsed+d
		p.step(txn.Tick{NewID: p.nextID}, false)
	case "restart":
		var err error
		if p.x, err = txn.Restore(&p.limits, "id", p.value, p.now); err != nil {
			p.t.Fatal(err)
		}
		p.state()
	case "times": // the rest of the line, so many times over, without a trace but for the last state
		quiet := &player{t: p.t, limits: p.limits, x: p.x, now: p.now, nextID: p.nextID}
		for range p.number(words[1], 1) {
			d := quiet.lastAnswer()
			quiet.event([]string{"init", "id=" + fmt.Sprint(d[0]), "epoch=" + fmt.Sprint(d[1])})
		}
		p.nextID, p.value = quiet.nextID, quiet.value
		p.state()
	default:
		p.t.Fatalf("no such event: %v", words)
	}
}

// lastAnswer is the producer's session by what was stored last.
func (p *player) lastAnswer() [2]int64 {
	v := kmsg.NewTxnMetadataValue()
	if p.value == nil || v.ReadFrom(p.value) != nil {
		return [2]int64{-1, -1}
	}
	return [2]int64{v.ProducerID, int64(v.ProducerEpoch)}
}

func (p *player) number(s string, absent int64) int64 {
	if s == "" {
		return absent
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func partitions(s string) (out []record.TopicPartition) {
	for _, w := range strings.Split(s, ",") {
		if w == "" {
			continue
		}
		i := strings.LastIndexByte(w, '-')
		n, _ := strconv.Atoi(w[i+1:])
		out = append(out, record.TopicPartition{Topic: w[:i], Partition: int32(n)})
	}
	return out
}

func (p *player) step(ev txn.Event, request bool) {
	a, effects := p.x.Step(p.now, ev)
	if a.TookID {
		p.nextID++
	}
	switch {
	case request && a.Err != nil:
		again := ""
		if a.Again {
			again = " (again)"
		}
		p.line("error: %s%s", errorText(a.Err), again)
	case request && a.ProducerID != 0:
		p.line("ok producer=%d epoch=%d", a.ProducerID, a.Epoch)
	case request:
		p.line("ok")
	}
	for _, e := range effects {
		switch e := e.(type) {
		case txn.Store:
			p.value = e.Value
			v := kmsg.NewTxnMetadataValue()
			if err := v.ReadFrom(e.Value); err != nil {
				p.t.Fatal(err)
			}
			p.line("store %v producer=%d epoch=%d previous=%d next=%d topics=%d", v.State, v.ProducerID, v.ProducerEpoch, v.PreviousProducerID, v.NextProducerID, len(v.Topics))
		case txn.Mark:
			p.line("mark producer=%d epoch=%d commit=%v in %v", e.ProducerID, e.ProducerEpoch, e.Commit, e.Partitions)
		}
	}
	p.state()
}

func (p *player) state() {
	until := ""
	if at, ok := p.x.Deadline(); ok {
		until = fmt.Sprint(" until=", at)
	}
	p.line("= %v%s", p.x.State(), until)
}

func (p *player) line(format string, args ...any) {
	fmt.Fprintf(&p.out, "  "+format+"\n", args...)
}

func errorText(err error) string {
	for _, known := range []error{txn.ErrConcurrentTransactions, txn.ErrProducerFenced, txn.ErrInvalidProducerIDMapping,
		txn.ErrInvalidTransactionTimeout, txn.ErrLimit, record.ErrInvalidTxnState} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}
