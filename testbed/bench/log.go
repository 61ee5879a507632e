package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

const (
	valueBytes = 200
	batchBytes = 16 << 10
	topicName  = "bench"
	freeBytes  = 1 << 30 // what a run leaves free on the disk
)

// catalog keeps the topics for as long as the run lasts: what is measured here
// is the log, not its metadata.
type catalog struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *catalog) Topics() ([]topic.Entry, error) { return nil, nil }

func (c *catalog) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *catalog) DeleteTopic(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	return nil
}

// open makes a log in a folder of its own, in the sync profile, which has no linger,
// with the write-ahead log that this machine's board profile gives it.
func open(o options, name string) (*topic.Set, string, error) {
	dir := filepath.Join(o.dir, name)
	cfg, err := firmwareconfig.Load("")
	if err != nil {
		return nil, dir, err
	}
	s := cfg.Storage
	set, err := topic.Open(topic.Options{
		FS: vfs.OS(dir), Catalog: &catalog{entries: map[string]topic.Entry{}}, LeaderEpoch: 1,
		MaxPartitions: 1 << 20, ReserveBytes: freeBytes,
		WritebackBytesPerSecond: int64(s.WritebackBytes),
		WAL:                     wal.Options{FileBytes: int64(s.WALFileBytes), MaxFiles: s.WALFiles, RoundBytes: int(s.CommitBytes)},
	})
	return set, dir, err
}

// discard closes a log and removes its data, so that rows do not fill the disk.
func discard(set *topic.Set, dir string) {
	if err := set.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: close:", err)
	}
	os.RemoveAll(dir)
}

// batchOf makes a batch of so many 200 byte records that nothing compresses.
func batchOf(records int) (record.Batch, error) {
	var w record.Builder
	value := make([]byte, valueBytes)
	for range records {
		if _, err := rand.Read(value); err != nil {
			return nil, err
		}
		w.Add(&record.Record{Timestamp: 1_700_000_000_000, Value: value})
	}
	b, err := w.Build(record.None)
	return bytes.Clone(b), err
}

// fullBatch is about 16 KiB of records.
func fullBatch() (record.Batch, error) { return batchOf(batchBytes / (valueBytes + 8)) }

// window is a producer's appends in flight: acquire waits while there are too many.
type window struct {
	slots chan struct{}
	err   atomic.Pointer[error]
}

func newWindow(n int) *window { return &window{slots: make(chan struct{}, n)} }

func (w *window) acquire() { w.slots <- struct{}{} }

// Complete implements record.Completion.
func (w *window) Complete(_ int64, err error) {
	if err != nil {
		w.fail(err)
	}
	<-w.slots
}

// fail stands apart so that Complete leaves nothing on the heap.
func (w *window) fail(err error) { w.err.CompareAndSwap(nil, &err) }

// drain waits for all that is in flight.
func (w *window) drain() error {
	for range cap(w.slots) {
		w.slots <- struct{}{}
	}
	for range cap(w.slots) {
		<-w.slots
	}
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}

// produce appends n batches with that many writers, each with inFlight of its
// own, round robin over the partitions. A writer stays with its partitions.
func produce(parts []*topic.Partition, b record.Batch, n, writers, inFlight int) error {
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			w := newWindow(inFlight)
			for j := i; j < n; j += writers {
				w.acquire()
				parts[j%len(parts)].Append(b, w)
			}
			errs[i] = w.drain()
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
