package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/testbed/checker"
)

// runGroup consumes as a group of one and commits what it has read.
func (l *load) runGroup(ctx context.Context) error {
	reader := l.history.Reader(groupName)
	cl, err := kgo.NewClient(l.clientOptions(
		kgo.ConsumerGroup(groupName),
		kgo.ConsumeTopics(kafkaTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(50*time.Millisecond),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			for topic, parts := range assigned {
				for _, p := range parts {
					reader.Assigned(checker.Partition{Topic: topic, Index: p})
				}
			}
		}),
	)...)
	if err != nil {
		return err
	}
	defer func() {
		cl.AllowRebalance()
		cl.Close()
	}()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		if err := note(fetches, reader); err != nil {
			return fmt.Errorf("group: %w", err)
		}
		l.groupRead.Add(int64(fetches.NumRecords()))
		l.commit(ctx, cl)
		cl.AllowRebalance()
	}
	return nil
}

// commit commits what was polled; a failed commit is of unknown fate.
func (l *load) commit(ctx context.Context, cl *kgo.Client) {
	offsets := cl.UncommittedOffsets()
	if len(offsets) == 0 {
		return
	}
	l.paused.Lock()
	defer l.paused.Unlock()
	// Bounded, so that checkCommits is not kept waiting by a dead connection.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	each(offsets, l.commits.Tried)
	cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 {
					l.commits.Acked(checker.Partition{Topic: t.Topic, Index: p.Partition}, offsets[t.Topic][p.Partition].Offset)
				}
			}
		}
	})
}

func each(offsets map[string]map[int32]kgo.EpochOffset, do func(checker.Partition, int64)) {
	for topic, parts := range offsets {
		for p, o := range parts {
			do(checker.Partition{Topic: topic, Index: p}, o.Offset)
		}
	}
}

// note gives the records to the reader. Errors of a broker that is down are
// not errors here.
func note(fetches kgo.Fetches, reader *checker.Reader) error {
	var failed error
	fetches.EachError(func(topic string, p int32, err error) {
		var loss *kgo.ErrDataLoss
		if errors.As(err, &loss) {
			failed = fmt.Errorf("%s/%d: %w", topic, p, err)
		}
	})
	fetches.EachRecord(func(r *kgo.Record) {
		lane, seq, err := identify(r)
		if err != nil {
			failed = fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
			return
		}
		reader.Record(checker.Partition{Topic: r.Topic, Index: r.Partition}, r.Offset, lane, seq)
	})
	return failed
}

// identify finds out which value a record is, and that it is intact.
func identify(r *kgo.Record) (lane string, seq int64, err error) {
	if r.Topic != mqttTopic {
		lane, seq, err = decode(r.Value)
		if err == nil && string(r.Key) != lane {
			err = fmt.Errorf("key %q, value of lane %s", r.Key, lane)
		}
		return lane, seq, err
	}
	var reading struct {
		Device string `json:"device"`
		Seq    int64  `json:"seq"`
	}
	if err := json.Unmarshal(r.Value, &reading); err != nil {
		return "", 0, fmt.Errorf("value %.60q: %w", r.Value, err)
	}
	if want := "sensors/" + reading.Device + "/telemetry"; string(r.Key) != want {
		return "", 0, fmt.Errorf("key %q of a reading of %s, want %s", r.Key, reading.Device, want)
	}
	return reading.Device, reading.Seq, nil
}

// errUnread is wrapped by the error that says which records cannot be read.
var errUnread = errors.New("the log was not read to its end")

// readAll reads the topics from start to end into the history. It gives up when
// nothing has come for the time of patience.
func readAll(ctx context.Context, seed string, h *checker.History, patience time.Duration, topics ...string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	left, err := ends(ctx, cl, topics)
	if err != nil {
		return err
	}
	reader, kept := h.FinalReader(), map[checker.Partition]int64{}
	for len(left) > 0 {
		fetches, err := poll(ctx, cl, patience)
		if err != nil {
			return fmt.Errorf("read back: %w within %v: %v (%w)", errUnread, patience, left, err)
		}
		if err := note(fetches, reader); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			tp := checker.Partition{Topic: p.Topic, Index: p.Partition}
			if n := len(p.Records); n > 0 {
				for _, r := range p.Records {
					kept[tp] += int64(len(r.Key) + len(r.Value))
				}
				if p.Records[n-1].Offset+1 >= left[tp] {
					delete(left, tp)
				}
			}
		})
	}
	return checkLimit(ctx, cl, h, kept)
}

// poll returns when there are records.
func poll(ctx context.Context, cl *kgo.Client, patience time.Duration) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		fetches := cl.PollFetches(ctx)
		if fetches.NumRecords() > 0 {
			return fetches, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// ends are the end offsets of the partitions that hold records.
func ends(ctx context.Context, cl *kgo.Client, topics []string) (map[checker.Partition]int64, error) {
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	listed, err := adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	left := map[checker.Partition]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(o.Topic, o.Partition); ok && start.Offset < o.Offset {
			left[checker.Partition{Topic: o.Topic, Index: o.Partition}] = o.Offset
		}
	})
	return left, nil
}
