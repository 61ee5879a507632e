package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// The trie finds what matching filter by filter finds, while filters come and go.
func TestTrieAgreesWithMatch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	words := []string{"a", "b", "", "$x", "+"}
	path := func(n int) string {
		var p []string
		for range 1 + rnd.IntN(4) {
			p = append(p, words[rnd.IntN(n)])
		}
		return strings.Join(p, "/")
	}
	var tr trie
	var subs []*subscription
	for range 3000 {
		if len(subs) > 0 && rnd.IntN(3) == 0 {
			i := rnd.IntN(len(subs))
			tr.remove(subs[i])
			subs = slices.Delete(subs, i, i+1)
		}
		filter := path(5)
		if filter == "" {
			continue
		}
		if rnd.IntN(3) == 0 {
			filter += "/#"
		}
		s := &subscription{filter: filter}
		tr.add(s)
		subs = append(subs, s)
		topic := []byte(path(4))
		if len(topic) == 0 {
			continue
		}
		var want, got []string
		for _, s := range subs {
			if packet.Match(s.filter, topic) {
				want = append(want, fmt.Sprintf("%s %p", s.filter, s))
			}
		}
		for _, s := range tr.match(nil, topic) {
			got = append(got, fmt.Sprintf("%s %p", s.filter, s))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("topic %s: got %v, want %v", topic, got, want)
		}
	}
	for _, s := range subs {
		tr.remove(s)
	}
	if tr.size != 0 || len(tr.root.children) != 0 {
		t.Errorf("%d filters and %d nodes are left", tr.size, len(tr.root.children))
	}
}

// The figures that Kafka's own clients are tested against.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func FuzzSessionDecode(f *testing.F) {
	srv := &Server{}
	srv.feeds.Store(&[]*feed{{idx: 0}})
	s := newSession(srv, "c")
	s.keep(&subscription{sess: s, filter: "a/+", qos: 1, id: 7})
	s.inflight = map[uint16]flight{3: {feed: srv.feedAt(0), offset: 9}, 4: {topic: "r"}}
	f.Add(s.encode(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSession(srv, "c")
		if s.decode(b) != nil {
			return
		}
		again := newSession(srv, "c")
		if err := again.decode(s.encode(nil)); err != nil {
			t.Fatal(err)
		}
		if len(again.subs) != len(s.subs) || len(again.inflight) != len(s.inflight) {
			t.Fatalf("%d subscriptions and %d flights became %d and %d", len(s.subs), len(s.inflight), len(again.subs), len(again.inflight))
		}
	})
}

// BenchmarkMatch is what a publish pays for the subscriptions that there are, most of
// which do not concern it: the cost follows the levels of the name.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var tr trie
			for i := range n {
				filter := fmt.Sprintf("site/%d/device/%d/%s", i%100, i, []string{"+", "#", "temp", "+/x"}[i%4])
				if i%10 == 9 {
					filter = fmt.Sprintf("site/+/device/%d/temp", i)
				}
				tr.add(&subscription{filter: filter})
			}
			topic := []byte("site/7/device/7/temp")
			var found []*subscription
			b.ReportAllocs()
			for b.Loop() {
				found = tr.match(found[:0], topic)
			}
		})
	}
}

// A digest has the beginning of every filter that matches one of its topic names, and
// only of whole stretches are there any.
func FuzzDigest(f *testing.F) {
	for _, seed := range [][2]string{{"a/b/c", "a/+/c"}, {"a", "a/#"}, {"/a", "/#"}, {"a//b", "a//+"}, {"/", "+/+"}, {"a/b", "a/b/#"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, topic, filter string) {
		if packet.CheckTopic([]byte(topic)) != nil || packet.CheckFilter([]byte(filter)) != nil || !packet.Match(filter, []byte(topic)) {
			return
		}
		var d digest
		d.addTopic([]byte(topic))
		if hash, ok := beginning(filter); ok && !d.has(hash) {
			t.Errorf("the digest of %q lacks the beginning of %q, which matches", topic, filter)
		}
	})
}

func TestDigester(t *testing.T) {
	var ds digests
	var g digester
	fd := &feed{}
	absent, _ := beginning("absent")
	read := func(from, to int64) {
		g.begin(fd, from)
		for o := from; o < to; o++ {
			g.add(&ds, o, fmt.Appendf(nil, "t/%d", o))
		}
		g.reach(&ds, to)
	}
	read(100, 300) // the second stretch is whole
	read(280, 400) // reading again what was read already, then the third
	read(1000, 1024)
	for _, want := range []struct{ from, to int64 }{{0, 0}, {127, 127}, {128, 384}, {200, 384}, {384, 384}, {1000, 1000}} {
		if to := ds.pass(fd, want.from, []uint64{absent}); to != want.to {
			t.Errorf("from %d one passes to %d, want %d", want.from, to, want.to)
		}
	}
	for o := int64(128); o < 384; o++ {
		hash, _ := beginning(fmt.Sprintf("t/%d/#", o))
		if to := ds.pass(fd, o/digestSpan*digestSpan, []uint64{absent, hash}); to > o {
			t.Errorf("the message at %d is passed over", o)
		}
	}
	if to := ds.pass(&feed{}, 128, nil); to != 128 {
		t.Errorf("of another feed one passes to %d", to)
	}
}
