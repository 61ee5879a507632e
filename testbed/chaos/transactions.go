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

// CopyOptions of a transactional copy. The zero value of each field but Dir means its default.
type CopyOptions struct {
	Binary, Dir, Config string
	Seed                uint64
	Cycles              int           // kills of the broker; default 30
	MaxUp               time.Duration // how long the broker lives, at most; default 1 s
	MaxClient           time.Duration // how long a copying client lives, at most; default 1.5 s
	Partitions          int32         // of both topics; default 3
	DrainTimeout        time.Duration // for the rest to be copied; default 60 s
	// Old has the clients speak as before KIP-890.
	Old  []kgo.Opt
	Logf func(format string, args ...any)
}

// CopyResult is what a transactional copy found.
type CopyResult struct {
	Kills, Clients       int
	Produced             int64
	Committed, GivenUp   int64 // transactions
	Wrong                []string
	CopiedTwice, Missing int
}

// OK reports whether each record was copied exactly once, in order.
func (r *CopyResult) OK() bool { return len(r.Wrong) == 0 }

const (
	copyFrom = "copy.in"
	copyTo   = "copy.out"
)

// Copy has clients consume a topic and produce it to another in transactions, while it
// kills the broker and the clients, and then compares the two as a reader of what is
// committed sees them.
func Copy(ctx context.Context, o CopyOptions) (*CopyResult, error) {
	set(&o.Cycles, 30)
	set(&o.MaxUp, time.Second)
	set(&o.MaxClient, 1500*time.Millisecond)
	set(&o.Partitions, 3)
	set(&o.DrainTimeout, time.Minute)
	set(&o.Config, Busy)
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	s, err := site.Start(ctx, site.Options{Binary: o.Binary, Dir: o.Dir, Config: o.Config})
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	c := &copier{CopyOptions: o, load: &load{opts: Options{DrainTimeout: o.DrainTimeout}, seed: s.Addresses().Kafka}, result: &CopyResult{}}
	if err := c.createTopics(ctx); err != nil {
		return nil, err
	}
	return c.result, c.run(ctx, s)
}

// copier is the work of one Copy.
type copier struct {
	CopyOptions
	load   *load
	result *CopyResult

	produced, committed, givenUp atomic.Int64
}

func (c *copier) createTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(c.load.clientOptions()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	created, err := kadm.NewClient(cl).CreateTopics(ctx, c.Partitions, 1, nil, copyFrom, copyTo)
	return errors.Join(err, created.Error())
}

func (c *copier) run(ctx context.Context, s *site.Site) error {
	produceCtx, stopProducing := context.WithCancel(ctx)
	copyCtx, stopCopying := context.WithCancel(ctx)
	defer stopCopying()
	var work sync.WaitGroup
	var produceErr error
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		produceErr = c.produce(produceCtx)
	}()
	work.Go(func() { c.copyAll(copyCtx) })
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	err := c.killAll(ctx, s, rng)
	stopProducing()
	<-produced
	if err = errors.Join(err, produceErr); err == nil {
		err = c.drain(ctx)
	}
	stopCopying()
	work.Wait()
	c.result.Produced, c.result.Committed, c.result.GivenUp = c.produced.Load(), c.committed.Load(), c.givenUp.Load()
	if err != nil {
		return err
	}
	return c.compare(ctx)
}

// killAll kills the broker again and again; it runs in the end.
func (c *copier) killAll(ctx context.Context, s *site.Site, rng *rand.Rand) error {
	for range c.Cycles {
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(c.MaxUp)))):
		case <-ctx.Done():
			return ctx.Err()
		}
		s.Kill()
		c.result.Kills++
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// produce writes numbers, one after another in each partition.
func (c *copier) produce(ctx context.Context) error {
	cl, err := kgo.NewClient(c.load.clientOptions(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(copyFrom), kgo.UnknownTopicRetries(-1))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	for n := 0; ctx.Err() == nil && failed.Load() == nil; n++ {
		for p := range c.Partitions {
			// With a context of its own: what is under way at the end is waited for.
			cl.Produce(context.WithoutCancel(ctx), &kgo.Record{Partition: p, Value: fmt.Append(nil, n)}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(&err)
				}
				c.produced.Add(1)
			})
		}
		time.Sleep(2 * time.Millisecond) // the rate, no matter how exact
	}
	if err := cl.Flush(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("produce: %w", *err)
	}
	return nil
}

