package commitlog_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

var cleanSeeds = flag.Uint64("clean.seeds", 12, "how many random logs the cleaner's tests clean")

// kept is a log with keys, what was written to it, and what a reader is owed.
type kept struct {
	t    testing.TB
	rnd  *rand.Rand
	fs   *crashfs.FS
	log  *commitlog.Log
	opts commitlog.Options

	at      commitlog.Position
	next    int64
	now     int64
	segment int64 // bytes
	written map[int64]record.Record
	raw     map[int64]record.Batch // by base offset
	seq     map[int64]int32        // of each producer
	last    map[int64]int64        // base offset of the last batch of each producer
	dirty   int64                  // where the cleaner has come to
}

func newKept(t testing.TB, seed uint64) *kept {
	k := &kept{t: t, rnd: rand.New(rand.NewPCG(seed, 9)), fs: crashfs.New(), now: 1_700_000_000_000,
		written: map[int64]record.Record{}, raw: map[int64]record.Batch{}, seq: map[int64]int32{}, last: map[int64]int64{}}
	k.segment = int64(2000 + k.rnd.IntN(8000))
	if seed%3 == 2 {
		k.segment = int64(20_000 + k.rnd.IntN(20_000)) // large enough for their indexes to be looked at
	}
	k.opts = commitlog.Options{FS: vfs.NewPool(k.fs, 3), Dir: "p", IndexIntervalBytes: 300}
	if err := errors.Join(k.fs.MkdirAll("p"), k.fs.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	k.open()
	return k
}

func (k *kept) open() {
	var err error
	if k.log, err = commitlog.Open(k.opts); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) reopen() {
	if err := errors.Join(k.log.Sync(), k.log.Close()); err != nil {
		k.t.Fatal(err)
	}
	k.open()
}

// batch appends a batch of n records, with keys out of few; some are tombstones.
func (k *kept) batch(n, keys int) {
	var rs []record.Record
	for range n {
		k.now += int64(k.rnd.IntN(50)) - 10
		r := record.Record{Timestamp: k.now, Key: fmt.Appendf(nil, "key %d", k.rnd.IntN(keys)),
			Headers: []record.Header{{Key: "h", Value: []byte{byte(k.rnd.IntN(9))}}}}
		if k.rnd.IntN(6) > 0 {
			r.Value = []byte(fmt.Sprint(k.next+int64(len(rs)), strings.Repeat("v", k.rnd.IntN(80))))
		}
		rs = append(rs, r)
	}
	b, err := record.NewBatch(record.Codec(k.rnd.IntN(5)), rs...)
	if err != nil {
		k.t.Fatal(err)
	}
	if id := int64(k.rnd.IntN(4)); id > 0 {
		b.SetProducer(id, 2, k.seq[id])
		k.seq[id] += int32(n)
		k.last[id] = k.next
	}
	if k.rnd.IntN(10) == 0 {
		b.SetLogAppendTime(k.now)
	}
	k.put(b)
}

func (k *kept) put(b record.Batch) {
	b = bytes.Clone(b)
	b.SetBaseOffset(k.next)
	b.SetLeaderEpoch(3)
	if k.at.Byte > 0 && k.at.Byte+int64(len(b)) > k.segment {
		k.at = commitlog.Position{Segment: k.next}
	}
	if err := k.log.Write(k.at, b); err != nil {
		k.t.Fatal(err)
	}
	k.raw[k.next] = b
	rs, err := b.Records()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, r := range rs {
		r.Key, r.Value, r.HeaderBlock = bytes.Clone(r.Key), bytes.Clone(r.Value), bytes.Clone(r.HeaderBlock)
		k.written[r.Offset] = r
	}
	k.at.Byte, k.next = k.at.Byte+int64(len(b)), b.NextOffset()
}

const deleteRetention = 1000

func (k *kept) cleaning() commitlog.Cleaning {
	return commitlog.Cleaning{Dirty: k.dirty, Until: k.at.Segment, SegmentBytes: k.segment, Now: k.now, DeleteRetention: deleteRetention,
		Retain: func(h record.Batch) bool { return k.last[h.ProducerID()] == h.BaseOffset() }}
}

// clean cleans until everything that may be is, as the owner of a log does.
func (k *kept) clean(mapBytes int) (all commitlog.Cleaned) {
	k.t.Helper()
	if err := k.log.Sync(); err != nil {
		k.t.Fatal(err)
	}
	for c := (commitlog.Cleaner{MapBytes: mapBytes}); ; {
		done, err := c.Clean(k.log, k.cleaning())
		if err != nil {
			k.t.Fatal(err)
		}
		all.Removed, all.Replaced, all.Written, all.Segments = all.Removed+done.Removed, all.Replaced+done.Replaced, all.Written+done.Written, all.Segments+done.Segments
		all.Horizon = done.Horizon
		if done.Dirty < k.dirty || done.Dirty == k.dirty && done.Dirty < k.at.Segment {
			k.t.Fatalf("cleaned from %d to %d", k.dirty, done.Dirty)
		}
		if k.dirty = done.Dirty; k.dirty >= k.at.Segment {
			return all
		}
	}
}

// read reads the log as a consumer does, from the start, and checks that each record
// is one that was written, as it was, in order.
func (k *kept) read(l *commitlog.Log) (map[int64]record.Record, []record.Batch, error) {
	there, next := map[int64]record.Record{}, l.Start()
	var batches []record.Batch
	end, _ := l.End()
	for next < end {
		c, err := l.Read(next, 1+k.rnd.IntN(4000))
		if err != nil {
			return nil, nil, err
		}
		raw, err := c.AppendTo(nil)
		if err = errors.Join(err, c.Close()); err != nil {
			return nil, nil, err
		}
		if len(raw) == 0 {
			return nil, nil, fmt.Errorf("nothing to read at %d, the log ends at %d", next, end)
		}
		for b := range record.Batches(raw).All() {
			if err := b.Validate(); err != nil {
				return nil, nil, err
			}
			if b.NextOffset() <= next {
				return nil, nil, fmt.Errorf("batch of offsets %d to %d at %d", b.BaseOffset(), b.LastOffset(), next)
			}
			rs, err := b.Records()
			if err != nil {
				return nil, nil, err
			}
			at := max(next, b.BaseOffset())
			for _, r := range rs {
				w, ok := k.written[r.Offset]
				if !ok || r.Offset < at || r.Timestamp != w.Timestamp || !bytes.Equal(r.Key, w.Key) || !bytes.Equal(r.Value, w.Value) ||
					(r.Value == nil) != (w.Value == nil) || !bytes.Equal(r.HeaderBlock, w.HeaderBlock) {
					return nil, nil, fmt.Errorf("offset %d holds %v, written was %v", r.Offset, r, w)
				}
				there[r.Offset], at = w, r.Offset+1
			}
			if err := k.sameBatch(b); err != nil {
				return nil, nil, err
			}
			batches, next = append(batches, bytes.Clone(b)), b.NextOffset()
		}
	}
	if next != k.next {
		return nil, nil, fmt.Errorf("the log ends at %d, want %d", next, k.next)
	}
	return there, batches, nil
}

// sameBatch checks that a batch says of itself what it said when it was written.
func (k *kept) sameBatch(b record.Batch) error {
	was := k.raw[b.BaseOffset()]
	switch {
	case was == nil:
		return fmt.Errorf("no batch was written at %d", b.BaseOffset())
	case b.LastOffset() != was.LastOffset(), b.LeaderEpoch() != was.LeaderEpoch(), b.ProducerID() != was.ProducerID(),
		b.ProducerEpoch() != was.ProducerEpoch(), b.BaseSequence() != was.BaseSequence(), b.LogAppendTime() != was.LogAppendTime(),
		b.Count() > 0 && b.Codec() != was.Codec(), b.Control() != was.Control(), b.Transactional() != was.Transactional():
		return fmt.Errorf("the batch at %d is %x, it was %x", b.BaseOffset(), []byte(b[:record.HeaderLen]), []byte(was[:record.HeaderLen]))
	}
	if _, horizon := b.DeleteHorizon(); b.Count() == was.Count() && !horizon && !bytes.Equal(b, was) {
		return fmt.Errorf("the batch at %d keeps all its records and is not the same bytes", b.BaseOffset())
	}
	return nil
}

// check checks a log that was cleaned up to dirty: of each key the last record is
// there, and below dirty no other. A tombstone may be gone, and then all before it.
func (k *kept) check(l *commitlog.Log, dirty int64) error {
	segments, err := l.Segments()
	if err != nil {
		return err
	}
	for i := 1; i < len(segments); i++ {
		if segments[i-1].End != segments[i].Base {
			return fmt.Errorf("a segment ends at %d, the next begins at %d", segments[i-1].End, segments[i].Base)
		}
	}
	there, batches, err := k.read(l)
	if err != nil {
		return err
	}
	last, lastClean := map[string]int64{}, map[string]int64{}
	for o := range k.next {
		r, ok := k.written[o]
		if !ok || r.Key == nil {
			continue
		}
		last[string(r.Key)] = o
		if o < dirty {
			lastClean[string(r.Key)] = o
		}
	}
	for key, o := range last {
		if _, ok := there[o]; !ok && k.written[o].Value != nil {
			return fmt.Errorf("the last record of %q, at %d, is gone", key, o)
		}
	}
	for o, r := range there {
		if o < dirty && r.Key != nil && o < lastClean[string(r.Key)] {
			return fmt.Errorf("offset %d is there, %q was written again at %d below %d", o, r.Key, lastClean[string(r.Key)], dirty)
		}
	}
	for key, o := range last {
		if _, ok := there[o]; ok || k.written[o].Value != nil {
			continue
		}
		for old, r := range there {
			if string(r.Key) == key && old < o {
				return fmt.Errorf("the tombstone of %q at %d is gone, the record at %d is not", key, o, old)
			}
		}
	}
	have := map[int64]bool{}
	for _, b := range batches {
		have[b.BaseOffset()] = true
	}
	for id, base := range k.last {
		if !have[base] {
			return fmt.Errorf("the last batch of producer %d, at %d, is gone", id, base)
		}
	}
	return k.checkTimes(l, there)
}

func (k *kept) checkTimes(l *commitlog.Log, there map[int64]record.Record) error {
	greatest, first := int64(-1), int64(-1)
	probe := k.now - int64(k.rnd.IntN(5000))
	for o := range k.next {
		r, ok := there[o]
		if !ok {
			continue
		}
		greatest = max(greatest, r.Timestamp)
		if first < 0 && r.Timestamp >= probe {
			first = o
		}
	}
	offset, _, ok, err := l.OffsetForTime(0, probe)
	if err != nil || ok != (first >= 0) || ok && offset != first {
		return fmt.Errorf("offset for time %d is %d, %v, %w; want %d", probe, offset, ok, err, first)
	}
	if _, ts, ok, err := l.MaxTimestamp(0); err != nil || !ok || ts != greatest {
		return fmt.Errorf("greatest timestamp is %d, %v, %w; want %d", ts, ok, err, greatest)
	}
	return nil
}

func TestCleanKeepsTheLastOfEachKey(t *testing.T) {
	for seed := range *cleanSeeds {
		k := newKept(t, seed)
		var all commitlog.Cleaned
		for range 6 {
			for range 20 + k.rnd.IntN(60) {
				k.batch(1+k.rnd.IntN(8), 10+int(seed)*4)
			}
			if k.rnd.IntN(3) == 0 {
				k.reopen()
			}
			k.now += int64(k.rnd.IntN(2 * deleteRetention))
			done := k.clean([]int{0, 1 << 10, 4 << 10}[k.rnd.IntN(3)])
			all.Removed, all.Replaced, all.Segments = all.Removed+done.Removed, all.Replaced+done.Replaced, all.Segments+done.Segments
			if k.rnd.IntN(2) == 0 {
				k.reopen()
			}
			if err := k.check(k.log, k.dirty); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if all.Removed == 0 || all.Segments == 0 || all.Replaced <= all.Segments && k.segment < 10_000 {
			t.Errorf("seed %d: %d records removed, %d segments made of %d: too little to say anything", seed, all.Removed, all.Segments, all.Replaced)
		}
		if err := k.log.Close(); err != nil || k.fs.OpenFiles() != 0 {
			t.Errorf("seed %d: close: %v, %d files open", seed, err, k.fs.OpenFiles())
		}
	}
}

// A tombstone goes when it has been seen by the cleaner for delete.retention.ms.
func TestTombstonesGoAfterTheirHorizon(t *testing.T) {
	k := newKept(t, 1)
	one := func(key string, value []byte) record.Batch {
		b, err := record.NewBatch(record.None, record.Record{Key: []byte(key), Value: value, Timestamp: k.now})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	fill := func() { // seals the active segment
		for at := k.at.Segment; k.at.Segment == at; {
			k.put(one("filler", make([]byte, 500)))
		}
	}
	k.put(one("a", []byte("x")))
	k.put(one("b", []byte("y")))
	fill()
	k.put(one("a", nil))
	tombstone := k.next - 1
	fill()
	first := k.clean(0)
	if first.Horizon != k.now+deleteRetention {
		t.Fatalf("horizon %d, want %d", first.Horizon, k.now+deleteRetention)
	}
	there, batches, err := k.read(k.log)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := there[tombstone]; !ok || len(there) < 3 {
		t.Fatalf("the tombstone is gone at once: %v", there)
	}
	for _, b := range batches {
		if ms, ok := b.DeleteHorizon(); ok != (b.BaseOffset() == tombstone) || ok && ms != first.Horizon {
			t.Errorf("batch at %d: horizon %d, %v", b.BaseOffset(), ms, ok)
		}
	}
	for _, step := range []struct {
		after int64
		there bool
	}{{deleteRetention - 1, true}, {1, false}} {
		k.now += step.after
		fill()
		k.clean(0)
		there, _, err := k.read(k.log)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := there[tombstone]; ok != step.there {
			t.Errorf("%d ms later the tombstone is there: %v", step.after, ok)
		}
		if err := k.check(k.log, k.dirty); err != nil {
			t.Error(err)
		}
	}
}

// A foreign horizon in what was never cleaned here says nothing.
func TestHorizonFromElsewhere(t *testing.T) {
	k := newKept(t, 3)
	b, err := record.NewBatch(record.None, record.Record{Key: []byte("a"), Timestamp: k.now}, record.Record{Key: []byte("b"), Value: []byte("x"), Timestamp: k.now})
	if err != nil {
		t.Fatal(err)
	}
	var f record.Filter
	old, err := f.Apply(b, 5, func(*record.Record) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	k.put(old.Batch)
	for range 80 {
		k.batch(3, 5)
	}
	k.clean(0)
	there, batches, err := k.read(k.log)
	if err != nil {
		t.Fatal(err)
	}
	if ms, ok := batches[0].DeleteHorizon(); !ok || ms != k.now+deleteRetention {
		t.Errorf("horizon %d, %v; want %d", ms, ok, k.now+deleteRetention)
	}
	if _, ok := there[0]; !ok {
		t.Error("a tombstone went by a horizon that was not ours")
	}
}

func TestNothingToRemoveWritesNothing(t *testing.T) {
	k := newKept(t, 4)
	k.segment = 4000
	for i := range 300 {
		b, err := record.NewBatch(record.Zstd, record.Record{Key: fmt.Append(nil, i), Value: make([]byte, 100+i), Timestamp: k.now})
		if err != nil {
			t.Fatal(err)
		}
		k.put(b)
	}
	before := len(must(k.log.Segments()))
	if done := k.clean(0); done.Removed != 0 {
		t.Errorf("%d records removed", done.Removed)
	}
	if n := len(must(k.log.Segments())); n != before {
		t.Errorf("%d segments, were %d", n, before)
	}
	if done := k.clean(0); done.Written != 0 || done.Segments != 0 {
		t.Errorf("%d bytes written, %d segments replaced for nothing", done.Written, done.Segments)
	}
	if err := k.check(k.log, k.dirty); err != nil {
		t.Error(err)
	}
}

// What was aborted goes at once and supersedes nothing. A marker stays while there are
// records of what it ended, and then for as long as a tombstone (KIP-534).
func TestTransactionsAreCleaned(t *testing.T) {
	k := newKept(t, 15)
	send := func(producer int64, key, value string) int64 {
		b, err := record.NewBatch(record.None, record.Record{Key: []byte(key), Value: []byte(value), Timestamp: k.now})
		if err != nil {
			t.Fatal(err)
		}
		if producer == record.NoProducerID {
			k.put(b)
			return k.next - 1
		}
		b.SetTransactional(producer, 1, k.seq[producer])
		k.seq[producer]++
		k.put(b)
		return k.next - 1
	}
	mark := func(producer int64, commit bool) int64 {
		b := record.NewMarker(record.Marker{ProducerID: producer, ProducerEpoch: 1, Commit: commit}, k.now)
		k.put(b)
		return k.next - 1
	}
	fill := func() {
		for range 200 {
			k.batch(2, 3)
		}
	}
	var (
		before    = send(record.NoProducerID, "a", "before")
		aborted   = send(77, "a", "aborted")
		old       = send(78, "b", "superseded later")
		kept      = send(78, "c", "committed")
		abort     = mark(77, false)
		commit    = mark(78, true)
		again     = send(77, "d", "committed by who aborted before")
		secondEnd = mark(77, true)
		after     = send(record.NoProducerID, "b", "after it")
	)
	fill()
	clear(k.last) // they are not what this is about
	known := true // that it was aborted
	clean := func() commitlog.Cleaned {
		if err := k.log.Sync(); err != nil {
			t.Fatal(err)
		}
		o := k.cleaning()
		o.Aborted = func(h record.Batch) bool { return h.ProducerID() == 77 && h.BaseOffset() < abort }
		o.Marked = func(h record.Batch) bool { return known && h.BaseOffset() == abort }
		done, err := new(commitlog.Cleaner).Clean(k.log, o)
		if err != nil {
			t.Fatal(err)
		}
		k.dirty = done.Dirty
		return done
	}
	check := func(when string, want map[int64]bool) {
		t.Helper()
		there, _, err := k.read(k.log)
		if err != nil {
			t.Fatal(err)
		}
		for offset, want := range want {
			if _, ok := there[offset]; ok != want {
				t.Errorf("%s: offset %d is there: %v, want %v", when, offset, ok, want)
			}
		}
	}
	done := clean()
	all := map[int64]bool{before: true, aborted: false, old: false, kept: true, abort: true, commit: true, again: true, secondEnd: true, after: true}
	check("after the first cleaning", all)
	if want := k.now + 60_000; done.Horizon > want || done.Horizon < k.now {
		t.Errorf("the first marker may go at %d, want %d or before", done.Horizon, want)
	}
	k.now += 50_000
	fill()
	known = false
	clean()
	check("before its time", all)
	k.now += 50_000
	known = true
	fill()
	clean()
	check("after its time, but readers are still told of it", all)
	known = false
	fill()
	clean()
	all[abort] = false
	check("after its time", all)
	send(record.NoProducerID, "c", "supersedes the last record of the transaction")
	fill()
	clean()
	all[kept], all[commit] = false, false
	check("once there are no records of it", all)
}

// librdkafka takes ten answers in a row without a record for a message that is too
// large, and gives up. So segments that have none are passed over.
func TestReadsPassOverSegmentsWithoutRecords(t *testing.T) {
	k := newKept(t, 1)
	one := func(value []byte) record.Batch {
		return must(record.NewBatch(record.None, record.Record{Timestamp: k.now, Key: []byte("key"), Value: value}))
	}
	seal := func(value []byte) {
		if err := k.log.Roll(k.next); err != nil {
			t.Fatal(err)
		}
		k.at = commitlog.Position{Segment: k.next}
		k.put(one(value))
	}
	k.put(one([]byte("first")))
	for range 12 {
		seal(make([]byte, 500))
	}
	k.segment = 1 // so that segments are not joined
	seal(nil)
	tombstone := k.next - 1
	seal([]byte("live"))
	k.clean(0)
	read := func(offset int64) record.Batch {
		c := must(k.log.Read(offset, 1<<20))
		defer c.Close()
		return must(c.AppendTo(nil))
	}
	if n := len(must(k.log.Segments())); n != 15 {
		t.Fatalf("%d segments are left", n)
	}
	for offset := range tombstone {
		if b := read(offset); b.BaseOffset() != tombstone || b.Count() == 0 {
			t.Fatalf("a read at %d begins with offset %d, %d records", offset, b.BaseOffset(), b.Count())
		}
	}
	if b := read(tombstone + 1); string(must(b.Records())[0].Value) != "live" {
		t.Errorf("behind it is offset %d", b.BaseOffset())
	}
}

// Where nothing follows a reader is given what is there without records: it wants to
// know that the log has come to its end.
func TestReadAtAnEndWithoutRecords(t *testing.T) {
	k := newKept(t, 1)
	for range 2 {
		k.put(must(record.NewBatch(record.None, record.Record{Timestamp: k.now, Key: []byte("key")})))
	}
	if err := k.log.Roll(k.next); err != nil {
		t.Fatal(err)
	}
	k.at = commitlog.Position{Segment: k.next}
	k.clean(0)
	k.now += deleteRetention
	if _, err := new(commitlog.Cleaner).Clean(k.log, k.cleaning()); err != nil {
		t.Fatal(err)
	}
	c := must(k.log.Read(0, 1<<20))
	defer c.Close()
	if b := record.Batch(must(c.AppendTo(nil))); len(b) != record.HeaderLen || b.Count() != 0 || b.LastOffset() != k.next-1 {
		t.Errorf("%d bytes", len(b))
	}
}

// Records without a key, from before a topic was compacted, are superseded by nothing.
func TestRecordsWithoutKeyStay(t *testing.T) {
	k := newKept(t, 6)
	for range 60 {
		b, err := record.NewBatch(record.None, record.Record{Value: []byte("no key"), Timestamp: k.now}, record.Record{Key: []byte{}, Value: []byte("empty key"), Timestamp: k.now})
		if err != nil {
			t.Fatal(err)
		}
		k.put(b)
		k.batch(3, 4)
	}
	k.clean(0)
	there, _, err := k.read(k.log)
	if err != nil {
		t.Fatal(err)
	}
	for o, r := range k.written {
		if _, ok := there[o]; r.Key == nil && !ok {
			t.Errorf("the record without a key at %d is gone", o)
		}
	}
	if err := k.check(k.log, k.dirty); err != nil {
		t.Error(err)
	}
}

// Who reads a segment while it is replaced reads it to its end.
func TestReadersAtReplacedSegmentsFinish(t *testing.T) {
	k := newKept(t, 7)
	for range 200 {
		k.batch(4, 6)
	}
	var sections []commitlog.Section
	var want [][]byte
	for o := int64(0); o < k.at.Segment; o += 37 {
		c, err := k.log.Read(o, 3000)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		sections, want = append(sections, c), append(want, raw)
	}
	if done := k.clean(0); done.Segments == 0 {
		t.Fatal("nothing was replaced")
	}
	for i, c := range sections {
		got, err := c.AppendTo(nil)
		if err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("section %d: %d bytes, %v; want the %d from before", i, len(got), err, len(want[i]))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := k.check(k.log, k.dirty); err != nil {
		t.Error(err)
	}
	if err := k.log.Close(); err != nil || k.fs.OpenFiles() != 0 {
		t.Errorf("close: %v, %d files open", err, k.fs.OpenFiles())
	}
}

func TestCleaningStopsAndGoesOn(t *testing.T) {
	k := newKept(t, 8)
	for range 300 {
		k.batch(4, 20)
	}
	if err := k.log.Sync(); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for budget := 1000; ; budget += 7000 {
		left := budget
		c := commitlog.Cleaner{Throttle: func(n int) error {
			if left -= n; left < 0 {
				return stop
			}
			return nil
		}}
		done, err := c.Clean(k.log, k.cleaning())
		if err == nil {
			k.dirty = done.Dirty
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if err := k.check(k.log, 0); err != nil {
			t.Fatal(err)
		}
		names, err := k.fs.List("p")
		if err != nil || strings.Contains(fmt.Sprint(names), "cleaned") || strings.Contains(fmt.Sprint(names), "swap") {
			t.Fatalf("left behind: %v, %v", names, err)
		}
	}
	if err := k.check(k.log, k.dirty); err != nil {
		t.Error(err)
	}
}

func TestDamageIsReportedAndNothingChanged(t *testing.T) {
	k := newKept(t, 9)
	for range 200 {
		k.batch(4, 10)
	}
	k.reopen()
	segments := must(k.log.Segments())
	name := "p/" + commitlog.FileName(segments[1].Base)
	f, err := k.fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	const inTheTimestamp = 34 // where nothing but the CRC tells
	if _, err := f.ReadAt(b[:], inTheTimestamp); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], inTheTimestamp); err != nil {
		t.Fatal(err)
	}
	var c commitlog.Cleaner
	done, err := c.Clean(k.log, k.cleaning())
	var corrupt *commitlog.CorruptError
	if !errors.As(err, &corrupt) || corrupt.File != name || corrupt.Byte != 0 || !errors.Is(err, record.ErrCorrupt) {
		t.Fatalf("error %v, want damage at the start of %s", err, name)
	}
	if done.Dirty != 0 || done.Segments != 0 || len(must(k.log.Segments())) != len(segments) {
		t.Errorf("%+v", done)
	}
	_ = f.Close()
}

// Retention that takes segments away while they are cleaned wins.
func TestRetentionDuringCleaning(t *testing.T) {
	k := newKept(t, 10)
	for range 200 {
		k.batch(4, 10)
	}
	if err := k.log.Sync(); err != nil {
		t.Fatal(err)
	}
	segments := must(k.log.Segments())
	reads := 0
	c := commitlog.Cleaner{Throttle: func(int) error {
		if reads++; reads == len(segments)+1 {
			return k.log.RemoveBefore(segments[3].Base)
		}
		return nil
	}}
	if _, err := c.Clean(k.log, k.cleaning()); !errors.Is(err, commitlog.ErrRemoved) {
		t.Fatalf("error %v", err)
	}
	if start := k.log.Start(); start != segments[3].Base {
		t.Errorf("starts at %d, want %d", start, segments[3].Base)
	}
	k.clean(0)
	k.reopen()
	if start := k.log.Start(); start != segments[3].Base {
		t.Errorf("starts at %d after a restart, want %d", start, segments[3].Base)
	}
}

func TestBeforeSwapIsToldAndObeyed(t *testing.T) {
	k := newKept(t, 11)
	for range 200 {
		k.batch(4, 10)
	}
	if err := k.log.Sync(); err != nil {
		t.Fatal(err)
	}
	refuse := errors.New("not now")
	o := k.cleaning()
	o.BeforeSwap = func(commitlog.Replacement) error { return refuse }
	var c commitlog.Cleaner
	before := must(k.log.Segments())
	if _, err := c.Clean(k.log, o); !errors.Is(err, refuse) {
		t.Fatal(err)
	}
	if after := must(k.log.Segments()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("segments %v, were %v", after, before)
	}
	var told []commitlog.Replacement
	o.BeforeSwap = func(r commitlog.Replacement) error {
		r.First = bytes.Clone(r.First)
		told = append(told, r)
		return nil
	}
	if _, err := c.Clean(k.log, o); err != nil {
		t.Fatal(err)
	}
	after := map[int64]commitlog.SegmentInfo{}
	for _, s := range must(k.log.Segments()) {
		after[s.Base] = s
	}
	for _, r := range told {
		if after[r.New.Base] != r.New || r.First.BaseOffset() < r.New.Base || r.First.Magic() != 2 || r.Old[0].Base != r.New.Base || r.Old[len(r.Old)-1].End != r.New.End {
			t.Errorf("told of %+v, there is %+v", r, after[r.New.Base])
		}
	}
	if len(told) == 0 {
		t.Error("told of nothing")
	}
}

// A batch that stays empty keeps its greatest timestamp, for retention; but the
// greatest of the log is that of a record.
func TestGreatestTimestampIsThatOfARecord(t *testing.T) {
	k := newKept(t, 16)
	greatest := k.now + 1_000_000
	for i, ts := range []int64{greatest, k.now} {
		b, err := record.NewBatch(record.None, record.Record{Key: []byte("a"), Value: []byte("x"), Timestamp: ts})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			b.SetProducer(9, 0, 0)
			k.last[9] = 0
		}
		k.put(b)
	}
	for range 100 {
		k.batch(3, 4)
	}
	k.clean(0)
	if s := must(k.log.Segments())[0]; s.MaxTimestamp != greatest {
		t.Errorf("the first segment's greatest timestamp is %d, want %d: this shows nothing", s.MaxTimestamp, greatest)
	}
	if err := k.check(k.log, k.dirty); err != nil {
		t.Error(err)
	}
}

// An index of a segment that was replaced says nothing of the one that has its name.
func TestIndexesOfReplacedSegmentsGo(t *testing.T) {
	k := newKept(t, 13)
	k.segment = 40_000
	for range 600 {
		k.batch(4, 10)
	}
	k.reopen()
	replaced := map[string]bool{}
	o := k.cleaning()
	o.BeforeSwap = func(r commitlog.Replacement) error {
		for _, old := range r.Old {
			replaced[strings.TrimSuffix(commitlog.FileName(old.Base), ".log")] = true
		}
		return nil
	}
	must(k.log.Segments())
	before := must(k.fs.List("p"))
	var c commitlog.Cleaner
	if _, err := c.Clean(k.log, o); err != nil {
		t.Fatal(err)
	}
	for _, name := range must(k.fs.List("p")) {
		if base, isLog := strings.CutSuffix(name, ".log"); !isLog && replaced[strings.SplitN(base, ".", 2)[0]] {
			t.Errorf("%s is still there", name)
		}
	}
	if len(replaced) == 0 || !strings.Contains(fmt.Sprint(before), "0000.timeindex") {
		t.Errorf("replaced %v, of %v: this shows nothing", replaced, before)
	}
	k.reopen()
	if err := k.check(k.log, 0); err != nil {
		t.Error(err)
	}
}

// Offsets further apart than a segment's index can say are not put together.
func TestSegmentsFarApartStayApart(t *testing.T) {
	k := newKept(t, 12)
	k.segment = 1 << 20
	for i := range 4 {
		k.next = int64(i) * (math.MaxInt32 - 5)
		k.at = commitlog.Position{Segment: k.next}
		k.batch(3, 2)
	}
	k.at = commitlog.Position{Segment: k.next}
	k.batch(1, 2)
	k.last = map[int64]int64{}
	k.clean(0)
	for _, s := range must(k.log.Segments()) {
		if s.End-1-s.Base > math.MaxInt32 {
			t.Errorf("segment %+v", s)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// BenchmarkClean cleans 32 MiB of 200-byte records in batches of 80, nine of ten superseded.
func BenchmarkClean(b *testing.B) {
	const total = 32 << 20
	for _, codec := range []record.Codec{record.None, record.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				l, end := benchLog(b, codec, total)
				b.StartTimer()
				var c commitlog.Cleaner
				done, err := c.Clean(l, commitlog.Cleaning{Until: end, SegmentBytes: 8 << 20, Retain: func(record.Batch) bool { return false }})
				if err != nil || done.Removed == 0 {
					b.Fatalf("%+v, %v", done, err)
				}
				b.StopTimer()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.SetBytes(total)
		})
	}
}

func benchLog(b *testing.B, codec record.Codec, total int) (*commitlog.Log, int64) {
	l, err := commitlog.Open(commitlog.Options{FS: vfs.OS(b.TempDir()), Dir: "."})
	if err != nil {
		b.Fatal(err)
	}
	var at commitlog.Position
	next, plain := int64(0), 0
	value := make([]byte, 200)
	for plain < total {
		var rs []record.Record
		for i := range 80 {
			rs = append(rs, record.Record{Key: fmt.Append(nil, "sensor ", (next+int64(i))*7919%16_000), Value: value})
		}
		x, err := record.NewBatch(codec, rs...)
		if err != nil {
			b.Fatal(err)
		}
		x.SetBaseOffset(next)
		if at.Byte > 8<<20 || plain%(total/4) < 80*200 && at.Byte > 0 {
			at = commitlog.Position{Segment: next}
		}
		if err := l.Write(at, x); err != nil {
			b.Fatal(err)
		}
		at.Byte, next, plain = at.Byte+int64(len(x)), x.NextOffset(), plain+80*200
	}
	if err := l.Sync(); err != nil {
		b.Fatal(err)
	}
	return l, at.Segment
}
