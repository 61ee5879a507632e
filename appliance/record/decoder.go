package record

import (
	"encoding/binary"
	"fmt"
)

// Record is one record of a batch. A nil Key or Value is Kafka's null; a null
// value in a compacted topic is a tombstone.
type Record struct {
	Offset    int64
	Timestamp int64 // ms since 1970
	Key       []byte
	Value     []byte
	Headers   []Header
	// HeaderBlock is the headers as they are encoded, count first. The Decoder
	// sets it; a Builder given it copies it and does not look at Headers.
	HeaderBlock []byte
}

// Header is one record header. Keys may repeat; a nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Header returns the value of the first header with that key.
func (r *Record) Header(key string) (value []byte, ok bool) {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

// Decoder reads the records of one batch after another, reusing its memory: a
// Record from Next is valid until the next call of Next or Reset. The zero
// value is ready to use.
type Decoder struct {
	// MaxBytes bounds the decompressed size; 0 means what LimitDecompressed said, or DefaultMaxDecompressed.
	MaxBytes int
	// RawHeaders leaves Headers nil and sets only HeaderBlock.
	RawHeaders bool

	plain   []byte // memory for decompression, reused
	rest    []byte // records not read yet
	left    int32
	base    int64
	baseTS  int64
	maxTS   int64
	logTime bool
	headers []Header
}

// Reset starts on b, which it decompresses if need be. It trusts the header, not the records.
func (d *Decoder) Reset(b Batch) error {
	limit := d.MaxBytes
	if limit == 0 {
		limit = decompressLimit()
	}
	d.base, d.baseTS, d.maxTS, d.logTime, d.left = b.BaseOffset(), b.BaseTimestamp(), b.MaxTimestamp(), b.LogAppendTime(), b.Count()
	if b.Codec() == None {
		d.rest = b.Payload()
		return nil
	}
	var err error
	d.plain, err = b.Codec().decompress(d.plain[:0], b.Payload(), limit)
	d.rest = d.plain
	if err != nil {
		d.left = 0
		return fmt.Errorf("batch at offset %d: %w", d.base, err)
	}
	return nil
}

// Next reads the next record into r. It returns false after the last one.
func (d *Decoder) Next(r *Record) (bool, error) {
	if d.left == 0 {
		if len(d.rest) != 0 {
			n := len(d.rest)
			d.rest = nil
			return false, fmt.Errorf("%w: batch at offset %d: %d bytes after the last record", ErrCorrupt, d.base, n)
		}
		return false, nil
	}
	size, n := binary.Varint(d.rest)
	if n <= 0 || size < 0 || size > int64(len(d.rest)-n) {
		return false, d.bad("length")
	}
	body := d.rest[n : n+int(size)]
	d.rest = d.rest[n+int(size):]
	d.left--
	return true, d.record(body, r)
}

func (d *Decoder) record(body []byte, r *Record) error {
	if len(body) < 1 {
		return d.bad("attributes")
	}
	body = body[1:]
	tsDelta, n := binary.Varint(body)
	if n <= 0 {
		return d.bad("timestamp")
	}
	body = body[n:]
	offDelta, n := binary.Varint(body)
	if n <= 0 || offDelta < 0 || offDelta > 1<<31-1 {
		return d.bad("offset")
	}
	body = body[n:]
	var ok bool
	if r.Key, body, ok = varBytes(body); !ok {
		return d.bad("key")
	}
	if r.Value, body, ok = varBytes(body); !ok {
		return d.bad("value")
	}
	r.Offset, r.Timestamp = d.base+offDelta, d.baseTS+tsDelta
	if d.logTime {
		r.Timestamp = d.maxTS
	}
	r.HeaderBlock, r.Headers = body, nil
	if d.RawHeaders {
		return nil
	}
	return d.parseHeaders(body, r)
}

func (d *Decoder) parseHeaders(body []byte, r *Record) error {
	count, n := binary.Varint(body)
	// Each header takes at least two bytes, so the count cannot ask for memory the batch did not pay for.
	if n <= 0 || count < 0 || count > int64(len(body)-n)/2 {
		return d.bad("header count")
	}
	body = body[n:]
	d.headers = d.headers[:0]
	for range count {
		var key, value []byte
		var ok bool
		if key, body, ok = varBytes(body); !ok || key == nil {
			return d.bad("header key")
		}
		if value, body, ok = varBytes(body); !ok {
			return d.bad("header value")
		}
		d.headers = append(d.headers, Header{Key: string(key), Value: value})
	}
	if len(body) != 0 {
		return d.bad("end")
	}
	r.Headers = d.headers
	return nil
}

func (d *Decoder) bad(what string) error {
	d.left, d.rest = 0, nil
	return fmt.Errorf("%w: batch at offset %d: impossible %s of a record", ErrCorrupt, d.base, what)
}

// varBytes reads a varint length and that many bytes; length -1 is null.
func varBytes(src []byte) (value, rest []byte, ok bool) {
	size, n := binary.Varint(src)
	if n <= 0 || size < -1 || size > int64(len(src)-n) {
		return nil, nil, false
	}
	if src = src[n:]; size == -1 {
		return nil, src, true
	}
	return src[:size:size], src[size:], true
}

// Records decodes all records of b into memory of their own. It is for callers
// that are not on a hot path; those use a Decoder.
func (b Batch) Records() ([]Record, error) {
	var d Decoder
	if err := d.Reset(b); err != nil {
		return nil, err
	}
	var out []Record
	for {
		var r Record
		ok, err := d.Next(&r)
		if err != nil || !ok {
			return out, err
		}
		r.Headers = append([]Header(nil), r.Headers...)
		out = append(out, r)
	}
}
