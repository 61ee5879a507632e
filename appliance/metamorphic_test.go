package appliance_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

var (
	metaSeed  = flag.Uint64("meta.seed", 1, "the first seed of the metamorphic tests")
	metaSeeds = flag.Uint64("meta.seeds", 2, "how many seeds the metamorphic tests run")
)

// setting is what must make no difference to what is read: sizes, profile, codec,
// and when and how the box stops.
type setting struct {
	name         string
	segmentBytes int
	walBytes     int64
	linger       time.Duration
	lingerBytes  int
	codec        record.Codec // of all batches; less than 0: each its own
	openFiles    int
	restarts     int // in so many operations
	power        bool
	crowdedRuns  int // 1: all batches are late for their segments
}

var settings = []setting{
	{"large, never stopped", 1 << 20, 1 << 20, 0, 0, -1, 100, 1 << 30, false, 0},
	{"small segments", 16384, 64 << 10, 0, 0, record.None, 2, 25, false, 1},
	{"flash, power cuts", 20000, 64 << 10, 200 * time.Microsecond, 4096, record.Zstd, 4, 12, true, 1},
	{"wear, gzip", 65536, 128 << 10, time.Millisecond, 1 << 20, record.Gzip, 3, 40, true, 0},
	{"lz4, restarts all the time", 30000, 64 << 10, 0, 0, record.LZ4, 100, 5, true, 2},
	{"snappy", 16384, 256 << 10, 0, 0, record.Snappy, 8, 18, true, 1},
}

const metaOps = 160

// The same operations under different settings read back the same: records by
// offset and by time, idempotent producers' resends, committed offsets.
func TestSameOperationsReadBackTheSame(t *testing.T) {
	for seed := *metaSeed; seed < *metaSeed+*metaSeeds; seed++ {
		for _, s := range settings {
			t.Run(fmt.Sprintf("seed %d, %s", seed, s.name), func(t *testing.T) {
				t.Parallel()
				run := &metaRun{t: t, setting: s, ops: rand.New(rand.NewPCG(seed, 0)),
					stops: rand.New(rand.NewPCG(seed, 1)), disk: crashfs.New(),
					catalog: map[string]topic.Entry{}, logs: map[record.TopicPartition]*metaLog{}, commits: map[record.TopicPartition]int64{}}
				run.ms.Store(metaEpoch)
				run.open()
				for i := range metaOps {
					run.op()
					if run.stops.IntN(s.restarts) == 0 {
						run.restart()
						run.compare()
					} else if i%20 == 19 {
						run.compare()
					}
				}
				run.restart()
				run.compare()
				run.close()
			})
		}
	}
}

const metaEpoch = 1_700_000_000_000 // ms

// metaLog is what a partition must hold. What is before start is gone, or may be
// where retention was at work: it removes whole segments.
type metaLog struct {
	records  []record.Record
	start    int64
	startMax int64
	sequence int32
	last     record.Batch // of the idempotent producer
	lastBase int64
}

// metaRun is one run of the operations. What it draws from ops is the same under
// all settings; stops is the setting's own.
type metaRun struct {
	t *testing.T
	setting
	ops, stops *rand.Rand
	disk       *crashfs.FS
	ms         atomic.Int64 // the time; checkpoints ask, too
	epoch      int32
	set        *topic.Set
	groups     *group.Coordinator

	mu      sync.Mutex
	catalog map[string]topic.Entry
	logs    map[record.TopicPartition]*metaLog
	commits map[record.TopicPartition]int64
	values  int
}

func (m *metaRun) Topics() ([]topic.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.catalog)), nil
}

func (m *metaRun) PutTopic(e topic.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catalog[e.Name] = e
	return nil
}

func (m *metaRun) DeleteTopic(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.catalog, name)
	return nil
}

func (m *metaRun) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *metaRun) now() time.Time { return time.UnixMilli(m.ms.Load()) }

func (m *metaRun) open() {
	m.epoch++
	var err error
	m.set, err = topic.Open(topic.Options{FS: m.disk, Catalog: m, LeaderEpoch: m.epoch, OpenFiles: m.openFiles,
		Now: m.now, Configs: map[string]string{"segment.bytes": fmt.Sprint(m.segmentBytes)},
		WAL:                wal.Options{FileBytes: m.walBytes, MaxFiles: 3, Linger: m.linger, LingerBytes: m.lingerBytes, CrowdedRuns: m.crowdedRuns},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour})
	m.must(err)
	part, err := group.EnsureTopic(m.set)
	m.must(err)
	m.groups, err = group.Open(group.Options{Log: m.set, Partition: part})
	m.must(err)
}

func (m *metaRun) close() {
	m.must(errors.Join(m.groups.Close(), m.set.Close()))
}