// copyAll has one client after another copy, each until it is killed or has failed.
func (c *copier) copyAll(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.Seed, 2))
	for ctx.Err() == nil {
		c.result.Clients++
		life, cancel := context.WithTimeout(ctx, c.MaxClient/4+time.Duration(rng.Int64N(int64(c.MaxClient))))
		if err := c.copyOnce(life, rng); err != nil && life.Err() == nil {
			c.Logf("client %d: %v", c.result.Clients, err)
		}
		cancel()
	}
}

// copyOnce is the life of one client. It ends in the middle of whatever it is at: the
// instance id has it not leave the group, and nobody ends its transaction.
func (c *copier) copyOnce(ctx context.Context, rng *rand.Rand) error {
	opts := c.load.clientOptions(kgo.TransactionalID("copy"), kgo.TransactionTimeout(30*time.Second), kgo.ConsumerGroup("copy"), kgo.InstanceID("copy"),
		kgo.ConsumeTopics(copyFrom), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(50*time.Millisecond))
	s, err := kgo.NewGroupTransactSession(append(opts, c.Old...)...)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		fs := s.PollRecords(ctx, 1+rng.IntN(200))
		if err := fs.Err(); err != nil {
			return err
		}
		if err := s.Begin(); err != nil {
			return err
		}
		fs.EachRecord(func(r *kgo.Record) {
			s.Produce(ctx, &kgo.Record{Topic: copyTo, Partition: r.Partition, Value: r.Value}, nil)
		})
		try := kgo.TransactionEndTry(rng.IntN(8) > 0) // now and then it thinks better of it
		ok, err := s.End(ctx, try)
		switch {
		case err != nil:
			return err
		case ok:
			c.committed.Add(1)
		default:
			c.givenUp.Add(1)
		}
	}
}

// drain waits until the group has committed all there is.
func (c *copier) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.DrainTimeout)
	defer cancel()
	cl, err := kgo.NewClient(c.load.clientOptions()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		sum := int64(0)
		offsets, err := kadm.NewClient(cl).FetchOffsets(ctx, "copy")
		if err != nil {
			return fmt.Errorf("the group's offsets: %w", err)
		}
		offsets.Each(func(o kadm.OffsetResponse) { sum += max(0, o.At) })
		if sum == c.produced.Load() {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d records were copied in %v", sum, c.produced.Load(), c.DrainTimeout)
		}
	}
}

// compare reads what was copied and says what is not as it should be.
func (c *copier) compare(ctx context.Context) error {
	cl, err := kgo.NewClient(c.load.clientOptions(kgo.ConsumeTopics(copyTo), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	next := make([]int, c.Partitions)
	for seen := int64(0); seen < c.produced.Load(); {
		fs, err := poll(ctx, cl, c.DrainTimeout)
		if err != nil {
			return fmt.Errorf("after %d of %d records: %w", seen, c.produced.Load(), err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			seen++
			c.judge(r, next)
		})
	}
	// Nothing may come after it.
	if fs, err := poll(ctx, cl, time.Second); err == nil {
		fs.EachRecord(func(r *kgo.Record) { c.judge(r, next) })
	}
	return nil
}

const maxWrong = 20

func (c *copier) judge(r *kgo.Record, next []int) {
	var n int
	if _, err := fmt.Sscan(string(r.Value), &n); err != nil {
		n = -1
	}
	if n != next[r.Partition] {
		if n > next[r.Partition] {
			c.result.Missing += n - next[r.Partition]
		} else {
			c.result.CopiedTwice++
		}
		if len(c.result.Wrong) < maxWrong {
			c.result.Wrong = append(c.result.Wrong, fmt.Sprintf("partition %d offset %d holds %d, want %d", r.Partition, r.Offset, n, next[r.Partition]))
		}
	}
	next[r.Partition] = n + 1
}
