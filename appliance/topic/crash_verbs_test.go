package topic_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// verb is one kind of change that a Set can make. It takes what it needs to
// decide from world.rnd, notes in the world what it asks for before it asks and
// what it was promised when it was, and passes each error through world.ok.
type verb struct {
	name  string
	often int // in a workload that is drawn at random
	do    func(w *world)
}

// verbs is all that workloads are made of. A new kind of change belongs here.
var verbs = []verb{
	{"append", 6, func(w *world) { w.append(w.anyLog("a", "b"), 1+w.rnd.IntN(3), 700) }},
	{"idempotent", 3, func(w *world) { w.idempotent("a", 0) }},
	{"transact", 3, (*world).transact},
	{"compact transactions", 1, (*world).compactTransactions},
	{"atomic", 3, func(w *world) { w.atomic("a", "b") }},
	{"large", 1, (*world).large},
	{"relaxed", 2, (*world).relaxed},
	{"checkpoint", 2, (*world).checkpoint},
	{"age", 2, func(w *world) { w.clock.turn(2 * time.Minute) }}, // so that segments roll
	{"retain", 1, (*world).retain},
	{"delete records", 1, func(w *world) { w.deleteRecords(w.anyLog("a", "b")) }},
	{"recreate", 1, (*world).recreate},
	{"keyed", 2, (*world).keyed},
	{"compact", 2, (*world).compact},
	{"drop", 1, (*world).drop},
	{"empty the trash", 1, (*world).emptyTrash},
	{"grow", 1, (*world).grow},
	{"alter", 1, (*world).alter},
	{"restart", 1, (*world).restart},
	{"kill", 1, (*world).kill},
	{"power cut", 1, (*world).powerCut},
}

// steps is how many verbs a workload has, beside its beginning and its end.
const steps = 36

var smallSegments = map[string]string{"segment.ms": "60000", "segment.bytes": "16384", "retention.ms": "1800000"}

// run does the workload: two topics, every verb at least once in an order of the
// seed's, and others between them.
func (w *world) run() {
	defer w.stop()
	w.open()
	w.create("a", 2)
	w.append(record.TopicPartition{Topic: "a"}, 1, 700)
	w.create("b", 1)
	for _, v := range w.script() {
		v.do(w)
	}
	w.retain()
	w.append(record.TopicPartition{Topic: "a"}, 1, 700)
	w.retain() // now it can remove the segments that were active then
	w.ok("close", w.set.Load().Close())
}