// restart stops the box, kills it or cuts its power, and starts it again.
func (m *metaRun) restart() {
	left := m.disk
	switch how := m.stops.IntN(3); {
	case how == 0 || !m.power:
	case how == 1:
		left = m.disk.Killed()
	default:
		left = m.disk.Clone(crashfs.CloneConfig{Keep: m.stops.IntN(101), Torn: 30, Rand: m.stops})
	}
	m.close() // of a disk that is nobody's any more, if it was not a clean stop
	m.disk = left
	m.open()
}

// op does the next operation.
func (m *metaRun) op() {
	switch n := m.ops.IntN(20); {
	case len(m.logs) == 0 || n == 0 && len(m.catalog) < 6:
		m.create()
	case n < 9:
		m.produce()
	case n < 12:
		m.idempotent()
	case n < 14:
		m.atomic()
	case n < 16:
		m.commit()
	case n == 16:
		m.deleteRecords()
	case n == 17:
		m.retain()
	case n == 18:
		m.alter()
	default:
		m.must(m.set.Checkpoint())
		if m.ops.IntN(4) == 0 {
			m.remove()
		}
	}
}

func (m *metaRun) create() {
	name := fmt.Sprint("t", m.ops.IntN(4))
	if m.set.Topic(name) != nil {
		return
	}
	_, err := m.set.Create(name, topic.Spec{Partitions: 2, Configs: map[string]string{"retention.ms": "3600000"}})
	m.must(err)
	for p := range int32(2) {
		m.logs[record.TopicPartition{Topic: name, Partition: p}] = &metaLog{lastBase: -1}
	}
}

func (m *metaRun) remove() {
	tp, _ := m.any()
	m.must(m.set.Delete(tp.Topic))
	maps.DeleteFunc(m.logs, func(k record.TopicPartition, _ *metaLog) bool { return k.Topic == tp.Topic })
}

func (m *metaRun) any() (record.TopicPartition, *metaLog) {
	keys := slices.SortedFunc(maps.Keys(m.logs), func(a, b record.TopicPartition) int { return strings.Compare(a.String(), b.String()) })
	tp := keys[m.ops.IntN(len(keys))]
	return tp, m.logs[tp]
}

// records makes records, with timestamps that mostly grow.
func (m *metaRun) records(n int) (rs []record.Record) {
	for range n {
		m.values++
		rs = append(rs, record.Record{
			Timestamp: m.ms.Load() + int64(m.ops.IntN(2000)) - 500,
			Key:       fmt.Append(nil, "k", m.ops.IntN(9)),
			Value:     fmt.Append(nil, m.values, " ", strings.Repeat("v", m.ops.IntN(1500))),
		})
	}
	return rs
}

func (m *metaRun) batch(rs []record.Record) record.Batch {
	codec := record.Codec(m.ops.IntN(5)) // drawn always, so that all settings draw the same
	if m.codec >= 0 {
		codec = m.codec
	}
	b, err := record.NewBatch(codec, rs...)
	m.must(err)
	return b
}

// landed notes that records are in the log from base on.
func (m *metaRun) landed(log *metaLog, base int64, rs []record.Record) {
	m.t.Helper()
	if base != int64(len(log.records)) {
		m.t.Fatalf("records got offset %d, want %d", base, len(log.records))
	}
	log.records = append(log.records, rs...)
}

func (m *metaRun) produce() {
	tp, log := m.any()
	for range 1 + m.ops.IntN(4) {
		rs := m.records(1 + m.ops.IntN(5))
		base, err := m.set.Append(context.Background(), tp, m.batch(rs))
		m.must(err)
		m.landed(log, base, rs)
	}
	m.ms.Add(int64(m.ops.IntN(30)) * 1000)
}

func (m *metaRun) idempotent() {
	tp, log := m.any()
	if again := m.ops.IntN(3) == 0; again && log.last != nil {
		base, err := m.set.Append(context.Background(), tp, slices.Clone(log.last))
		m.must(err)
		if base != log.lastBase {
			m.t.Fatalf("a resend of offset %d got offset %d", log.lastBase, base)
		}
		return
	}
	rs := m.records(1 + m.ops.IntN(3))
	b := m.batch(rs)
	b.SetProducer(77, 0, log.sequence)
	last := slices.Clone(b)
	base, err := m.set.Append(context.Background(), tp, b)
	m.must(err)
	m.landed(log, base, rs)
	log.sequence, log.last, log.lastBase = log.sequence+int32(len(rs)), last, base
}

func (m *metaRun) atomic() {
	tp1, log1 := m.any()
	tp2, log2 := m.any()
	rs1, rs2 := m.records(2), m.records(1)
	m.must(m.set.AppendAtomic(context.Background(), []record.Write{{TopicPartition: tp1, Batch: m.batch(rs1)}, {TopicPartition: tp2, Batch: m.batch(rs2)}}))
	m.landed(log1, int64(len(log1.records)), rs1)
	m.landed(log2, int64(len(log2.records)), rs2)
}

