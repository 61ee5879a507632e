package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

type logCmd struct {
	Dump   logDumpCmd   `cmd:"" help:"Print the batches (or records) of segment files, or the rounds of the write-ahead log."`
	Verify logVerifyCmd `cmd:"" help:"Check a data folder, a partition's folder or segment files; changes nothing."`
	Repair logRepairCmd `cmd:"" help:"Set aside what is damaged in a data folder, while the appliance is stopped."`
}

// maxBatchBytes bounds one batch read from disk, so that a broken length
// allocates nothing.
const maxBatchBytes = 1 << 30

// readSegment calls each for the batches of a segment file, in order. A file
// that ends within a batch, or whose bytes are no batch, is an error that says where.
func readSegment(file string, each func(position int64, b record.Batch) error) error {
	f, err := os.Open(file)
	if err != nil {
		return failf(exitNotFound, "cannot read the segment: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var buf []byte
	for at, size := int64(0), info.Size(); at < size; {
		b, err := readBatch(f, at, size, buf)
		if err != nil {
			return fmt.Errorf("%s at byte %d: %w", file, at, err)
		}
		if err := each(at, b); err != nil {
			return fmt.Errorf("%s at byte %d: %w", file, at, err)
		}
		at, buf = at+int64(len(b)), b
	}
	return nil
}

func readBatch(f *os.File, at, size int64, buf []byte) (record.Batch, error) {
	var head [12]byte // base offset, length of what follows
	if size-at < record.HeaderLen {
		return nil, fmt.Errorf("the file ends within a batch header (%d bytes are left)", size-at)
	}
	if _, err := f.ReadAt(head[:], at); err != nil {
		return nil, err
	}
	n := int64(len(head)) + int64(uint32(head[8])<<24|uint32(head[9])<<16|uint32(head[10])<<8|uint32(head[11]))
	if n < record.HeaderLen || n > maxBatchBytes {
		return nil, fmt.Errorf("a batch of %d bytes: not a Kafka segment, or its length is damaged", n)
	}
	if n > size-at {
		return nil, fmt.Errorf("the file ends within a batch (%d of %d bytes)", size-at, n)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := f.ReadAt(buf, at)
	return record.Batch(buf), err
}

// segments lists the .log files that path names: one file, or all in a folder.
func segments(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, failf(exitNotFound, "%s does not exist: give a segment file, a partition's folder or the data folder", path)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(p, ".log") {
			files = append(files, p)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = failf(exitNotFound, "%s holds no segment files (*.log)", path)
	}
	return files, err
}

type logDumpCmd struct {
	Path    string `arg:"" help:"Segment file, or a folder of them; a file of the write-ahead log (*.wal) or its folder."`
	Records bool   `short:"r" help:"Print the records too."`
}

type batchRow struct {
	File        string    `json:"file"`
	Position    int64     `json:"position"`
	BaseOffset  int64     `json:"base_offset"`
	LastOffset  int64     `json:"last_offset"`
	Count       int32     `json:"count"`
	Bytes       int       `json:"bytes"`
	LeaderEpoch int32     `json:"leader_epoch"`
	Codec       string    `json:"compression"`
	MaxTime     time.Time `json:"max_timestamp"`
	ProducerID  int64     `json:"producer_id"`
	Epoch       int16     `json:"producer_epoch"`
	Sequence    int32     `json:"base_sequence"`
	// Transaction is "open" for a batch that is part of one, "commit" or "abort" for the
	// marker that ends one; empty outside of transactions.
	Transaction string      `json:"transaction,omitempty"`
	Error       string      `json:"error,omitempty"`
	Records     []recordRow `json:"records,omitempty"`
}

type recordRow struct {
	Offset    int64     `json:"offset"`
	Timestamp time.Time `json:"timestamp"`
	Key       *string   `json:"key"`
	Value     *string   `json:"value"`
}

func (c *logDumpCmd) Run(s *session) error {
	if data, only, ok := walFolder(c.Path); ok {
		return dumpWAL(s, data, only)
	}
	files, err := segments(c.Path)
	if err != nil {
		return err
	}
	for _, file := range files {
		err := readSegment(file, func(at int64, b record.Batch) error { return c.print(s, file, at, b) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *logDumpCmd) print(s *session, file string, at int64, b record.Batch) error {
	row := batchRow{
		File: file, Position: at, BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), Count: b.Count(), Bytes: len(b),
		LeaderEpoch: b.LeaderEpoch(), Codec: b.Codec().String(), MaxTime: time.UnixMilli(b.MaxTimestamp()).UTC(), ProducerID: b.ProducerID(),
		Epoch: b.ProducerEpoch(), Sequence: b.BaseSequence(), Transaction: transactionOf(b),
	}
	if err := b.Validate(); err != nil {
		row.Error = err.Error()
	} else if c.Records {
		records, err := b.Records()
		if err != nil {
			row.Error = err.Error()
		}
		for _, r := range records {
			row.Records = append(row.Records, recordRow{r.Offset, time.UnixMilli(r.Timestamp).UTC(), printable(r.Key), printable(r.Value)})
		}
	}
	return s.show(row, func(w io.Writer) {
		fmt.Fprintf(w, "%s @%d offsets %d-%d, %d records, %d bytes, epoch %d, %s, newest %s%s %s\n", filepath.Base(file), at,
			row.BaseOffset, row.LastOffset, row.Count, row.Bytes, row.LeaderEpoch, row.Codec, row.MaxTime.Format(time.RFC3339Nano), row.producer(), row.Error)
		for _, r := range row.Records {
			fmt.Fprintf(w, "  %d %s %s=%s\n", r.Offset, r.Timestamp.Format(time.RFC3339Nano), quoted(r.Key), quoted(r.Value))
		}
	})
}

// transactionOf says what a batch is to a transaction.
func transactionOf(b record.Batch) string {
	if !b.Transactional() {
		return ""
	}
	m, ok, err := b.Marker()
	switch {
	case err != nil || !ok:
		return "open"
	case m.Commit:
		return "commit"
	}
	return "abort"
}

// producer is the idempotent producer of a batch, for people.
func (r *batchRow) producer() string {
	if r.ProducerID == record.NoProducerID {
		return ""
	}
	text := fmt.Sprintf(", producer %d epoch %d", r.ProducerID, r.Epoch)
	switch r.Transaction {
	case "":
		return fmt.Sprintf("%s sequence %d", text, r.Sequence)
	case "open":
		return fmt.Sprintf("%s sequence %d, in a transaction", text, r.Sequence)
	}
	return fmt.Sprintf("%s, transaction %s", text, r.Transaction)
}

func printable(b []byte) *string {
	if b == nil {
		return nil
	}
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	return &text
}

func quoted(s *string) string {
	if s == nil {
		return "null"
	}
	return fmt.Sprintf("%q", *s)
}
