package topic

import (
	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
)

// gatherBytes bounds what is copied together for one write. Where it ends a write
// costs little more than the copying of its bytes.
const gatherBytes = 64 << 10

// gathered is batches of one partition that follow one another in a round and in
// a segment: a thousand small ones become one write. It is empty between rounds
// and between the entries of different partitions.
type gathered struct {
	at      commitlog.Position // of the first
	bytes   []byte
	batches []lateBatch // what they are, should there be no room for them
}

// applyBatch writes a durable batch to its place, now or, when more comes, with
// what follows. Nothing is visible to readers before it is written.
func (p *Partition) applyBatch(b record.Batch, as lateBatch, more bool) error {
	g, at := &p.set.gathered, as.at
	follows := at.Segment == g.at.Segment && at.Byte == g.at.Byte+int64(len(g.bytes))
	if !follows || len(g.bytes)+len(b) > gatherBytes {
		if err := p.writeGathered(); err != nil {
			return err
		}
	}
	if len(g.bytes) == 0 {
		if !more || len(b) > gatherBytes || p.late.count.Load() > 0 {
			return p.writeOrPutOff(at, b, as)
		}
		g.at = at
	}
	g.bytes, g.batches = append(g.bytes, b...), append(g.batches, as)
	return nil
}

func (p *Partition) writeGathered() error {
	g := &p.set.gathered
	if len(g.bytes) == 0 {
		return nil
	}
	bytes, batches := g.bytes, g.batches
	g.bytes, g.batches = g.bytes[:0], g.batches[:0]
	return p.writeOrPutOff(g.at, bytes, batches...)
}

// write puts batches into the segment, where readers see them at once.
func (p *Partition) write(at commitlog.Position, batches []byte) error {
	if err := p.log.Write(at, batches); err != nil {
		return err
	}
	p.touch()
	return nil
}
