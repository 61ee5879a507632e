package main

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeCmd struct {
	kafkaFlags
	Topics      []string      `arg:"" help:"Topics."`
	Group       string        `short:"g" help:"Read as a member of this consumer group and commit what was printed."`
	From        string        `short:"o" default:"start" placeholder:"PLACE" help:"Where to begin (${default}): ${position}. A group goes on where it stopped."`
	To          string        `placeholder:"PLACE" help:"Where to stop, in each partition: as --from. Without it new records are waited for until Ctrl-C."`
	Partition   []int32       `short:"p" help:"Only this partition; may be repeated."`
	Count       int64         `short:"n" aliases:"number" help:"Stop after this many records."`
	Idle        time.Duration `help:"Stop when no record came for this long, for example 2s."`
	Format      string        `short:"f" default:"text" help:"${layout}."`
	Uncommitted bool          `help:"Show records of transactions that are open or were aborted, too."`
}

// consuming is a consume command under way.
type consuming struct {
	*consumeCmd
	s     *session
	cl    *kgo.Client
	print printer
	out   *bufio.Writer
	buf   []byte
	seen  int64
	// stops has each partition that has not come to its --to yet; nil without --to.
	stops map[string]map[int32]int64
}

func (c *consumeCmd) Run(s *session) error {
	from, to, err := c.check(time.Now())
	if err != nil {
		return err
	}
	r := &consuming{consumeCmd: c, s: s}
	format := c.Format
	if s.json && format == "text" {
		format = "json"
	}
	if r.print, err = newPrinter(format); err != nil {
		return err
	}
	opts, err := r.prepare(from, to)
	if err != nil {
		return err
	}
	if r.stops != nil && len(r.stops) == 0 {
		return nil // there is nothing between from and to
	}
	if r.cl, err = c.connect(s.ctx, opts...); err != nil {
		return err
	}
	defer r.cl.Close() // leaves the group
	r.out = bufio.NewWriterSize(s.out, 64<<10)
	err = r.run()
	if flushed := r.out.Flush(); err == nil {
		err = flushed
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return r.commit() // also after Ctrl-C
}

func (c *consumeCmd) check(now time.Time) (from position, to *position, err error) {
	if from, err = parsePosition("--from", c.From, now); err != nil {
		return from, nil, err
	}
	if c.To != "" {
		p, err := parsePosition("--to", c.To, now)
		if err != nil {
			return from, nil, err
		}
		to = &p
	}
	switch {
	case c.Group != "" && to != nil:
		return from, nil, failf(exitUsage, "--to does not go with --group, whose members come and go: stop with --count or --idle")
	case c.Group != "" && len(c.Partition) > 0:
		return from, nil, failf(exitUsage, "--partition does not go with --group, which assigns partitions itself")
	case c.Count < 0:
		return from, nil, failf(exitUsage, "--count %d is not a number of records", c.Count)
	}
	return from, to, nil
}

// prepare makes sure that all is there, and finds where to stop.
func (r *consuming) prepare(from position, to *position) ([]kgo.Opt, error) {
	adm, err := r.admin(r.s.ctx)
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	if err := r.exist(adm); err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.ConsumeResetOffset(from.offset()), kgo.FetchMaxWait(500 * time.Millisecond)}
	if !r.Uncommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if r.Group != "" {
		return append(opts, kgo.ConsumeTopics(r.Topics...), kgo.ConsumerGroup(r.Group), kgo.AutoCommitMarks()), nil
	}
	if to != nil {
		// A partition that ends in a transaction's marker has come to its end with it.
		opts = append(opts, kgo.KeepControlRecords())
		if err := r.findStops(adm, from, *to); err != nil {
			return nil, err
		}
	}
	if to == nil && len(r.Partition) == 0 {
		return append(opts, kgo.ConsumeTopics(r.Topics...)), nil // and partitions added meanwhile
	}
	return append(opts, kgo.ConsumePartitions(r.partitions(from.offset()))), nil
}

// exist refuses topics and partitions that are not there, which kgo would wait for.
func (r *consuming) exist(adm *kadm.Client) error {
	found, err := adm.ListTopicsWithInternal(r.s.ctx, r.Topics...)
	if err != nil {
		return brokerError("consume from", r.Topics[0], err)
	}
	for _, topic := range r.Topics {
		if err := found[topic].Err; err != nil {
			return brokerError("consume from", topic, err)
		}
		for _, p := range r.Partition {
			if _, there := found[topic].Partitions[p]; !there {
				return failf(exitNotFound, "topic '%s' has no partition %d: it has %d, from 0", topic, p, len(found[topic].Partitions))
			}
		}
	}
	return nil
}

