package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/site"
)

// ExactlyOnce is what a run of RunQoS2 found.
type ExactlyOnce struct {
	Kills, Drops  int   // of the box, of connections by their clients
	Sent          int   // messages, by all senders
	Resent        int64 // PUBLISH and PUBREL packets that were sent again
	Lost, Twice   int   // in the log
	Missed, Again int   // at the subscriber
}

// OK reports whether every message is once in the log and was seen once.
func (r *ExactlyOnce) OK() bool { return r.Lost+r.Twice+r.Missed+r.Again == 0 }

func (r *ExactlyOnce) String() string {
	return fmt.Sprintf("%d kills of the box, %d connections dropped by clients: %d messages sent, %d packets sent again; in the log %d lost, %d twice; at the subscriber %d missed, %d again",
		r.Kills, r.Drops, r.Sent, r.Resent, r.Lost, r.Twice, r.Missed, r.Again)
}

const qos2Senders = 4

// RunQoS2 kills a box again and again while senders publish to it, and a subscriber
// reads from it, by MQTT with QoS 2. All of them drop their connections now and then,
// at the worst of times. They keep the rules of MQTT with state that survives, as a
// device's flash would. Of the options it takes Binary, Dir, Config, Seed, Cycles,
// MinUp, MaxUp, DrainTimeout and Logf.
func RunQoS2(ctx context.Context, o Options) (*ExactlyOnce, error) {
	o = o.withDefaults()
	s, err := site.New(site.Options{Binary: o.Binary, Dir: o.Dir, Config: o.Config, Host: site.LoopbackHost()})
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(o.Seed, 2))
	r := &ExactlyOnce{}
	var drops atomic.Int64
	life, end := context.WithCancel(ctx)
	defer end()
	feed, stop := context.WithCancel(life)
	defer stop()
	sub := newQoS2Client(s.Addresses().MQTT, "chaos-sub", rng.Uint64(), &drops)
	var senders, reader sync.WaitGroup
	reader.Go(func() { sub.run(life, feed, true) })
	if err := sub.await(ctx, o.DrainTimeout); err != nil {
		return nil, err
	}
	clients := make([]*qos2Client, qos2Senders)
	for i := range clients {
		clients[i] = newQoS2Client(s.Addresses().MQTT, fmt.Sprint("chaos-pub-", i), rng.Uint64(), &drops)
		senders.Go(func() { clients[i].run(life, feed, false) })
	}
	for r.Kills < o.Cycles {
		pause(ctx, o.MinUp+time.Duration(rng.Int64N(int64(o.MaxUp-o.MinUp))))
		s.Kill()
		r.Kills++
		if err := s.Start(ctx); err != nil {
			return nil, err
		}
		if r.Kills%50 == 0 {
			o.Logf("%d kills, the subscriber has %d messages", r.Kills, sub.count())
		}
	}
	stop()
	drained := make(chan struct{})
	go func() { senders.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(o.DrainTimeout):
		return nil, fmt.Errorf("chaos: senders were not answered within %v", o.DrainTimeout)
	}
	for _, c := range clients {
		r.Sent += c.next
		r.Resent += c.resent
	}
	for wait := time.Now().Add(o.DrainTimeout); sub.count() < r.Sent && time.Now().Before(wait); {
		pause(ctx, 50*time.Millisecond)
	}
	pause(ctx, 500*time.Millisecond) // what would come a second time
	end()
	reader.Wait()
	r.Drops = int(drops.Load())
	return r, r.judge(ctx, s, clients, sub)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// judge counts each message in the log and at the subscriber.
func (r *ExactlyOnce) judge(ctx context.Context, s *site.Site, clients []*qos2Client, sub *qos2Client) error {
	inLog, err := valuesOf(ctx, s.Addresses().Kafka, mqttTopic)
	if err != nil {
		return err
	}
	for _, c := range clients {
		for i := range c.next {
			value := c.value(i)
			switch n := inLog[value]; {
			case n == 0:
				r.Lost++
			case n > 1:
				r.Twice++
			}
			switch n := sub.got[value]; {
			case n == 0:
				r.Missed++
			case n > 1:
				r.Again++
			}
		}
	}
	return nil
}

// valuesOf reads a topic to its end and counts its values.
func valuesOf(ctx context.Context, seed, topic string) (map[string]int, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	values := map[string]int{}
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			values[string(rec.Value)]++
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
		})
	}
	return values, nil
}
