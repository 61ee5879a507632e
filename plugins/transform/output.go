package transform

import (
	"encoding/binary"

	"github.com/weirmq/weir/appliance/record"
)

// Sink is an output topic and its number of partitions.
type Sink struct {
	Topic      string
	Partitions int32
}

// recordOverhead is more than the framing of any record takes.
const recordOverhead = 32

// Output collects what one commit will write. It reuses its memory.
type Output struct {
	source   int32 // the input's partition
	maxBatch int
	maxBytes int
	bytes    int
	records  int
	lanes    [][]lane // by topic and partition
	dead     lane
	used     []*lane
	rejects  []reject
	reasons  []byte
	headers  []byte
}

// lane is one output partition: as many batches as it takes, none over maxBatch
// unless one record is.
type lane struct {
	tp       record.TopicPartition
	builders []*record.Builder
	filled   int
}

type reject struct{ source, start, end int }

// NewOutput makes an output for a task's options, whose defaults it fills in.
func NewOutput(o *Options) *Output {
	o.setDefaults()
	out := &Output{source: o.Input.Partition, maxBatch: o.MaxBatchBytes, maxBytes: o.MaxOutputBytes}
	for _, s := range o.Outputs {
		lanes := make([]lane, s.Partitions)
		for p := range lanes {
			lanes[p].tp = record.TopicPartition{Topic: s.Topic, Partition: int32(p)}
		}
		out.lanes = append(out.lanes, lanes)
	}
	out.dead.tp = o.DeadLetter
	return out
}

// Topics is the number of output topics.
func (o *Output) Topics() int { return len(o.lanes) }

// Reserve asks for room for n more bytes of keys, values and headers.
func (o *Output) Reserve(n int64) error {
	if n > int64(o.maxBytes-o.bytes) {
		return ErrOutputFull
	}
	o.bytes += int(n)
	return nil
}

// Add appends r to output topic number topic. The partition follows from the key
// as it does in Kafka's clients; without a key it is the input's. Offset is
// ignored; everything is copied.
func (o *Output) Add(topic int, r *record.Record) {
	lanes := o.lanes[topic]
	p := 0
	if len(lanes) > 1 {
		p = partition(r.Key, o.source, len(lanes))
	}
	o.add(&lanes[p], r)
	o.records++
}

// Reject refuses the input record with index source. The reason is copied.
func (o *Output) Reject(source int, reason []byte) {
	start := len(o.reasons)
	o.reasons = append(o.reasons, clip(reason)...)
	o.rejects = append(o.rejects, reject{source, start, len(o.reasons)})
}

func (o *Output) add(l *lane, r *record.Record) {
	if l.filled == 0 {
		o.used = append(o.used, l)
	}
	size := len(r.Key) + len(r.Value) + len(r.HeaderBlock) + recordOverhead
	if l.filled == 0 || l.builders[l.filled-1].Size()+size > o.maxBatch {
		if l.filled++; l.filled > len(l.builders) {
			l.builders = append(l.builders, new(record.Builder))
		}
		l.builders[l.filled-1].Reset()
	}
	l.builders[l.filled-1].Add(r)
}

// Reset forgets all records and keeps the memory.
func (o *Output) Reset() {
	for _, l := range o.used {
		l.filled = 0
	}
	o.used, o.bytes, o.records = o.used[:0], 0, 0
	o.forgetRejects()
}

func (o *Output) forgetRejects() { o.rejects, o.reasons = o.rejects[:0], o.reasons[:0] }

// appendWrites adds all batches to ws. They are valid until the next reset.
func (o *Output) appendWrites(ws []record.Write) ([]record.Write, error) {
	for _, l := range o.used {
		for _, b := range l.builders[:l.filled] {
			batch, err := b.Build(record.None)
			if err != nil {
				return ws, err
			}
			ws = append(ws, record.Write{TopicPartition: l.tp, Batch: batch})
		}
	}
	return ws, nil
}

// partition is the choice of Kafka's default partitioner for records with a key.
func partition(key []byte, source int32, n int) int {
	if key == nil {
		return int(source) % n
	}
	return int(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the hash of Kafka's Java client, seed included.
func murmur2(b []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