// findStops notes the partitions that have something between from and to.
func (r *consuming) findStops(adm *kadm.Client, from, to position) error {
	starts, err := from.resolve(r.s, adm, r.Uncommitted, r.Topics...)
	if err != nil {
		return err
	}
	stops, err := to.resolve(r.s, adm, r.Uncommitted, r.Topics...)
	if err != nil {
		return err
	}
	r.stops = map[string]map[int32]int64{}
	stops.Each(func(o kadm.ListedOffset) {
		wanted := len(r.Partition) == 0 || slices.Contains(r.Partition, o.Partition)
		if !wanted || starts[o.Topic][o.Partition].Offset >= o.Offset {
			return
		}
		if r.stops[o.Topic] == nil {
			r.stops[o.Topic] = map[int32]int64{}
		}
		r.stops[o.Topic][o.Partition] = o.Offset
	})
	return nil
}

func (r *consuming) partitions(from kgo.Offset) map[string]map[int32]kgo.Offset {
	assigned := map[string]map[int32]kgo.Offset{}
	add := func(topic string, p int32) {
		if assigned[topic] == nil {
			assigned[topic] = map[int32]kgo.Offset{}
		}
		assigned[topic][p] = from
	}
	for topic, partitions := range r.stops {
		for p := range partitions {
			add(topic, p)
		}
	}
	if r.stops == nil {
		for _, topic := range r.Topics {
			for _, p := range r.Partition {
				add(topic, p)
			}
		}
	}
	return assigned
}

func (r *consuming) run() error {
	for {
		fetches, idle, err := r.poll()
		if err != nil || idle {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if end, err := r.take(it.Next()); err != nil || end {
				return err
			}
		}
		if err := r.out.Flush(); err != nil {
			return err // the reader of a pipe has gone
		}
	}
}

// poll waits for records; idle says that --idle has passed without any.
func (r *consuming) poll() (fetches kgo.Fetches, idle bool, err error) {
	ctx := r.s.ctx
	if r.Idle > 0 {
		idleCtx, cancel := context.WithTimeout(ctx, r.Idle)
		defer cancel()
		ctx = idleCtx
	}
	fetches = r.cl.PollFetches(ctx)
	failed := fetches.Errors()
	switch {
	case len(failed) == 0:
		return fetches, false, nil
	case r.s.ctx.Err() != nil:
		return nil, false, r.s.ctx.Err()
	case ctx.Err() != nil:
		return nil, true, nil
	case errors.Is(failed[0].Err, kerr.UnknownTopicOrPartition), errors.Is(failed[0].Err, kerr.UnknownTopicID):
		return nil, false, failf(exitNotFound, "topic '%s' was deleted while it was read", failed[0].Topic)
	}
	return nil, false, brokerError("consume from", failed[0].Topic, failed[0].Err)
}

// take prints one record, unless it lies behind --to; end says that it was the last.
func (r *consuming) take(rec *kgo.Record) (end bool, err error) {
	stop, running := r.stops[rec.Topic][rec.Partition]
	if r.stops != nil && !running {
		return false, nil
	}
	if r.stops == nil || rec.Offset < stop && !rec.Attrs.IsControl() {
		r.buf = r.print(r.buf[:0], rec)
		if _, err := r.out.Write(r.buf); err != nil {
			return false, err
		}
		r.cl.MarkCommitRecords(rec)
		if r.seen++; r.Count > 0 && r.seen >= r.Count {
			return true, nil
		}
	}
	if r.stops != nil && rec.Offset+1 >= stop {
		delete(r.stops[rec.Topic], rec.Partition)
		if len(r.stops[rec.Topic]) == 0 {
			delete(r.stops, rec.Topic)
		}
		return len(r.stops) == 0, nil
	}
	return false, nil
}

// commit commits what was printed. Ctrl-C does not stop it.
func (r *consuming) commit() error {
	if r.Group == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.s.ctx), connectTimeout)
	defer cancel()
	return brokerError("commit offsets of group", r.Group, r.cl.CommitMarkedOffsets(ctx))
}
