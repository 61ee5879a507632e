package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// passingTopics come and go.
	passingTopics = 4
	// maxPassingPartitions is how many partitions one may grow to.
	maxPassingPartitions = 5
)

// passing is a topic that comes and goes, as its only administrator knows it: the
// client tries a request again until it has an answer.
type passing struct {
	name       string
	exists     bool
	partitions int
	retention  string // retention.ms
}

// errWrong is wrapped by what is said of a topic that is not as it was made.
var errWrong = errors.New("a promise was broken")

// runTopics creates, alters, enlarges and deletes topics until ctx ends, and wants
// each to be what it was made, also after a kill.
func (l *load) runTopics(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(l.opts.Seed, 4))
	topics := make([]passing, passingTopics)
	for i := range topics {
		topics[i].name = fmt.Sprintf("chaos-passing-%d", i)
	}
	for ctx.Err() == nil {
		t := &topics[rng.IntN(len(topics))]
		err := l.persist(l.change(t, rng))
		for i := range topics {
			if err == nil {
				t = &topics[i]
				err = l.persist(func(ctx context.Context) error { return l.verify(ctx, t) })
			}
		}
		if err != nil {
			return fmt.Errorf("topic %s: %w", t.name, err)
		}
		select {
		case <-time.After(30 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// persist asks again until there is an answer, while the broker is killed and
// started. What is asked for may be done more than once by that.
func (l *load) persist(ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(l.life, l.opts.DrainTimeout)
	defer cancel()
	for {
		err := ask(ctx)
		var refused *kerr.Error
		if err == nil || ctx.Err() != nil || errors.Is(err, errWrong) || errors.As(err, &refused) && !refused.Retriable {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// change decides on one thing to do to the topic and returns what does it. An answer
// that it is done already is that of an attempt whose own answer was lost.
func (l *load) change(t *passing, rng *rand.Rand) func(context.Context) error {
	retention := strconv.Itoa(3_600_000 + rng.IntN(1000))
	kind := rng.IntN(3)
	switch {
	case !t.exists:
		*t = passing{name: t.name, exists: true, partitions: 1 + rng.IntN(2), retention: retention}
		return func(ctx context.Context) error {
			_, err := l.adm.CreateTopic(ctx, int32(t.partitions), 1, map[string]*string{"retention.ms": &retention}, t.name)
			return unless(err, kerr.TopicAlreadyExists)
		}
	case kind == 0:
		t.retention = retention
		return func(ctx context.Context) error {
			answers, err := l.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &retention}}, t.name)
			for _, a := range answers {
				err = errors.Join(err, a.Err)
			}
			return err
		}
	case kind == 1 && t.partitions < maxPassingPartitions:
		t.partitions++
		return func(ctx context.Context) error {
			answers, err := l.adm.UpdatePartitions(ctx, t.partitions, t.name)
			for _, a := range answers {
				err = errors.Join(err, unless(a.Err, kerr.InvalidPartitions))
			}
			return err
		}
	}
	t.exists = false
	return func(ctx context.Context) error {
		_, err := l.adm.DeleteTopic(ctx, t.name)
		return unless(err, kerr.UnknownTopicOrPartition)
	}
}

// verify asks what the topic is.
func (l *load) verify(ctx context.Context, t *passing) error {
	details, err := l.adm.ListTopics(ctx, t.name)
	if err != nil {
		return err
	}
	switch found := details[t.name]; {
	case !t.exists && found.Err == nil:
		return fmt.Errorf("%w: it was deleted and is there", errWrong)
	case !t.exists:
		return unless(found.Err, kerr.UnknownTopicOrPartition)
	case found.Err != nil:
		return fmt.Errorf("%w: it was created and is not there: %w", errWrong, found.Err)
	case len(found.Partitions) != t.partitions:
		return fmt.Errorf("%w: it has %d partitions, %d were made", errWrong, len(found.Partitions), t.partitions)
	}
	configs, err := l.adm.DescribeTopicConfigs(ctx, t.name)
	if err != nil {
		return err
	}
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" && c.MaybeValue() != t.retention {
			return fmt.Errorf("%w: its retention.ms is %s, %s was set", errWrong, c.MaybeValue(), t.retention)
		}
	}
	return configs[0].Err
}

// unless is err, but nil for the one that is expected.
func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
