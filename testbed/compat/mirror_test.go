package compat_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/mirror"
	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/link"
	"github.com/weirmq/weir/testbed/logbox"
	"github.com/weirmq/weir/testbed/site"
)

const (
	childDir    = "WEIR_TEST_MIRROR_DIR" // makes the test binary a mirroring process
	childTarget = "WEIR_TEST_MIRROR_TO"
	partitions  = 3
	testTimeout = 3 * time.Minute
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := mirrorUntilKilled(dir, os.Getenv(childTarget)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func flowTo(addr string) mirror.Options {
	return mirror.Options{Site: "edge", Flows: []mirror.FlowOptions{{
		Name: "up", To: []string{addr}, Topics: []string{"*"}, RetryMax: 500 * time.Millisecond,
		MaxInFlightBytes: 1 << 20, // so that a kill finds much not sent yet
	}}}
}

// mirrorUntilKilled is the child: it prints its progress until it is killed or
// its standard input ends.
func mirrorUntilKilled(dir, addr string) error {
	s, err := logbox.Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	m, err := mirror.Start(flowTo(addr), mirror.Deps{Log: s.Log, Topics: s})
	if err != nil {
		return err
	}
	defer m.Close()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		f := m.Status().Flows[0]
		fmt.Println(f.RecordsSent, f.RecordsBehind, f.State)
		select {
		case <-ended:
			return nil
		case <-tick.C:
		}
	}
}

// fill makes a site whose topic "mqtt" holds count records, in batches from one
// record to many and of all codecs.
func fill(t *testing.T, dir string, count int, seed uint64) {
	t.Helper()
	s, err := logbox.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Log.Create("mqtt", topic.Spec{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, s, 0, count, seed)
}

// noise is bytes that do not compress, or all batches would be tiny on the wire.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:n]
}

// pendingAppend is one append under way.
type pendingAppend chan error

func (p pendingAppend) Complete(_ int64, err error) { p <- err }

func appendRecords(t *testing.T, s *logbox.Box, first, count int, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	var waiting []pendingAppend
	for n := first; n < first+count; {
		var w record.Builder
		size := []int{1, 1, 10, 500}[rng.IntN(4)]
		for ; w.Len() < size && n < first+count; n++ {
			w.Add(&record.Record{Timestamp: int64(n), Key: strconv.AppendInt(nil, int64(n), 10), Value: noise(rng, rng.IntN(2000)),
				Headers: []record.Header{{Key: "n", Value: strconv.AppendInt(nil, int64(n), 10)}}})
		}
		b, err := w.Build(record.Codec(rng.IntN(5)))
		if err != nil {
			t.Fatal(err)
		}
		done := make(pendingAppend, 1)
		s.Log.AppendAsync(record.TopicPartition{Topic: "mqtt", Partition: rng.Int32N(partitions)}, b, done)
		waiting = append(waiting, done)
	}
	for _, done := range waiting {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// sourceKeys is what each partition of the site holds, in order.
func sourceKeys(t *testing.T, s *logbox.Box) (keys [partitions][]string) {
	t.Helper()
	for p := range keys {
		tp := record.TopicPartition{Topic: "mqtt", Partition: int32(p)}
		part, err := s.Partition(tp)
		if err != nil {
			t.Fatal(err)
		}
		for o := int64(0); o < part.HighWatermark; {
			raw, err := s.Log.Fetch(t.Context(), tp, o, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for b := range raw.All() {
				rs, err := b.Records()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rs {
					keys[p] = append(keys[p], string(r.Key))
				}
				o = b.NextOffset()
			}
		}
	}
	return keys
}

// sameThere checks that the target holds exactly what the site holds, in order.
func sameThere(t *testing.T, dir, addr string) {
	t.Helper()
	s, err := logbox.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	compareWith(t, sourceKeys(t, s), addr)
}

func compareWith(t *testing.T, want [partitions][]string, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("edge.mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	total, read := 0, 0
	for p := range want {
		total += len(want[p])
	}
	var next [partitions]int
	for read < total {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the target holds %d records, want %d", read, total)
		}
		fs.EachRecord(func(r *kgo.Record) {
			p, i := r.Partition, next[r.Partition]
			if i >= len(want[p]) {
				t.Fatalf("partition %d holds more than the %d records of the source: key %s at offset %d", p, len(want[p]), r.Key, r.Offset)
			}
			if string(r.Key) != want[p][i] || r.Offset != int64(i) || len(r.Headers) != 1 || string(r.Headers[0].Value) != want[p][i] ||
				strconv.FormatInt(r.Timestamp.UnixMilli(), 10) != want[p][i] {
				t.Fatalf("partition %d offset %d: key %s, want %s: %+v", p, r.Offset, r.Key, want[p][i], r)
			}
			next[p]++
			read++
		})
	}
	// Not one more: the end offsets are what was read.
	ends := kadmEnds(t, addr, "edge.mqtt")
	for p := range want {
		if ends[int32(p)] != int64(len(want[p])) {
			t.Fatalf("partition %d ends at %d, want %d", p, ends[int32(p)], len(want[p]))
		}
	}
}

// killRun starts a mirroring process and kills it, with SIGKILL, once it has
// sent that many records or all there are, or when life ends, if that is not 0.
func killRun(t *testing.T, dir, addr string, records int, life time.Duration) (sent int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childTarget+"="+addr)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if life == 0 {
		life = testTimeout
	}
	late := time.AfterFunc(life, func() { cmd.Process.Kill() })
	defer late.Stop()
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		var behind int
		var state string
		if _, err := fmt.Sscan(last, &sent, &behind, &state); err != nil {
			t.Fatalf("child says %q", last)
		}
		if sent >= records || behind == 0 && state == string(mirror.Streaming) {
			cmd.Process.Kill()
			cmd.Wait()
			return sent
		}
	}
	err = cmd.Wait()
	if life < testTimeout && stderr.Len() == 0 {
		return sent
	}
	t.Fatalf("the mirroring process ended by itself or too late: %v, last %q\n%s", err, last, stderr.String())
	return 0
}

// killTenTimes is the promise: whatever kills the mirror, the target has every
// record once and in order.
func killTenTimes(t *testing.T, addr string, count int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	fill(t, dir, count, seed)
	for i := range 10 {
		life := time.Duration(0)
		if i%3 == 2 { // anywhere, so also while it recovers and finds its position
			life = time.Duration(1 + rng.IntN(60)*int(time.Millisecond))
		}
		sent := killRun(t, dir, addr, 1+rng.IntN(count/20), life)
		t.Logf("kill %d after %d records", i+1, sent)
	}
	killRun(t, dir, addr, math.MaxInt, 0)
	sameThere(t, dir, addr)
}

func TestMirrorKilledTenTimesToFakeKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	killTenTimes(t, c.ListenAddrs()[0], 20_000)
}

// openTarget opens a second appliance as the target; port 0 picks one.
func openTarget(t *testing.T, dir, addr string) *appliance.Broker {
	t.Helper()
	b, err := appliance.Open(appliance.Options{Data: dir, Kafka: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestMirrorKilledTenTimesToWeir(t *testing.T) {
	b := openTarget(t, t.TempDir(), "127.0.0.1:0")
	killTenTimes(t, b.KafkaAddr().String(), 20_000)
}

func TestMirrorToWeirRestartedInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	b := openTarget(t, dir, net.JoinHostPort(site.LoopbackHost(), "0"))
	addr := b.KafkaAddr().String()
	disturbed(t, addr, addr, 10_000, func(s *logbox.Box, rng *rand.Rand) {
		for i := range 5 {
			appendRecords(t, s, 10_000+i*2000, 2000, rng.Uint64())
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openTarget(t, dir, addr)
		}
	})
}

func TestMirrorKilledTenTimesToKafka(t *testing.T) {
	k := compat.StartKafka(t)
	killTenTimes(t, k.Addr, 100_000)
}

// behindLink starts a Kafka that is reached through a link only.
func behindLink(t *testing.T) (*compat.Cluster, *link.Link) {
	t.Helper()
	compat.Require(t)
	wan, err := link.New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wan.Close() })
	k := compat.StartKafka(t, "advertised.listeners=PLAINTEXT://"+wan.Addr())
	wan.Forward(k.Addr)
	return k, wan
}

// awaitMirrored waits until the flow has nothing left to send.
func awaitMirrored(t *testing.T, m *mirror.Mirror) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s := m.Status().Flows[0]
		if s.RecordsBehind == 0 && s.State == mirror.Streaming {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not mirrored in time: %+v", s)
		case <-tick.C:
		}
	}
}

