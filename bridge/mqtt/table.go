package mqtt

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/weirmq/weir/appliance/record"
)

// headerOrder is on records that a snapshot wrote again: the offset that the value
// first had. The record with the highest order is the key's state, so a snapshot
// that runs beside new writes can never undo one.
const headerOrder = "mqtt.order"

// compactAfter is how many superseded records a table may hold before it is
// written anew.
const compactAfter = 10_000

// tableConfigs keeps the broker's own retention away from a table's topic.
var tableConfigs = map[string]string{"retention.ms": "-1", "retention.bytes": "-1"}

// table is keyed state in one partition of an internal topic: the last record of a
// key is its value, a null value its end. The owner keeps the state in memory
// under mu, which the table's bookkeeping shares.
type table struct {
	log   Log
	tp    record.TopicPartition
	apply func(r *record.Record, order int64) // called with mu held; must copy

	mu      sync.Mutex
	start   int64 // log start offset
	applied int64 // everything below is in memory
}

func openTable(ctx context.Context, log Log, topic string, apply func(*record.Record, int64)) (*table, error) {
	t := &table{log: log, tp: record.TopicPartition{Topic: topic}, apply: apply}
	if _, err := log.Ensure(topic, 1, tableConfigs); err != nil {
		return nil, fmt.Errorf("mqtt: topic %s: %w", topic, err)
	}
	start, end, err := log.Offsets(t.tp)
	if err != nil {
		return nil, fmt.Errorf("mqtt: topic %s: %w", topic, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = start
	for t.applied = start; t.applied < end; {
		bs, err := log.Fetch(ctx, t.tp, t.applied, loadBytes)
		if err != nil {
			return nil, fmt.Errorf("mqtt: load %s at offset %d: %w", topic, t.applied, err)
		}
		if err := t.load(bs); err != nil {
			return nil, fmt.Errorf("mqtt: load %s: %w", topic, err)
		}
	}
	return t, nil
}

const loadBytes = 256 << 10

func (t *table) load(bs record.Batches) error {
	dec := record.Decoder{RawHeaders: true}
	for b := range bs.All() {
		if err := dec.Reset(b); err != nil {
			return err
		}
		for r := (record.Record{}); ; {
			ok, err := dec.Next(&r)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			t.apply(&r, orderOf(&r))
		}
		t.applied = b.NextOffset()
	}
	return nil
}

func orderOf(r *record.Record) int64 {
	order := r.Offset
	for key, value := range func(y func(k, v []byte) bool) { headers(r.HeaderBlock, y) } {
		if string(key) == headerOrder {
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				order = n
			}
		}
	}
	return order
}

// put stages one record. done is called once the record is committed and applied,
// or refused; like any Completion it must not block.
func (t *table) put(r *record.Record, done func(err error)) {
	t.stageAll([]record.Record{*r}, done)
}

// write is stageAll as a part of a group.
func (t *table) write(records []record.Record, done func(err error)) (record.AsyncWrite, error) {
	b, err := record.NewBatch(record.None, records...)
	if err != nil {
		return record.AsyncWrite{}, err
	}
	w := record.Write{TopicPartition: t.tp, Batch: b}
	return record.AsyncWrite{Write: w, Done: &tableWrite{table: t, batch: b, done: done}}, nil
}

// putAll stages records as one batch and waits.
func (t *table) putAll(ctx context.Context, records []record.Record) error {
	result := make(chan error, 1)
	t.stageAll(records, func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stageAll is put for several records: one batch, so all or none.
func (t *table) stageAll(records []record.Record, done func(err error)) {
	w, err := t.write(records, done)
	if err != nil {
		done(err)
		return
	}
	t.log.AppendAsync(t.tp, w.Batch, w.Done)
}

type tableWrite struct {
	table *table
	batch record.Batch
	mark  func() // called with mu held once the records are applied; may be nil
	done  func(error)
}

func (w *tableWrite) Complete(base int64, err error) {
	if err == nil {
		t := w.table
		t.mu.Lock()
		w.batch.SetBaseOffset(base)
		if err = t.load(record.Batches(w.batch)); err == nil && w.mark != nil {
			w.mark()
		}
		t.mu.Unlock()
	}
	w.done(err)
}

// due reports whether a snapshot would at least halve the topic.
func (t *table) due(live int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.applied-t.start > int64(2*live+compactAfter)
}

// compact writes the live records again and lets go of what lies before them.
// snapshot is called with mu held, so that it and the offset agree; its records
// carry their order in headerOrder.
func (t *table) compact(ctx context.Context, snapshot func() []record.Record) error {
	t.mu.Lock()
	records, before := snapshot(), t.applied
	t.mu.Unlock()
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size < loadBytes) {
			size += len(records[n].Key) + len(records[n].Value) + len(records[n].HeaderBlock)
			n++
		}
		if err := t.putAll(ctx, records[:n]); err != nil {
			return fmt.Errorf("mqtt: compact %s: %w", t.tp.Topic, err)
		}
		records = records[n:]
	}
	if err := t.log.DeleteRecords(t.tp, before); err != nil {
		return fmt.Errorf("mqtt: compact %s: delete records before %d: %w", t.tp.Topic, before, err)
	}
	t.mu.Lock()
	t.start = before
	t.mu.Unlock()
	return nil
}
