package topic_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// The verbs that take something away, and what must be left: compaction, the disk
// policy, and the trash.

// keys is how many different keys the records of a workload have.
const keys = 7

// keyOf is the key of a value, by the number that the value begins with.
func keyOf(value string) string {
	var n int
	_, _ = fmt.Sscan(value, &n)
	return fmt.Sprint("k", n%keys)
}

func keyedBatch(t testing.TB, codec record.Codec, values ...string) record.Batch {
	t.Helper()
	var rs []record.Record
	for _, v := range values {
		rs = append(rs, record.Record{Timestamp: 1_700_000_000_000, Key: []byte(keyOf(v)), Value: []byte(v)})
	}
	b, err := record.NewBatch(codec, rs...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compacts reports whether offsets may be missing from the partition.
func compacts(set *topic.Set, p *topic.Partition) bool {
	t := set.Topic(p.TopicPartition().Topic)
	return t != nil && t.Config("cleanup.policy") == "compact"
}

// keyed appends to the compacted topic, which is made at the first call.
func (w *world) keyed() {
	if w.set.Load().Topic("k") == nil {
		w.createWith("k", 1, compacted)
	}
	w.append(record.TopicPartition{Topic: "k"}, 3, 1500)
}

// compact fills a segment or two and has them cleaned.
func (w *world) compact() {
	for range 4 {
		w.keyed()
	}
	w.set.Load().Compact()
	if st := w.set.Load().Cleaner(); st.LastError != "" {
		w.ok("compact", errors.New(st.LastError))
	}
}

// drop fills a topic and has it let go of its oldest records, with the active
// segment or without.
func (w *world) drop() {
	tp := record.TopicPartition{Topic: "d"}
	if w.set.Load().Topic("d") == nil {
		w.createWith("d", 1, map[string]string{"weir.disk.policy": topic.DiskDropOldest, "retention.ms": "-1"})
	}
	t := w.set.Load().Topic("d")
	if t == nil {
		return
	}
	bytes := []string{"16384", "1048576"}[w.rnd.IntN(2)]
	w.change(t, func(f form) form { return form{f.partitions, bytes} }, func() error {
		return w.set.Load().AlterConfigs("d", set("segment.bytes", bytes))
	})
	for range 10 {
		w.append(tp, 1, 12_000)
	}
	st := w.set.Load().DiskStatus()
	budget := st.LogBytes + 50<<10 // about 80 KiB must go
	if w.rnd.IntN(2) == 0 {
		i := slices.IndexFunc(st.Topics, func(t topic.TopicDisk) bool { return t.Topic == "d" })
		budget = st.LogBytes + 128<<10 - st.Topics[i].Bytes // all must
	}
	w.ok("close", w.set.Load().Close())
	w.mu.Lock()
	for k, log := range w.logs {
		if k.id == t.ID() {
			log.startMax = log.attempted
		}
	}
	w.mu.Unlock()
	w.trashMayGo()
	w.openWithin(budget)
	w.set.Load().Reclaim() // one is under way since the start
	w.each(func(log *promises, p *topic.Partition) { log.start = max(log.start, p.LogStartOffset()) })
	w.append(tp, 1, 700) // into the segment that the drop may have begun
	w.restart()
	w.append(tp, 1, 700)
}

// checkDrops makes sure that the gap records say exactly what the disk policy took
// of the only topic that has one: what is below its log start, each record once.
func (s snapshot) checkDrops(set *topic.Set) error {
	next := int64(0)
	gaps, err := readGaps(set)
	if err != nil {
		return err
	}
	for _, g := range gaps {
		if g.Topic != "d" || g.Reason != record.GapDisk || g.FirstOffset != next || g.Count != g.LastOffset-g.FirstOffset+1 || g.Count <= 0 {
			return fmt.Errorf("gap record %+v, want one of topic d from %d on", g, next)
		}
		next = g.LastOffset + 1
	}
	if p, err := set.Partition(record.TopicPartition{Topic: "d"}); err == nil && p.LogStartOffset() != next {
		return fmt.Errorf("%s starts at %d, gap records end at %d", p.TopicPartition(), p.LogStartOffset(), next)
	}
	return nil
}

func readGaps(set *topic.Set) (gaps []record.Gap, err error) {
	p, err := set.Partition(record.TopicPartition{Topic: record.GapTopic})
	if errors.Is(err, record.ErrUnknownTopicOrPartition) {
		return nil, nil
	}
	if err == nil {
		err = p.Err()
	}
	if err != nil {
		return nil, err
	}
	for next := int64(0); next < p.HighWatermark(); {
		bs, err := set.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return nil, err
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				return nil, err
			}
			for _, r := range rs {
				var g record.Gap
				if err := json.Unmarshal(r.Value, &g); err != nil {
					return nil, err
				}
				gaps = append(gaps, g)
			}
			next = b.NextOffset()
		}
	}
	return gaps, nil
}

