package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxLineBytes bounds one value read from stdin.
const maxLineBytes = 16 << 20

type produceCmd struct {
	kafkaFlags
	Topic     string            `arg:"" help:"Topic."`
	Values    []string          `arg:"" optional:"" help:"Values, one record each. Without any, each line of stdin is a value."`
	Key       string            `short:"k" help:"Key of every record."`
	Partition int32             `short:"p" default:"-1" help:"Partition (by the key, or any)."`
	Header    map[string]string `short:"H" mapsep:"," placeholder:"NAME=VALUE" help:"Header; may be repeated."`
}

func (c *produceCmd) Run(s *session) error {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(c.Topic), kgo.RecordDeliveryTimeout(requestTimeout), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(3)}
	if c.Partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := c.connect(s.ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed kgo.FirstErrPromise
	n, readErr := 0, error(nil)
	send := func(value string) {
		n++
		cl.Produce(s.ctx, c.record(value), failed.Promise())
	}
	if len(c.Values) > 0 {
		for _, v := range c.Values {
			send(v)
		}
	} else {
		readErr = c.lines(s, send)
	}
	if err := cl.Flush(s.ctx); err != nil {
		return err
	}
	if err := brokerError("produce to", c.Topic, failed.Err()); err != nil {
		return err
	}
	if readErr != nil {
		return readErr
	}
	if s.json {
		return s.printJSON(map[string]any{"topic": c.Topic, "records": n})
	}
	if n == 1 {
		fmt.Fprintln(s.err, "1 record is on the broker's disk")
	} else {
		fmt.Fprintf(s.err, "%d records are on the broker's disk\n", n)
	}
	return nil
}

func (c *produceCmd) record(value string) *kgo.Record {
	r := &kgo.Record{Value: []byte(value), Partition: c.Partition}
	if c.Key != "" {
		r.Key = []byte(c.Key)
	}
	for _, k := range sortedKeys(c.Header) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(c.Header[k])})
	}
	return r
}

func (c *produceCmd) lines(s *session, send func(string)) error {
	lines := bufio.NewScanner(s.in)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		send(lines.Text())
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return failf(exitUsage, "a line of stdin is longer than %s", bytesText(maxLineBytes))
		}
		return failf(exitFailed, "read stdin: %w", err)
	}
	return nil
}

type consumeCmd struct {
	kafkaFlags
	Topics []string      `arg:"" help:"Topics."`
	Group  string        `short:"g" help:"Read as a member of this consumer group and commit."`
	From   string        `default:"start" help:"start, end or an offset; a group goes on where it stopped."`
	Number int64         `short:"n" help:"Stop after this many records."`
	Idle   time.Duration `help:"Stop when no record came for this long, for example 2s."`
	Format string        `short:"f" default:"text" enum:"text,json" help:"text or json (one object a line)."`
}

func (c *consumeCmd) Run(s *session) error {
	offset, err := c.offset()
	if err != nil {
		return err
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(c.Topics...), kgo.ConsumeResetOffset(offset)}
	if c.Group != "" {
		opts = append(opts, kgo.ConsumerGroup(c.Group), kgo.AutoCommitMarks())
	}
	cl, err := c.connect(s.ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	out := bufio.NewWriter(s.out)
	defer out.Flush()
	for n := int64(0); ; {
		fetches, err := c.poll(s, cl)
		if err != nil || fetches == nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			c.print(s, out, r)
			cl.MarkCommitRecords(r)
			if n++; c.Number > 0 && n >= c.Number {
				return c.commit(s, cl)
			}
		}
		if err := out.Flush(); err != nil {
			return err // the reader of a pipe has gone
		}
	}
}

// poll waits for records; nil without an error means the idle time has passed.
func (c *consumeCmd) poll(s *session, cl *kgo.Client) (kgo.Fetches, error) {
	ctx := s.ctx
	if c.Idle > 0 {
		idleCtx, cancel := context.WithTimeout(s.ctx, c.Idle)
		defer cancel()
		ctx = idleCtx
	}
	fetches := cl.PollFetches(ctx)
	for _, e := range fetches.Errors() {
		if s.ctx.Err() != nil {
			return nil, s.ctx.Err()
		}
		if ctx.Err() != nil {
			return nil, c.commit(s, cl)
		}
		if !errors.Is(e.Err, kerr.UnknownTopicOrPartition) || c.Idle > 0 || c.Number > 0 {
			return nil, brokerError("consume from", e.Topic, e.Err)
		}
	}
	return fetches, nil
}

func (c *consumeCmd) commit(s *session, cl *kgo.Client) error {
	if c.Group == "" {
		return nil
	}
	return brokerError("commit offsets of group", c.Group, cl.CommitMarkedOffsets(s.ctx))
}

func (c *consumeCmd) offset() (kgo.Offset, error) {
	switch c.From {
	case "start":
		return kgo.NewOffset().AtStart(), nil
	case "end":
		return kgo.NewOffset().AtEnd(), nil
	}
	n, err := strconv.ParseInt(c.From, 10, 64)
	if err != nil || n < 0 {
		return kgo.Offset{}, failf(exitUsage, "--from '%s' is not start, end or an offset such as 1000", c.From)
	}
	return kgo.NewOffset().At(n), nil
}

// recordJSON is one record for machines. Bytes that are not UTF-8 go into the
// base64 fields instead.
type recordJSON struct {
	Topic       string            `json:"topic"`
	Partition   int32             `json:"partition"`
	Offset      int64             `json:"offset"`
	Timestamp   time.Time         `json:"timestamp"`
	Key         *string           `json:"key"`
	Value       *string           `json:"value"`
	KeyBase64   string            `json:"key_base64,omitempty"`
	ValueBase64 string            `json:"value_base64,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

func (c *consumeCmd) print(s *session, w *bufio.Writer, r *kgo.Record) {
	if c.Format == "text" && !s.json {
		_, _ = w.Write(r.Value)
		_ = w.WriteByte('\n')
		return
	}
	out := recordJSON{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC()}
	out.Key, out.KeyBase64 = textOrBase64(r.Key)
	out.Value, out.ValueBase64 = textOrBase64(r.Value)
	for _, h := range r.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[h.Key] = strings.ToValidUTF8(string(h.Value), "\uFFFD")
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(out) // the writer keeps its error for Flush
}

func textOrBase64(b []byte) (*string, string) {
	if b == nil {
		return nil, ""
	}
	if !utf8.Valid(b) {
		return nil, base64.StdEncoding.EncodeToString(b)
	}
	text := string(b)
	return &text, ""
}
