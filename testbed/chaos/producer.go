package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/checker"
)

const (
	// maxUnacked bounds the records that one producer has in flight.
	maxUnacked = 2000
	// burst is how many records a producer writes at once.
	burst = 20
	// maxBatch bounds a batch, so that the smallest message.max.bytes of a test takes it.
	maxBatch = 32 << 10
)

// codecs are used in turn, one for each producer.
var codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.SnappyCompression(), kgo.GzipCompression()}

// workload is what one producer writes: bursts of records, spread over its lanes.
// A producer and a partition, or a key, are a lane.
type workload struct {
	id, topic  string
	codec      kgo.CompressionCodec
	burst      int
	pause      time.Duration
	lanes      []*checker.Lane
	partitions []int32 // of the lanes
}

func (w *workload) add(lane *checker.Lane, partition int32) {
	w.lanes, w.partitions = append(w.lanes, lane), append(w.partitions, partition)
}

// producer is the workload of the main topic's number-th producer.
func (l *load) producer(number int) workload {
	w := workload{
		id: fmt.Sprintf("%d", number), topic: kafkaTopic, codec: codecs[number%len(codecs)],
		burst: burst, pause: 10 * time.Millisecond,
	}
	for p := range l.opts.Partitions {
		w.add(l.history.Lane(fmt.Sprintf("kafka-%d.%d", number, p), false), int32(p))
	}
	return w
}

// runProducer writes with idempotence until ctx ends and then waits until all is
// acked.
func (l *load) runProducer(ctx context.Context, w workload) error {
	cl, err := kgo.NewClient(l.clientOptions(
		kgo.ClientID("chaos-"+w.id),
		kgo.DefaultProduceTopic(w.topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(w.codec),
		kgo.ProducerLinger(2*time.Millisecond),
		kgo.MaxBufferedRecords(maxUnacked),
		kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.UnknownTopicRetries(-1),
		// A producer that was told of data loss stops: it must not begin anew
		// under another id, which would hide the loss as a duplicate.
		kgo.StopProducerOnDataLossDetected(),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for next := 0; ctx.Err() == nil; {
		for range w.burst {
			l.send(cl, w.lanes[next], w.partitions[next])
			next = (next + 1) % len(w.lanes)
		}
		select {
		case <-time.After(w.pause):
		case <-ctx.Done():
		}
	}
	flush, cancel := context.WithTimeout(l.life, l.opts.DrainTimeout)
	defer cancel()
	if err := cl.Flush(flush); err != nil {
		return fmt.Errorf("producer %s: not all records were acked within %v: %w", w.id, l.opts.DrainTimeout, err)
	}
	return nil
}

func (l *load) send(cl *kgo.Client, lane *checker.Lane, partition int32) {
	seq := lane.Send()
	rec := &kgo.Record{Partition: partition, Key: []byte(lane.Name()), Value: encode(lane.Name(), seq)}
	cl.Produce(l.life, rec, func(r *kgo.Record, err error) {
		if err != nil {
			lane.Abandoned(seq)
			l.failed(fmt.Errorf("produce %s#%d: %w", lane.Name(), seq, err))
			return
		}
		lane.AckedAt(seq, checker.Partition{Topic: r.Topic, Index: r.Partition}, r.Offset)
	})
}

// encode makes a record's value: the lane, the number and some filling that
// differs in length.
func encode(lane string, seq int64) []byte {
	return fmt.Appendf(nil, "%s#%d#%s", lane, seq, strings.Repeat("~", int(seq*37%300)))
}

func decode(value []byte) (lane string, seq int64, err error) {
	parts := strings.SplitN(string(value), "#", 3)
	if len(parts) != 3 {
		return "", 0, fmt.Errorf("value %.60q is not of this test", value)
	}
	if seq, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return "", 0, fmt.Errorf("value %.60q: %w", value, err)
	}
	if want := encode(parts[0], seq); string(want) != string(value) {
		return "", 0, fmt.Errorf("value %.60q… was altered", value)
	}
	return parts[0], seq, nil
}
