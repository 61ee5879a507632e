package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxLineBytes bounds one line of what produce reads.
const maxLineBytes = 16 << 20

type produceCmd struct {
	kafkaFlags
	Topic     string            `arg:"" help:"Topic."`
	Values    []string          `arg:"" optional:"" help:"Values, one record each. Without any, each line of stdin (or --file) is a record."`
	Key       string            `short:"k" help:"Key of every record."`
	Separator string            `short:"K" name:"key-separator" placeholder:"TEXT" help:"What stands between key and value in each line; a line without it has no key."`
	Header    map[string]string `short:"H" mapsep:"," placeholder:"NAME=VALUE" help:"Header of every record; may be repeated."`
	Partition int32             `short:"p" default:"-1" help:"Partition (by the key, or any)."`
	Null      bool              `short:"Z" help:"Take an empty value as none: a tombstone."`
	Codec     string            `short:"z" default:"none" enum:"none,gzip,snappy,lz4,zstd" help:"none, gzip, snappy, lz4 or zstd (${default})."`
	Acks      string            `default:"all" enum:"all,1,0" help:"Whose acknowledgement to wait for: all, 1 or 0 (${default}). To Weir, all and 1 are the same: on stable storage."`
	File      string            `short:"F" placeholder:"PATH" help:"Read records from this file instead of stdin."`
	Format    string            `short:"f" default:"text" enum:"text,json" help:"What the lines are: text, or json as weir consume -f json prints it, with keys, headers, partitions and times of their own (${default})."`
}

// produced counts what was acknowledged.
type produced struct {
	Topic   string          `json:"topic"`
	Records int64           `json:"records"`
	Offsets []producedRange `json:"partitions"`

	mu     sync.Mutex
	failed error
	open   int // records that wait for their acknowledgement
	// patience ends the command when records wait and nothing comes. kgo's own
	// timeout goes by the time in the record, which may be any.
	patience *time.Timer
}

// producedRange is the first and the last offset in a partition.
type producedRange struct {
	Partition int32 `json:"partition"`
	First     int64 `json:"first_offset"`
	Last      int64 `json:"last_offset"`
	Records   int64 `json:"records"`
}

func (p *produced) done(r *kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.patience.Reset(requestTimeout)
	if err != nil {
		if p.failed == nil {
			p.failed = err
		}
		return
	}
	p.Records++
	i := slices.IndexFunc(p.Offsets, func(o producedRange) bool { return o.Partition == r.Partition })
	if i < 0 {
		i = len(p.Offsets)
		p.Offsets = append(p.Offsets, producedRange{r.Partition, r.Offset, r.Offset, 0})
	}
	o := &p.Offsets[i]
	o.First, o.Last, o.Records = min(o.First, r.Offset), max(o.Last, r.Offset), o.Records+1
}

var errStopReading = errors.New("a record was refused")

func (c *produceCmd) Run(s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	cl, err := c.connect(s.ctx, c.options()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	// Ctrl-C ends the reading; what was read is written.
	ctx, giveUp := context.WithCancel(context.WithoutCancel(s.ctx))
	defer giveUp()
	p := newProduced(c.Topic, giveUp)
	readErr := c.records(s, func(r *kgo.Record) error {
		if err := p.add(); err != nil {
			return err
		}
		cl.Produce(ctx, r, p.done) // waits while too much is on its way
		return nil
	})
	flushErr := cl.Flush(ctx)
	if err := brokerError("produce to", c.Topic, p.end(flushErr)); err != nil {
		return failf(exitCode(err), "%w%s", err, p.before())
	}
	if readErr != nil {
		return failf(exitCode(readErr), "%w%s", readErr, p.before())
	}
	slices.SortFunc(p.Offsets, func(a, b producedRange) int { return int(a.Partition - b.Partition) })
	if s.json {
		return s.printJSON(p)
	}
	fmt.Fprintln(s.err, p.text(c.Acks))
	return nil
}

func newProduced(topic string, giveUp func()) *produced {
	p := &produced{Topic: topic, Offsets: []producedRange{}}
	p.patience = time.AfterFunc(requestTimeout, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open > 0 && p.failed == nil {
			p.failed = kgo.ErrRecordTimeout
			giveUp()
		}
	})
	return p
}

// add notes that a record is about to be sent; none is after one was refused.
func (p *produced) add() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return errStopReading
	}
	if p.open++; p.open == 1 {
		p.patience.Reset(requestTimeout)
	}
	return nil
}

// end is why not all records were acknowledged.
func (p *produced) end(flushed error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.patience.Stop()
	if p.failed == nil && flushed != nil {
		return kgo.ErrRecordTimeout
	}
	return p.failed
}

// before says what is there although the command failed.
func (p *produced) before() string {
	if p.Records == 0 {
		return ""
	}
	return fmt.Sprintf("; %d records before it were acknowledged", p.Records)
}

func (p *produced) text(acks string) string {
	what := fmt.Sprintf("%d records", p.Records)
	if p.Records == 1 {
		what = "1 record"
	}
	if acks == "0" {
		return what + " sent to " + p.Topic + ", without an acknowledgement"
	}
	if len(p.Offsets) == 1 {
		o := p.Offsets[0]
		return fmt.Sprintf("%s acknowledged: %s partition %d, offset %d to %d", what, p.Topic, o.Partition, o.First, o.Last)
	}
	return fmt.Sprintf("%s acknowledged in %d partitions of %s", what, len(p.Offsets), p.Topic)
}

