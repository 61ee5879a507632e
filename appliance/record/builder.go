package record

import (
	"encoding/binary"
	"math"
)

// Builder makes batches. The zero value is ready to use; after Build it must be
// Reset. It is not safe for concurrent use.
type Builder struct {
	plain  []byte // header space, then the records
	packed []byte // the compressed batch, reused
	count  int32
	baseTS int64
	maxTS  int64
	attrs  int16
}

// Reset forgets all records and keeps the memory.
func (w *Builder) Reset() { w.plain, w.count, w.attrs = w.plain[:0], 0, 0 }

// Len is the number of records added since Reset.
func (w *Builder) Len() int { return int(w.count) }

// Size is the size in bytes that the batch would have uncompressed.
func (w *Builder) Size() int { return max(len(w.plain), HeaderLen) }

// Add appends a record; its Offset is ignored, offsets count up from the batch's
// base. Key, Value and Headers are copied.
func (w *Builder) Add(r *Record) {
	if w.count == 0 {
		w.plain = append(w.plain[:0], make([]byte, HeaderLen)...)
		w.baseTS, w.maxTS = r.Timestamp, r.Timestamp
	}
	w.maxTS = max(w.maxTS, r.Timestamp)
	tsDelta, offDelta := r.Timestamp-w.baseTS, int64(w.count)
	size := 1 + varintLen(tsDelta) + varintLen(offDelta) + varBytesLen(r.Key) + varBytesLen(r.Value) + headersLen(r)
	p := binary.AppendVarint(w.plain, int64(size))
	p = append(p, 0)
	p = binary.AppendVarint(p, tsDelta)
	p = binary.AppendVarint(p, offDelta)
	p = appendVarBytes(p, r.Key)
	p = appendVarBytes(p, r.Value)
	w.plain = appendHeaders(p, r)
	w.count++
}

// Build encodes the records added. The batch has base offset 0 and no producer;
// it is valid until the next Reset. Build of an empty Builder returns nil.
func (w *Builder) Build(c Codec) (Batch, error) {
	if w.count == 0 {
		return nil, nil
	}
	b := Batch(w.plain)
	if c != None {
		packed, err := c.compress(append(w.packed[:0], w.plain[:HeaderLen]...), w.plain[HeaderLen:])
		if err != nil {
			return nil, err
		}
		w.packed, b = packed, packed
	}
	clear(b[:HeaderLen])
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-PrefixLen))
	b[16] = 2
	binary.BigEndian.PutUint16(b[21:], uint16(int16(c)|w.attrs))
	binary.BigEndian.PutUint32(b[23:], uint32(w.count-1))
	binary.BigEndian.PutUint64(b[27:], uint64(w.baseTS))
	binary.BigEndian.PutUint64(b[35:], uint64(w.maxTS))
	binary.BigEndian.PutUint64(b[43:], math.MaxUint64) // producer id -1
	binary.BigEndian.PutUint16(b[51:], math.MaxUint16)
	binary.BigEndian.PutUint32(b[53:], math.MaxUint32)
	binary.BigEndian.PutUint32(b[57:], uint32(w.count))
	b.seal()
	return b, nil
}

// NewBatch is Build for a few records, in memory of its own.
func NewBatch(c Codec, records ...Record) (Batch, error) {
	var w Builder
	for i := range records {
		w.Add(&records[i])
	}
	return w.Build(c)
}

func headersLen(r *Record) int {
	if r.HeaderBlock != nil {
		return len(r.HeaderBlock)
	}
	n := varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		n += varintLen(int64(len(r.Headers[i].Key))) + len(r.Headers[i].Key) + varBytesLen(r.Headers[i].Value)
	}
	return n
}

func appendHeaders(p []byte, r *Record) []byte {
	if r.HeaderBlock != nil {
		return append(p, r.HeaderBlock...)
	}
	p = binary.AppendVarint(p, int64(len(r.Headers)))
	for i := range r.Headers {
		p = binary.AppendVarint(p, int64(len(r.Headers[i].Key)))
		p = append(p, r.Headers[i].Key...)
		p = appendVarBytes(p, r.Headers[i].Value)
	}
	return p
}

func appendVarBytes(p, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(p, -1)
	}
	p = binary.AppendVarint(p, int64(len(v)))
	return append(p, v...)
}

func varBytesLen(v []byte) int {
	if v == nil {
		return 1
	}
	return varintLen(int64(len(v))) + len(v)
}

func varintLen(v int64) int {
	u, n := uint64(v)<<1^uint64(v>>63), 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
