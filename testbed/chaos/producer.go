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

// runProducer writes to all partitions with idempotence until ctx ends and then
// waits until all is acked. A producer and a partition are a lane.
func (l *load) runProducer(ctx context.Context, number int) error {
	cl, err := kgo.NewClient(l.clientOptions(
		kgo.ClientID(fmt.Sprintf("chaos-%d", number)),
		kgo.DefaultProduceTopic(kafkaTopic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codecs[number%len(codecs)]),
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
	lanes := make([]*checker.Lane, l.opts.Partitions)
	for p := range lanes {
		lanes[p] = l.history.Lane(fmt.Sprintf("kafka-%d.%d", number, p), false)
	}
	for ctx.Err() == nil {
		for i := range burst {
			l.send(cl, lanes[i%len(lanes)], int32(i%len(lanes)))
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.opts.DrainTimeout)
	defer cancel()
	if err := cl.Flush(flush); err != nil {
		return fmt.Errorf("producer %d: not all records were acked within %v: %w", number, l.opts.DrainTimeout, err)
	}
	return nil
}

func (l *load) send(cl *kgo.Client, lane *checker.Lane, partition int32) {
	seq := lane.Send()
	rec := &kgo.Record{Partition: partition, Key: []byte(lane.Name()), Value: encode(lane.Name(), seq)}
	cl.Produce(context.Background(), rec, func(r *kgo.Record, err error) {
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
