package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/checker"
)

// The topics that lose records as they are told to, and how.
const (
	deletedTopic   = "chaos-deleted"   // by DeleteRecords
	limitedTopic   = "chaos-limited"   // by retention.bytes
	compactedTopic = "chaos-compacted" // by later values of the same keys

	deletedPartitions = 2
	limitedBytes      = 128 << 10
	compactedKeys     = 20
	smallSegment      = "16384"
)

// removalTopics are created at the start.
var removalTopics = []struct {
	name       string
	partitions int32
	configs    map[string]string
}{
	{deletedTopic, deletedPartitions, map[string]string{"segment.bytes": smallSegment}},
	{limitedTopic, 1, map[string]string{"segment.bytes": smallSegment, "retention.bytes": fmt.Sprint(limitedBytes)}},
	{compactedTopic, 1, map[string]string{"segment.bytes": smallSegment, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}},
}

func (l *load) createRemovalTopics(ctx context.Context) error {
	for _, t := range removalTopics {
		configs := map[string]*string{}
		for name, value := range t.configs {
			configs[name] = kadm.StringPtr(value)
		}
		if _, err := l.adm.CreateTopic(ctx, t.partitions, 1, configs, t.name); err != nil {
			return fmt.Errorf("create topic %s: %w", t.name, err)
		}
	}
	return nil
}

// runRemovals writes to the topics that lose records, until ctx ends.
func (l *load) runRemovals(ctx context.Context) {
	deleted := workload{id: "deleted", topic: deletedTopic, codec: kgo.NoCompression(), burst: 4, pause: 20 * time.Millisecond}
	for p := range int32(deletedPartitions) {
		deleted.add(l.history.Lane(fmt.Sprintf("deleted.%d", p), false), p)
	}
	limited := workload{id: "limited", topic: limitedTopic, codec: kgo.NoCompression(), burst: 4, pause: 20 * time.Millisecond}
	limited.add(l.history.Lane("limited", false), 0)
	compacted := workload{id: "compacted", topic: compactedTopic, codec: kgo.Lz4Compression(), burst: 20, pause: 20 * time.Millisecond}
	for key := range compactedKeys {
		compacted.add(l.history.Lane(fmt.Sprintf("compacted.%02d", key), false).Compacted(), 0)
	}
	for _, w := range []workload{deleted, limited, compacted} {
		l.producers.Go(func() { l.failed(l.runProducer(ctx, w)) })
	}
	l.producers.Go(func() { l.failed(l.runDeletes(ctx)) })
}

// runDeletes moves the log start of the partitions again and again, until ctx ends.
// An offset that was acked as the log start stays it, and nothing above what was
// asked for goes.
func (l *load) runDeletes(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(l.opts.Seed, 3))
	for ctx.Err() == nil {
		if err := l.deleteRecords(int32(rng.IntN(deletedPartitions)), rng.Int64N(100)); err != nil {
			return fmt.Errorf("delete records: %w", err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return l.persist(l.checkStarts)
}

// deleteRecords leaves as many records in the partition as keep says.
func (l *load) deleteRecords(p int32, keep int64) error {
	var before int64
	err := l.persist(func(ctx context.Context) error {
		ends, err := l.adm.ListEndOffsets(ctx, deletedTopic)
		end, _ := ends.Lookup(deletedTopic, p)
		before = end.Offset - keep
		return errors.Join(err, ends.Error(), l.checkStarts(ctx))
	})
	if err != nil || before <= 0 {
		return err
	}
	tp := checker.Partition{Topic: deletedTopic, Index: p}
	l.starts.Tried(tp, before)
	err = l.persist(func(ctx context.Context) error {
		var offsets kadm.Offsets
		offsets.AddOffset(deletedTopic, p, before, -1)
		answers, err := l.adm.DeleteRecords(ctx, offsets)
		return errors.Join(err, answers.Error())
	})
	if err == nil {
		l.starts.Acked(tp, before)
	}
	return err
}

// checkStarts asks for the log starts, and notes them for the verdict. Only the
// goroutine that deletes may call it.
func (l *load) checkStarts(ctx context.Context) error {
	starts, err := l.adm.ListStartOffsets(ctx, deletedTopic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return fmt.Errorf("list log starts: %w", err)
	}
	starts.Each(func(o kadm.ListedOffset) {
		p := checker.Partition{Topic: o.Topic, Index: o.Partition}
		l.starts.Found(p, o.Offset)
		l.history.Trimmed(p, o.Offset)
	})
	return nil
}

// logStarts are the log start offsets of the topics that lose records by being cut,
// the sums over their partitions.
func logStarts(ctx context.Context, seed string) (map[string]int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, deletedTopic, limitedTopic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, fmt.Errorf("list log starts: %w", err)
	}
	sums := map[string]int64{}
	starts.Each(func(o kadm.ListedOffset) { sums[o.Topic] += o.Offset })
	return sums, nil
}

// checkLimit wants about retention.bytes to be left where that limits the log.
func checkLimit(ctx context.Context, cl *kgo.Client, h *checker.History, kept map[checker.Partition]int64) error {
	p := checker.Partition{Topic: limitedTopic}
	starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, limitedTopic)
	if err != nil {
		return err
	}
	start, ok := starts.Lookup(limitedTopic, 0)
	if !ok || start.Err != nil {
		return errors.Join(fmt.Errorf("%s has no log start", p), start.Err)
	}
	h.Trimmed(p, start.Offset)
	if start.Offset > 0 && kept[p] < limitedBytes/2 {
		return fmt.Errorf("%w: retention left %d bytes of %s, its limit is %d", errUnread, kept[p], p, limitedBytes)
	}
	return nil
}