// disturbed mirrors while disturb does its worst, then checks the target.
func disturbed(t *testing.T, mirrorAddr, addr string, count int, disturb func(s *logbox.Box, rng *rand.Rand)) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	fill(t, dir, count, seed)
	s, err := logbox.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := mirror.Start(flowTo(mirrorAddr), mirror.Deps{Log: s.Log, Topics: s})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	disturb(s, rand.New(rand.NewPCG(seed, 3)))
	awaitMirrored(t, m)
	if e := m.Status().Flows[0].Events; len(e) > 0 {
		t.Fatalf("events without a cause: %+v", e)
	}
	m.Close()
	compareWith(t, sourceKeys(t, s), addr)
}

func TestMirrorToKafkaKilledInTheMiddle(t *testing.T) {
	k := compat.StartKafka(t)
	disturbed(t, k.Addr, k.Addr, 50_000, func(s *logbox.Box, rng *rand.Rand) {
		for i := range 3 {
			appendRecords(t, s, 50_000+i*10_000, 10_000, rng.Uint64())
			k.Restart(t) // SIGKILL, then start
		}
	})
}

func TestMirrorToKafkaOverFlappingLink(t *testing.T) {
	k, wan := behindLink(t)
	disturbed(t, wan.Addr(), k.Addr, 50_000, func(s *logbox.Box, rng *rand.Rand) {
		for i := range 40 {
			appendRecords(t, s, 50_000+i*1000, 1000, rng.Uint64())
			wan.Cut()
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond) // the length of the outage, nothing is checked by it
			wan.Restore()
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		}
	})
}