func (c *produceCmd) check() error {
	switch {
	case len(c.Values) > 0 && c.File != "":
		return failf(exitUsage, "values are given both as arguments and by --file %s: take one", c.File)
	case len(c.Values) > 0 && c.Format == "json":
		return failf(exitUsage, "-f json is for lines of stdin or of --file, not for arguments")
	case c.Separator != "" && (c.Key != "" || c.Format == "json"):
		return failf(exitUsage, "-K says where the key of a line ends: it does not go with --key or -f json")
	}
	return nil
}

var producerCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func (c *produceCmd) options() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(c.Topic), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(3),
		kgo.ProducerBatchCompression(producerCodecs[c.Codec]), kgo.RecordPartitioner(partitionOrKey{kgo.StickyKeyPartitioner(nil)}),
	}
	switch c.Acks {
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	return opts
}

// partitionOrKey takes the partition that a record names, else the other's choice.
type partitionOrKey struct{ kgo.Partitioner }

func (p partitionOrKey) ForTopic(topic string) kgo.TopicPartitioner {
	return partitionOrKeyTopic{p.Partitioner.ForTopic(topic)}
}

type partitionOrKeyTopic struct{ kgo.TopicPartitioner }

func (p partitionOrKeyTopic) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || p.TopicPartitioner.RequiresConsistency(r)
}

func (p partitionOrKeyTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition) // kgo refuses one that is not there
	}
	return p.TopicPartitioner.Partition(r, n)
}

// OnNewBatch has records without a key go to another partition, batch by batch.
func (p partitionOrKeyTopic) OnNewBatch() {
	if sticky, ok := p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		sticky.OnNewBatch()
	}
}

// records calls send with what is to be produced, until it returns an error.
func (c *produceCmd) records(s *session, send func(*kgo.Record) error) error {
	for _, v := range c.Values {
		if err := send(c.record(nil, []byte(v))); err != nil {
			return nil // it is told with what the broker said
		}
	}
	if len(c.Values) > 0 {
		return nil
	}
	in, name := s.in, "stdin"
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return failf(exitNotFound, "--file: %w", err)
		}
		defer f.Close()
		in, name = f, c.File
	}
	return c.lines(s, in, name, send)
}

func (c *produceCmd) lines(s *session, in io.Reader, name string, send func(*kgo.Record) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLineBytes)
	texts := make(chan string, 100)
	go func() { // reading a terminal does not end with Ctrl-C
		defer close(texts)
		for lines.Scan() {
			select {
			case texts <- lines.Text():
			case <-s.ctx.Done():
				return
			}
		}
	}()
	for n := 1; ; n++ {
		select {
		case <-s.ctx.Done():
			return nil
		case text, more := <-texts:
			if !more {
				return lineError(lines.Err(), name)
			}
			r, err := c.line(text)
			if err != nil {
				return failf(exitUsage, "line %d of %s: %w", n, name, err)
			}
			if err := send(r); err != nil {
				return nil // it is told with what the broker said
			}
		}
	}
}

func lineError(err error, name string) error {
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return failf(exitUsage, "a line of %s is longer than %s", name, bytesText(maxLineBytes))
	case err != nil:
		return failf(exitFailed, "read %s: %w", name, err)
	}
	return nil
}

// line makes a record of one line.
func (c *produceCmd) line(text string) (*kgo.Record, error) {
	if c.Format == "json" {
		return c.parse(text)
	}
	if c.Separator != "" {
		if key, value, ok := strings.Cut(text, c.Separator); ok {
			return c.record([]byte(key), []byte(value)), nil
		}
	}
	return c.record(nil, []byte(text)), nil
}

func (c *produceCmd) record(key, value []byte) *kgo.Record {
	if c.Key != "" {
		key = []byte(c.Key)
	}
	if c.Null && len(value) == 0 {
		value = nil
	}
	r := &kgo.Record{Key: key, Value: value, Partition: c.Partition}
	for _, k := range sortedKeys(c.Header) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(c.Header[k])})
	}
	return r
}

// parse reads a line as consume -f json prints it. Its topic and offset are where it
// came from; flags of the command win over what the line says.
func (c *produceCmd) parse(text string) (*kgo.Record, error) {
	var in recordJSON
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("not a record as weir consume -f json prints it: %w", err)
	}
	key, err := fromTextOrBase64(in.Key, in.KeyBase64)
	if err != nil {
		return nil, fmt.Errorf("key_base64: %w", err)
	}
	value, err := fromTextOrBase64(in.Value, in.ValueBase64)
	if err != nil {
		return nil, fmt.Errorf("value_base64: %w", err)
	}
	r := c.record(key, value)
	if c.Partition < 0 && in.Partition != nil {
		r.Partition = *in.Partition
	}
	if in.Timestamp != nil {
		r.Timestamp = *in.Timestamp
	}
	for _, k := range sortedKeys(in.Headers) {
		if _, set := c.Header[k]; !set {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(in.Headers[k])})
		}
	}
	return r, nil
}
