package appliance_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/topic"
)

var (
	metadataSeed = flag.Uint64("metadata.seed", 1, "seed of the damage done to the metadata")
	metadataFull = flag.Bool("metadata.full", false, "flip every byte of the metadata, not a sample")
)

// furnished makes a data directory with some of everything that metadata knows of.
func furnished(t *testing.T) (dir string, last int64) {
	t.Helper()
	dir = t.TempDir()
	b := open(t, dir)
	cl := client(t, b)
	for name, spec := range map[string]topic.Spec{
		"plain": {Partitions: 2}, "tuned": {Partitions: 1, Configs: map[string]string{"retention.ms": "777000"}}, "doomed": {Partitions: 1},
	} {
		if _, err := b.Topics().Create(name, spec); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := cl.ProduceSync(patience(t), &kgo.Record{Topic: name, Value: fmt.Append(nil, name, i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "tuned", At: 2, LeaderEpoch: -1})
	if _, err := kadm.NewClient(cl).CommitOffsets(patience(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	if err := b.Topics().Delete("doomed"); err != nil {
		t.Fatal(err)
	}
	if err := b.Metadata().Bucket("plugins").Put("p", []byte("manifest")); err != nil {
		t.Fatal(err)
	}
	last, _, err := cl.ProducerID(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, last
}

// known is what clients see of the box, in words.
func known(t *testing.T, b *appliance.Broker) string {
	t.Helper()
	cl := client(t, b)
	defer cl.Close()
	out := []string{b.Status().ClusterID}
	for _, one := range b.Topics().Topics() {
		out = append(out, fmt.Sprint(one.Name(), one.ID(), one.Internal(), len(one.Partitions()), one.Overrides()))
		for _, p := range one.Partitions() {
			if one.Internal() {
				continue
			}
			for at := p.LogStartOffset(); at < p.HighWatermark(); {
				batches, err := b.Topics().Fetch(context.Background(), p.TopicPartition(), at, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				for one := range batches.All() {
					records, err := one.Records()
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range records {
						out = append(out, fmt.Sprint(p.TopicPartition(), r.Offset, string(r.Value)))
					}
					at = one.NextOffset()
				}
			}
		}
	}
	offsets, err := kadm.NewClient(cl).FetchOffsets(patience(t), "g")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := offsets.Lookup("tuned", 0)
	return strings.Join(append(out, fmt.Sprint("group at ", o.At)), "\n")
}

// copyOf is a data directory with the named files altered; nil removes one.
func copyOf(t *testing.T, dir string, alter map[string][]byte) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for name, b := range alter {
		path := filepath.Join(to, name)
		err := os.Remove(path)
		if b != nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// Whatever is lost of the metadata, the box starts, and topics, ids, configs,
// records, offsets of groups and the cluster id are what they were. Leader epochs
// and producer ids do not come twice.
func TestBoxOutlivesItsMetadata(t *testing.T) {
	dir, lastID := furnished(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole := open(t, copyOf(t, dir, nil))
	want, epoch := known(t, whole), whole.Status().LeaderEpoch
	if !strings.Contains(want, "tuned") || !strings.Contains(want, "plain1") || !strings.Contains(want, "group at 2") || strings.Contains(want, "doomed") {
		t.Fatalf("the box knows too little or too much:\n%s", want)
	}
	db, garbage := read("metadata.db"), []byte("garbage")
	cases := []struct {
		name  string
		alter map[string][]byte
		state string
	}{
		{"store missing", map[string][]byte{"metadata.db": nil}, "rebuilt from copy"},
		{"store empty", map[string][]byte{"metadata.db": {}}, "rebuilt from copy"},
		{"store cut in half", map[string][]byte{"metadata.db": db[:len(db)/2]}, "rebuilt from copy"},
		{"copy missing", map[string][]byte{"metadata.copy": nil}, "intact"},
		{"copy damaged", map[string][]byte{"metadata.copy": garbage}, "intact"},
		{"store and copy missing", map[string][]byte{"metadata.db": nil, "metadata.copy": nil}, "rebuilt from folders"},
		{"store and copy damaged", map[string][]byte{"metadata.db": garbage, "metadata.copy": garbage}, "rebuilt from folders"},
	}
	t.Logf("seed %d", *metadataSeed)
	rnd := rand.New(rand.NewPCG(*metadataSeed, 0))
	flips := []int{}
	for range 6 {
		flips = append(flips, rnd.IntN(len(db)))
	}
	if *metadataFull {
		for at := range db {
			flips = append(flips, at)
		}
	}
	for _, at := range flips {
		bad := bytes.Clone(db)
		bad[at] ^= 1 << rnd.IntN(8)
		cases = append(cases, struct {
			name  string
			alter map[string][]byte
			state string
		}{fmt.Sprintf("byte %d of the store flipped", at), map[string][]byte{"metadata.db": bad}, ""})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			damaged := copyOf(t, dir, c.alter)
			for start := range 2 {
				b := open(t, damaged)
				if got := known(t, b); got != want {
					t.Fatalf("start %d: the box knows\n%s\nwant\n%s", start, got, want)
				}
				st := b.Status()
				if start == 0 && c.state != "" && st.Metadata.State != c.state || start == 1 && st.Metadata.State != "intact" {
					t.Errorf("start %d: state %q, want %q", start, st.Metadata.State, c.state)
				}
				if st.LeaderEpoch < epoch {
					t.Errorf("start %d: leader epoch %d was given out before", start, st.LeaderEpoch)
				}
				if id, err := b.Metadata().NextProducerID(); err != nil || id <= lastID {
					t.Errorf("start %d: producer id %d, %v; %d was given out before", start, id, err, lastID)
				}
				_, registered, err := b.Metadata().Bucket("plugins").Get("p")
				if lost := strings.Contains(c.state, "folders"); err != nil || registered == lost {
					t.Errorf("start %d: plugin registered: %v, %v", start, registered, err)
				}
				checkReported(t, b, st, start == 0 && st.Metadata.State != "intact")
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// checkReported makes sure that an operator hears of it.
func checkReported(t *testing.T, b *appliance.Broker, st appliance.Status, rebuilt bool) {
	t.Helper()
	var w metric.Writer
	b.Metrics(&w)
	want := "weir_metadata_rebuilt 0\n"
	if rebuilt {
		want = "weir_metadata_rebuilt 1\n"
	}
	if !slices.Contains(strings.SplitAfter(string(w.Bytes()), "\n"), want) {
		t.Errorf("the metrics lack %q", want)
	}
	if (b.MetadataWarning() != "") != rebuilt || rebuilt && (st.Metadata.Recovery == nil || st.Metadata.Recovery.Reason == "") {
		t.Errorf("warning %q, status %+v", b.MetadataWarning(), st.Metadata)
	}
}
