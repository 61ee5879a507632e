package chaos

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/checker"
	"github.com/weirmq/weir/testbed/fleet"
	"github.com/weirmq/weir/testbed/site"
)

// Names of the load.
const (
	kafkaTopic = "chaos"
	mqttTopic  = "mqtt" // of the default route
	groupName  = "chaos-group"
)

// load is all clients. They run from newLoad until stop.
type load struct {
	opts    Options
	seed    string // address of the Kafka listener
	history *checker.History
	devices []*checker.Lane
	commits *checker.Commits
	starts  *checker.Commits // log starts, which move by requests as committed offsets do

	adm   *kadm.Client
	admin *kgo.Client

	// life is what outlasts produce: getting the rest acked. abort ends it.
	life  context.Context
	abort context.CancelFunc

	produce, consume, publish context.CancelFunc
	producers, others         sync.WaitGroup

	groupRead atomic.Int64 // records that the group got

	// paused is held by the committer while a commit is under way.
	paused sync.Mutex

	mu  sync.Mutex
	err error // the first that a client could not live with
}

func newLoad(ctx context.Context, o Options, addrs site.Addresses, h *checker.History) (*load, error) {
	l := &load{opts: o, seed: addrs.Kafka, history: h, commits: h.Commits(groupName), starts: h.Commits("log start")}
	var err error
	if l.admin, err = kgo.NewClient(l.clientOptions()...); err != nil {
		return nil, err
	}
	l.adm = kadm.NewClient(l.admin)
	if _, err := l.adm.CreateTopic(ctx, int32(o.Partitions), 1, nil, kafkaTopic); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", kafkaTopic, err)
	}
	if err := l.createRemovalTopics(ctx); err != nil {
		return nil, err
	}
	l.life, l.abort = context.WithCancel(ctx)
	var produceCtx, consumeCtx, publishCtx context.Context
	produceCtx, l.produce = context.WithCancel(ctx)
	consumeCtx, l.consume = context.WithCancel(ctx)
	publishCtx, l.publish = context.WithCancel(ctx)
	for i := range o.Producers {
		l.producers.Go(func() { l.failed(l.runProducer(produceCtx, l.producer(i))) })
	}
	l.runRemovals(produceCtx)
	l.producers.Go(func() { l.failed(l.runTopics(produceCtx)) })
	l.others.Go(func() { l.failed(l.runGroup(consumeCtx)) })
	l.runDevices(publishCtx, addrs.MQTT)
	return l, nil
}

// clientOptions make a client find a restarted broker soon and never give up.
func (l *load) clientOptions(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(l.seed),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RetryTimeout(l.opts.DrainTimeout),
		kgo.RequestRetries(1 << 20),
		kgo.AlwaysRetryEOF(), // a broker that ends in order closes connections, too
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.DialTimeout(time.Second),
		kgo.RequestTimeoutOverhead(5 * time.Second),
	}, more...)
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *load) String() string {
	var sent, acked int64
	for _, lane := range l.devices {
		s, a := lane.Counts()
		sent, acked = sent+s, acked+a
	}
	return fmt.Sprintf("devices sent %d, acked %d; the group read %d", sent, acked, l.groupRead.Load())
}

// runDevices publishes by MQTT. A device is a lane that may repeat.
func (l *load) runDevices(ctx context.Context, broker string) {
	for i := range l.opts.Devices {
		l.devices = append(l.devices, l.history.Lane(fmt.Sprintf("dev-%03d", i), true))
	}
	f, err := fleet.New(fleet.Options{
		Broker: broker, Devices: l.opts.Devices, Rate: l.opts.DeviceRate, Seed: l.opts.Seed,
		MaxBackoff: 50 * time.Millisecond, WriteTimeout: time.Second, ConnectTimeout: 2 * time.Second,
		DrainTimeout: l.opts.DrainTimeout,
		OnSent: func(e fleet.Event) {
			if seq := l.devices[e.Device].Send(); seq != e.Seq {
				l.failed(fmt.Errorf("%s sends reading %d, %d is next", e.Name, e.Seq, seq))
			}
		},
		OnAcked: func(e fleet.Event) { l.devices[e.Device].Acked(e.Seq) },
	})
	if err != nil {
		l.failed(err)
		return
	}
	l.others.Go(func() {
		report, err := f.Run(ctx)
		l.failed(err)
		l.opts.Logf("devices: %d sent, %d acked, %d reconnects, %d resent", report.Sent, report.Acked, report.Reconnects, report.Resent)
		if report.Unacked() > 0 {
			l.failed(fmt.Errorf("%d readings were not acked within %v: %s", report.Unacked(), l.opts.DrainTimeout, report.LastError))
		}
		if report.StrayAcks > 0 {
			l.failed(fmt.Errorf("%d PUBACKs for nothing in flight", report.StrayAcks))
		}
	})
}

// warmUp waits until the group has committed in all partitions: a new group waits
// some seconds for members before its first generation, longer than the process
// will live from then on.
func (l *load) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.DrainTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(l.commits.Known()) < l.opts.Partitions {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the group has committed in %d of %d partitions after %v", len(l.commits.Known()), l.opts.Partitions, l.opts.DrainTimeout)
		}
	}
	return nil
}

// stop ends the clients while the broker runs, so that everything gets acked. It
// returns the first thing that a client could not live with.
func (l *load) stop() error {
	l.publish()
	l.produce()
	l.producers.Wait()
	l.failed(l.catchUp())
	l.consume()
	l.others.Wait()
	l.abort()
	l.admin.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// catchUp waits until the group has committed to the end: it may not stay stuck
// after all the kills.
func (l *load) catchUp() error {
	ctx, cancel := context.WithTimeout(l.life, l.opts.DrainTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		lag, err := l.groupLag(ctx)
		if err == nil && lag == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the group is %d records behind %v after the producers stopped (%v)", lag, l.opts.DrainTimeout, err)
		}
	}
}

func (l *load) groupLag(ctx context.Context) (lag int64, err error) {
	ends, err := l.adm.ListEndOffsets(ctx, kafkaTopic)
	if err != nil {
		return 0, err
	}
	committed, err := l.adm.FetchOffsets(ctx, groupName)
	if err != nil {
		return 0, err
	}
	ends.Each(func(o kadm.ListedOffset) {
		at, _ := committed.Lookup(o.Topic, o.Partition)
		lag += o.Offset - max(0, at.At)
	})
	return lag, ends.Error()
}

// checkCommits asks a restarted broker for the group's offsets.
func (l *load) checkCommits() error {
	l.paused.Lock()
	defer l.paused.Unlock()
	var found kadm.OffsetResponses
	err := l.persist(func(ctx context.Context) (err error) {
		found, err = l.adm.FetchOffsets(ctx, groupName)
		return unless(err, kerr.GroupIDNotFound)
	})
	if err != nil {
		return fmt.Errorf("fetch the group's offsets: %w", err)
	}
	for _, p := range l.commits.Known() {
		var offset int64
		if o, ok := found.Lookup(p.Topic, p.Index); ok {
			offset = max(0, o.At)
		}
		l.commits.Found(p, offset)
	}
	return nil
}
