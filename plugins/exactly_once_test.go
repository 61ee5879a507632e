package plugins_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins"
	"github.com/weirmq/weir/plugins/transform"
	"github.com/weirmq/weir/testbed/crashfs"
)

// Power is cut again and again while a plugin works, each time at another
// moment; at the end every input record has exactly one outcome, in order: a
// record or a dead letter.
func TestExactlyOnceAcrossCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := crashfs.New()
	b := newBox(t, disk)
	b.topic("in", 2)
	b.topic("out", 1)
	b.topic("__weir_dead_letter.p", 1)
	h := b.host(nil)
	deploy(t, h, module(t, "hostile", "p", nil))
	const crashes, perCrash = 12, 60
	n := 0
	for range crashes {
		for range perCrash / 3 {
			for p := range int32(2) {
				v := func(i int) string { return fmt.Sprintf("%s%d/%d", []string{"a", "b", "X", "T"}[rng.IntN(4)], p, n+i) }
				b.produce(partition("in", p), record.Codec(rng.IntN(5)), v(0), v(1), v(2))
			}
			n += 3
		}
		at := rng.Int64N(int64(n))
		b.wait("some is done", func() bool { return position(h, 0) >= at })
		disk = disk.Clone(crashfs.CloneConfig{Rand: rng, Keep: 50, Torn: 20}) // the power goes
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		b.set.Close()
		b.fs = disk
		b.open()
		h = b.host(nil)
	}
	b.wait("all is done", func() bool { return position(h, 0) == int64(n) && position(h, 1) == int64(n) })
	outcomes := map[string]int{}
	next := [2]int{-1, -1}
	for _, name := range []string{"out", "__weir_dead_letter.p"} {
		if name != "out" {
			next = [2]int{-1, -1}
		}
		for _, r := range drain(t, b, partition(name, 0)) {
			var p, i int
			if _, err := fmt.Sscanf(string(r.Value[1:]), "%d/%d", &p, &i); err != nil {
				t.Fatalf("%q: %v", r.Value, err)
			}
			if i <= next[p] {
				t.Errorf("%s: %s comes after %d", name, r.Value, next[p])
			}
			next[p] = i
			outcomes[string(r.Value[1:])]++
		}
	}
	for p := range 2 {
		for i := range n {
			if k := fmt.Sprintf("%d/%d", p, i); outcomes[k] != 1 {
				t.Errorf("record %s has %d outcomes", k, outcomes[k])
			}
		}
	}
	if len(outcomes) != 2*n {
		t.Errorf("%d outcomes of %d records", len(outcomes), 2*n)
	}
}

// position is how far the plugin has come in partition p of "in"; -1 while it starts.
func position(h *plugins.Host, p int32) int64 {
	for _, i := range h.List() {
		for _, s := range i.Tasks {
			if s.Partition == p && s.State == transform.Running {
				return s.Position
			}
		}
	}
	return -1
}

func drain(t *testing.T, b *box, tp record.TopicPartition) (out []record.Record) {
	t.Helper()
	p, err := b.set.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	for at := p.LogStartOffset(); at < p.HighWatermark(); {
		bs, err := b.set.Fetch(context.Background(), tp, at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for batch := range bs.All() {
			rs, err := batch.Records()
			if err != nil {
				t.Fatal(err)
			}
			out, at = append(out, rs...), batch.NextOffset()
		}
	}
	return out
}