func (w *world) script() []verb {
	var drawn []verb
	for _, v := range verbs {
		drawn = append(drawn, slices.Repeat([]verb{v}, v.often)...)
	}
	out := slices.Clone(verbs)
	for len(out) < steps {
		out = append(out, drawn[w.rnd.IntN(len(drawn))])
	}
	w.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// anyLog is a partition of one of the topics.
func (w *world) anyLog(names ...string) record.TopicPartition {
	tp := record.TopicPartition{Topic: names[w.rnd.IntN(len(names))]}
	if t := w.set.Load().Topic(tp.Topic); t != nil {
		tp.Partition = int32(w.rnd.IntN(len(t.Partitions())))
	}
	return tp
}

func (w *world) create(name string, partitions int32) { w.createWith(name, partitions, smallSegments) }

func (w *world) createWith(name string, partitions int32, configs map[string]string) {
	t, err := w.set.Load().Create(name, topic.Spec{Partitions: partitions, Configs: configs})
	if w.ok("create "+name, err) {
		w.mu.Lock()
		w.owed[t.ID()] = name
		w.mu.Unlock()
	}
}

func (w *world) remove(name string) {
	t := w.set.Load().Topic(name)
	if t == nil {
		return // its creation failed
	}
	w.mu.Lock()
	delete(w.owed, t.ID())
	w.mu.Unlock()
	if w.ok("delete "+name, w.set.Load().Delete(name)) {
		w.mu.Lock()
		w.dead[t.ID()] = grave{name: name}
		w.mu.Unlock()
	}
}

func (w *world) recreate() {
	if w.rnd.IntN(3) == 0 {
		w.remove("k") // the next verb that needs it makes it
	}
	w.remove("b")
	w.create("b", 1)
	w.append(record.TopicPartition{Topic: "b"}, 1, 700)
}

// append appends n batches that share a round.
func (w *world) append(tp record.TopicPartition, n, size int) {
	done := make(chan error, n)
	waiting := 0
	for range n {
		w.mu.Lock()
		k, log := w.log(tp.Topic, tp.Partition)
		if log == nil {
			w.mu.Unlock()
			continue
		}
		values := w.unique(k, 1+w.rnd.IntN(3), size)
		w.mu.Unlock()
		waiting++
		w.set.Load().AppendAsync(tp, keyedBatch(w.t, record.None, values...), &ack{w: w, log: log, values: values, done: done})
	}
	for range waiting {
		w.ok("append to "+tp.String(), <-done)
	}
}

// large fills files of the write-ahead log, so that they are used again.
func (w *world) large() {
	tp := w.anyLog("a")
	for range 14 {
		w.append(tp, 1, 12_000)
	}
}

// relaxed appends to a topic that is acknowledged before it is synced. Nothing of it
// is promised, but what readers were shown, and the order; and it shares the
// write-ahead log with what is.
func (w *world) relaxed() {
	set := w.set.Load()
	if set.Topic("c") == nil {
		w.createWith("c", 1, map[string]string{"flush.messages": "4", "flush.ms": "60000"})
	}
	for range 1 + w.rnd.IntN(3) {
		w.mu.Lock()
		k, log := w.log("c", 0)
		if log == nil {
			w.mu.Unlock()
			return
		}
		values := w.unique(k, 1, 700)
		w.mu.Unlock()
		_, err := set.Append(context.Background(), record.TopicPartition{Topic: "c"}, batch(w.t, record.None, values...))
		w.ok("append to c", err)
	}
}

const producerID = 7

// idempotent appends the idempotent producer's next batch, or sends again the one
// whose outcome it does not know, as clients do.
func (w *world) idempotent(name string, partition int32) {
	w.mu.Lock()
	k, log := w.log(name, partition)
	if log == nil {
		w.mu.Unlock()
		return
	}
	if w.unsure == nil {
		w.unsure = w.unique(k, 2, 300)
	}
	values := w.unsure
	b := batch(w.t, record.None, values...)
	b.SetProducer(producerID, 0, w.sequence)
	sent := slices.Clone(b)
	log.unsure, log.unsureValues = sent, values
	w.mu.Unlock()
	done := make(chan error, 1)
	w.set.Load().AppendAsync(record.TopicPartition{Topic: name, Partition: partition}, b,
		&ack{w: w, log: log, values: values, batch: sent, done: done})
	if w.ok("idempotent append", <-done) {
		w.sequence += 2
		w.unsure = nil
	}
}

func (w *world) atomic(first, second string) {
	w.mu.Lock()
	k1, log1 := w.log(first, 0)
	k2, log2 := w.log(second, 0)
	if log1 == nil || log2 == nil {
		w.mu.Unlock()
		return
	}
	v1, v2 := w.unique(k1, 1, 300), w.unique(k2, 1, 300)
	w.groups = append(w.groups, []placed{{k1, v1[0]}, {k2, v2[0]}})
	w.mu.Unlock()
	w.ok("atomic append", w.set.Load().AppendAtomic(context.Background(), []record.Write{
		{TopicPartition: record.TopicPartition{Topic: first}, Batch: batch(w.t, record.Zstd, v1...)},
		{TopicPartition: record.TopicPartition{Topic: second}, Batch: batch(w.t, record.None, v2...)},
	}))
}

// checkpoint runs while appends commit: what it does not cover must stay in the
// write-ahead log.
func (w *world) checkpoint() {
	var during sync.WaitGroup
	during.Go(func() {
		defer w.stop()
		for range 4 {
			w.append(record.TopicPartition{Topic: "a", Partition: 1}, 1, 700)
			w.idempotent("a", 0)
		}
	})
	err := w.set.Load().Checkpoint()
	during.Wait()
	w.ok("checkpoint", err)
}

// retain runs retention when all that is there is old.
func (w *world) retain() {
	w.clock.turn(time.Hour)
	w.each(func(log *promises, _ *topic.Partition) { log.startMax = log.attempted })
	w.set.Load().Retain()
	w.each(func(log *promises, p *topic.Partition) { log.start = max(log.start, p.LogStartOffset()) })
}

func (w *world) each(do func(log *promises, p *topic.Partition)) {
	for _, t := range w.set.Load().Topics() {
		for _, p := range t.Partitions() {
			w.mu.Lock()
			if _, log := w.log(t.Name(), p.TopicPartition().Partition); log != nil {
				do(log, p)
			}
			w.mu.Unlock()
		}
	}
}

func (w *world) deleteRecords(tp record.TopicPartition) {
	p, err := w.set.Load().Partition(tp)
	if !w.ok("delete records", err) {
		return
	}
	before := p.HighWatermark() * 2 / 3
	w.mu.Lock()
	_, log := w.log(tp.Topic, tp.Partition)
	log.startMax = max(log.startMax, before)
	w.mu.Unlock()
	start, err := p.DeleteRecords(before)
	if w.ok("delete records", err) {
		w.mu.Lock()
		log.start = max(log.start, start)
		w.mu.Unlock()
	}
}

// form is what can be altered of a topic. What it may be after a crash is one that
// was acknowledged and perhaps one that was asked for.
type form struct {
	partitions   int
	segmentBytes string
}

func formOf(t *topic.Topic) form { return form{len(t.Partitions()), t.Config("segment.bytes")} }

// maxGrown bounds the partitions of a topic of the workload.
const maxGrown = 5

func (w *world) grow() {
	tp := w.anyLog("a", "b")
	t := w.set.Load().Topic(tp.Topic)
	if t == nil || len(t.Partitions()) >= maxGrown {
		return
	}
	tp.Partition = int32(len(t.Partitions()))
	w.change(t, func(f form) form { return form{f.partitions + 1, f.segmentBytes} }, func() error {
		return w.set.Load().AddPartitions(tp.Topic, tp.Partition+1)
	})
	w.append(tp, 1, 700)
}

func (w *world) alter() {
	t := w.set.Load().Topic(w.anyLog("a", "b").Topic)
	if t == nil {
		return
	}
	bytes := fmt.Sprint(16384 + 1024*w.rnd.IntN(8))
	w.change(t, func(f form) form { return form{f.partitions, bytes} }, func() error {
		return w.set.Load().AlterConfigs(t.Name(), set("segment.bytes", bytes))
	})
}

func (w *world) change(t *topic.Topic, into func(form) form, do func() error) {
	now := formOf(t)
	w.mu.Lock()
	// With an error before, the catalog and the folder may differ.
	w.forms[t.ID()] = append(slices.Clone(w.forms[t.ID()]), now, into(now))
	w.mu.Unlock()
	if w.ok("change "+t.Name(), do()) {
		w.mu.Lock()
		w.forms[t.ID()] = []form{into(now)}
		w.mu.Unlock()
	}
}

func (w *world) restart() {
	w.ok("close", w.set.Load().Close())
	w.open()
}

// kill and powerCut end the Set without Close, and go on with what is left.
func (w *world) kill() { w.goneTo((*crashfs.FS).Killed) }

func (w *world) powerCut() {
	if w.rnd.IntN(3) == 0 {
		w.mu.Lock()
		clear(w.catalog)
		w.mu.Unlock()
	}
	w.goneTo(func(disk *crashfs.FS) *crashfs.FS {
		return disk.Clone(crashfs.CloneConfig{Keep: w.rnd.IntN(101), Torn: 30, Rand: w.rnd})
	})
}

func (w *world) goneTo(clone func(*crashfs.FS) *crashfs.FS) {
	w.moving.Lock()
	left, _ := w.cut(clone)
	w.fs.OnOp(nil, nil)
	set := w.set.Swap(nil)
	w.use(left)
	w.moving.Unlock()
	_ = set.Close() // what it still does to the old disk is nobody's business
	w.open()
}