func (m *metaRun) commit() {
	tp, log := m.any()
	offset := int64(m.ops.IntN(len(log.records) + 1))
	each, err := m.groups.Commit("g", group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: tp, Offset: offset}}})
	m.must(errors.Join(append(each, err)...))
	m.commits[tp] = offset
}

func (m *metaRun) deleteRecords() {
	tp, log := m.any()
	before := int64(m.ops.IntN(len(log.records) + 1))
	p, err := m.set.Partition(tp)
	m.must(err)
	start, err := p.DeleteRecords(before)
	m.must(err)
	if log.start = max(log.start, before); start < log.start {
		m.t.Fatalf("%s starts at %d, records before %d were deleted", tp, start, before)
	}
}

// retain has an hour pass now and then; what it removes depends on the segments.
func (m *metaRun) retain() {
	m.ms.Add((20 * time.Minute).Milliseconds())
	old := m.now().Add(-time.Hour).UnixMilli()
	for _, log := range m.logs {
		for i, r := range log.records {
			if r.Timestamp < old {
				log.startMax = max(log.startMax, int64(i)+1)
			}
		}
	}
	m.set.Retain()
}

func (m *metaRun) alter() {
	tp, _ := m.any()
	ms := fmt.Sprint(3_600_000 + m.ops.IntN(1000))
	m.must(m.set.AlterConfigs(tp.Topic, func(c map[string]string) (map[string]string, error) {
		c["retention.ms"] = ms
		return c, nil
	}))
}

// compare reads everything and asks for times.
func (m *metaRun) compare() {
	m.t.Helper()
	m.must(m.set.Checkpoint()) // what is acknowledged can be read
	for tp, log := range m.logs {
		p, err := m.set.Partition(tp)
		m.must(err)
		start := p.LogStartOffset()
		if start < log.start || start > max(log.start, log.startMax) {
			m.t.Fatalf("%s starts at %d, want %d to %d", tp, start, log.start, max(log.start, log.startMax))
		}
		m.compareRecords(p, log.records, start)
		for range 5 {
			m.compareTime(p, log.records, start, m.ms.Load()-m.stops.Int64N(3_000_000))
		}
		if committed, ok, err := m.groups.Committed("g", tp); err != nil || ok && committed.Offset != m.commits[tp] || !ok && m.commits[tp] != 0 {
			m.t.Fatalf("committed offset of %s: %v %v %v, want %d", tp, committed.Offset, ok, err, m.commits[tp])
		}
	}
}

func (m *metaRun) compareRecords(p *topic.Partition, want []record.Record, start int64) {
	m.t.Helper()
	next := start
	for next < p.HighWatermark() {
		bs, err := m.set.Fetch(context.Background(), p.TopicPartition(), next, 1+m.stops.IntN(10_000))
		m.must(err)
		for b := range bs.All() {
			rs, err := b.Records()
			m.must(err)
			for _, r := range rs {
				if r.Offset < next {
					continue
				}
				if r.Offset != next || r.Offset >= int64(len(want)) || !sameRecord(r, want[r.Offset]) {
					m.t.Fatalf("%s: offset %d holds %.20q, want offset %d", p.TopicPartition(), r.Offset, r.Value, next)
				}
				next++
			}
		}
	}
	if next != int64(len(want)) && start < int64(len(want)) {
		m.t.Fatalf("%s ends at %d, want %d", p.TopicPartition(), next, len(want))
	}
}

func sameRecord(a, b record.Record) bool {
	return a.Timestamp == b.Timestamp && string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value)
}

func (m *metaRun) compareTime(p *topic.Partition, want []record.Record, start, ts int64) {
	m.t.Helper()
	wantOffset, wantTS := int64(-1), int64(-1)
	for i := start; i < int64(len(want)); i++ {
		if want[i].Timestamp >= ts {
			wantOffset, wantTS = i, want[i].Timestamp
			break
		}
	}
	if offset, got, err := p.OffsetForTime(ts); err != nil || offset != wantOffset || got != wantTS {
		m.t.Fatalf("%s from time %d on: offset %d, time %d, %v; want offset %d, time %d; the log starts at %d",
			p.TopicPartition(), ts, offset, got, err, wantOffset, wantTS, start)
	}
	greatest := int64(-1)
	for i := start; i < int64(len(want)); i++ {
		greatest = max(greatest, want[i].Timestamp)
	}
	if _, got, err := p.MaxTimestamp(); err != nil || got != greatest {
		m.t.Fatalf("%s: greatest time %d, %v; want %d", p.TopicPartition(), got, err, greatest)
	}
}