// grave is a deleted topic.
type grave struct {
	name  string
	empty bool // its data may be gone from the trash
}

func (w *world) emptyTrash() {
	w.trashMayGo()
	_, err := w.set.Load().EmptyTrash(0)
	w.ok("empty the trash", err)
}

func (w *world) trashMayGo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, g := range w.dead {
		w.dead[id] = grave{g.name, true}
	}
}

// checkTrash checks that what was deleted can still be had.
func (s snapshot) checkTrash(disk *crashfs.FS) error {
	for id, g := range s.dead {
		if g.empty {
			continue
		}
		dir, inside, err := inTrash(disk, id)
		if err != nil || !slices.Contains(inside, g.name+".topic") || !slices.Contains(inside, g.name+"-0") {
			return fmt.Errorf("of topic %s %v the trash holds %q in %q, %v", g.name, id, inside, dir, err)
		}
	}
	return nil
}

func inTrash(disk *crashfs.FS, id topic.ID) (dir string, inside []string, err error) {
	dirs, err := disk.List("trash")
	for _, d := range dirs {
		if !strings.HasSuffix(d, "-"+id.String()) || err != nil || len(inside) > 0 {
			continue // a Delete that failed at once leaves an empty one
		}
		dir = "trash/" + d
		inside, err = disk.List(dir)
	}
	return dir, inside, err
}

// restore brings deleted topics back as an operator does, one at a time, and checks
// that they are whole.
func (s snapshot) restore(disk *crashfs.FS) error {
	for id, g := range s.dead {
		if g.empty {
			continue
		}
		copied := disk.Clone(crashfs.CloneConfig{Keep: 100})
		dir, inside, err := inTrash(copied, id)
		err = errors.Join(err, copied.Rename("topics", "topics.away"), copied.MkdirAll("topics"))
		for _, name := range inside {
			err = errors.Join(err, copied.Rename(dir+"/"+name, "topics/"+name))
		}
		if err != nil {
			return err
		}
		set, err := openOn(copied, snapshot{catalog: map[string]topic.Entry{}}, 2000, time.Now)
		if err != nil {
			return fmt.Errorf("with topic %s restored: %w", g.name, err)
		}
		if err := errors.Join(s.checkRestored(set, id), set.Close()); err != nil {
			return fmt.Errorf("topic %s %v, restored: %w", g.name, id, err)
		}
	}
	return nil
}

func (s snapshot) checkRestored(set *topic.Set, id topic.ID) error {
	t := set.ByID(id)
	if t == nil {
		return errors.New("it is not there")
	}
	for _, p := range t.Partitions() {
		if err := s.checkPartition(set, p, logKey{id, p.TopicPartition().Partition}, map[placed]bool{}); err != nil {
			return fmt.Errorf("%s: %w", p.TopicPartition(), err)
		}
	}
	return nil
}
