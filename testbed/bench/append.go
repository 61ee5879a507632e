package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

const (
	writers     = 8
	deepFlight  = 64 // 1 MiB of batches: what a round of a busy box holds
	kafkaFlight = 5  // max.in.flight.requests.per.connection
	rawBlock    = 1 << 20
)

// durableAppend is eight writers against one that writes the same bytes to a file.
func durableAppend(o options, t *table) error {
	set, dir, err := open(o, "append")
	if err != nil {
		return err
	}
	defer discard(set, dir)
	made, err := set.Create(topicName, topic.Spec{Partitions: writers})
	if err != nil {
		return err
	}
	b, err := fullBatch()
	if err != nil {
		return err
	}
	n := o.bytes / len(b)
	for _, inFlight := range []int{deepFlight, kafkaFlight} {
		name := fmt.Sprintf("durable append, 8 writers, %d batches in flight each", inFlight)
		weir := side{"Weir", func() ([]float64, error) { return ingest(set, made.Partitions(), b, n, inFlight) }}
		raw := side{"write+fdatasync", func() ([]float64, error) {
			got, err := rawWrite(o.dir, b, n, rawBlock)
			return got[:min(1, len(got))], err
		}}
		measures := []measure{{name, ">= 0.7", "MiB/s"}, {name + ", checkpoint included", "", "MiB/s"}}
		if err := t.compare(o.pairs, measures, o.warmed(weir), o.warmed(raw)); err != nil {
			return err
		}
	}
	return nil
}

// ingest appends n batches: how fast until all are acknowledged, and how fast
// until they stand in their segments, durably, as well.
func ingest(set *topic.Set, parts []*topic.Partition, b record.Batch, n, inFlight int) ([]float64, error) {
	start := time.Now()
	if err := produce(parts, b, n, writers, inFlight); err != nil {
		return nil, err
	}
	acked := mib(n*len(b), start)
	if err := set.Checkpoint(); err != nil {
		return nil, err
	}
	return []float64{acked, mib(n*len(b), start)}, nil
}

// rawWrite appends n times b to a new file in blocks, each made durable: how
// fast, in MiB/s and in syncs a second.
func rawWrite(dir string, b []byte, n, block int) ([]float64, error) {
	name := "raw"
	fsys := vfs.OS(dir)
	f, err := fsys.Create(name)
	if err != nil {
		return nil, err
	}
	defer os.Remove(filepath.Join(dir, name))
	defer f.Close()
	buf := make([]byte, 0, block+len(b))
	start, at, syncs := time.Now(), int64(0), 0
	flush := func(size int) error {
		if _, err := f.WriteAt(buf[:size], at); err != nil {
			return err
		}
		at += int64(size)
		buf = buf[:copy(buf, buf[size:])]
		syncs++
		return f.Sync()
	}
	for range n {
		buf = append(buf, b...)
		if len(buf) >= block {
			if err := flush(block); err != nil {
				return nil, err
			}
		}
	}
	if len(buf) > 0 {
		if err := flush(len(buf)); err != nil {
			return nil, err
		}
	}
	return []float64{mib(n*len(b), start), float64(syncs) / time.Since(start).Seconds()}, nil
}

const (
	recordsPerWaiter = 500
	rawRecords       = 300
)

// waiters is many who each wait for one record, against a sync for every record.
func waiters(o options, t *table) error {
	set, dir, err := open(o, "waiters")
	if err != nil {
		return err
	}
	defer discard(set, dir)
	if _, err := set.Create(topicName, topic.Spec{}); err != nil {
		return err
	}
	b, err := batchOf(1)
	if err != nil {
		return err
	}
	weir := side{"Weir", func() ([]float64, error) { return waitEach(set, b, o.waiters) }}
	raw := side{"an fdatasync each", func() ([]float64, error) {
		got, err := rawWrite(o.dir, b, rawRecords, len(b))
		if err != nil {
			return nil, err
		}
		return got[1:], nil
	}}
	name := fmt.Sprintf("durable append of single records, %d waiters", o.waiters)
	return t.compare(o.pairs, []measure{{name, ">= 100", "records/s"}}, o.warmed(weir), o.warmed(raw))
}

func waitEach(set *topic.Set, b record.Batch, waiters int) ([]float64, error) {
	tp := record.TopicPartition{Topic: topicName}
	errs := make([]error, waiters)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range waiters {
		wg.Go(func() {
			own := append(record.Batch(nil), b...)
			for range recordsPerWaiter {
				if _, err := set.Append(context.Background(), tp, own); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return []float64{float64(waiters*recordsPerWaiter) / time.Since(start).Seconds()}, nil
}

const (
	smallBatch = 10 // records, so that a run reaches all partitions
)

// spread is the same bytes into many partitions and into one, of the same log.
func spread(o options, t *table) error {
	b, err := batchOf(smallBatch)
	if err != nil {
		return err
	}
	for _, many := range o.partitions {
		if err := spreadOver(o, t, b, many); err != nil {
			return err
		}
	}
	return nil
}

func spreadOver(o options, t *table, b record.Batch, many int) error {
	set, dir, err := open(o, fmt.Sprintf("spread-%d", many))
	if err != nil {
		return err
	}
	defer discard(set, dir)
	one, err := set.Create("one", topic.Spec{Partitions: 1})
	if err != nil {
		return err
	}
	spread, err := set.Create("many", topic.Spec{Partitions: int32(many)})
	if err != nil {
		return err
	}
	// The first batch of a partition makes its files: that is not what is measured.
	if err := produce(append(spread.Partitions()[:many:many], one.Partitions()...), b, many+1, writers, deepFlight); err != nil {
		return err
	}
	if err := set.Checkpoint(); err != nil {
		return err
	}
	n := o.bytes / len(b)
	into := func(name string, parts []*topic.Partition) side {
		return side{name, func() ([]float64, error) { return ingest(set, parts, b, n, deepFlight) }}
	}
	name := fmt.Sprintf("durable ingest over %d partitions", many)
	measures := []measure{{name, ">= 0.8 at 10000", "MiB/s"}, {name + ", checkpoint included", "", "MiB/s"}}
	return t.compare(o.pairs, measures,
		o.warmed(into(fmt.Sprintf("%d partitions", many), spread.Partitions())), o.warmed(into("1 partition", one.Partitions())))
}

// allocations counts what the append path leaves for the garbage collector.
func allocations(o options, t *table) error {
	set, dir, err := open(o, "allocations")
	if err != nil {
		return err
	}
	defer discard(set, dir)
	made, err := set.Create(topicName, topic.Spec{})
	if err != nil {
		return err
	}
	b, err := fullBatch()
	if err != nil {
		return err
	}
	n := max(o.bytes/4/len(b), 1)
	w := newWindow(deepFlight)
	send := func() error {
		for range n {
			w.acquire()
			made.Partitions()[0].Append(b, w)
		}
		return w.drain()
	}
	var got []float64
	for range o.pairs + 1 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := send(); err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		got = append(got, float64(after.Mallocs-before.Mallocs)/float64(n))
	}
	// The first run grows the buffers.
	t.alone(measure{"allocations per appended batch", "0", ""}, got[1:])
	return nil
}
