package kafka

import "github.com/weirmq/weir/appliance/topic"

// section reads what the client may see.
func (f *fetchReply) section(part *fetchPart, maxBytes int) (c topic.Section, err error) {
	if !f.readCommitted {
		return part.partition.Read(part.offset, maxBytes)
	}
	c, part.aborted, part.stable, err = part.partition.ReadCommitted(part.offset, maxBytes)
	part.highWatermark = max(part.highWatermark, part.stable)
	return c, err
}

// aborted appends the transactions that the client is to leave out, by first offset.
func (e *encoder) aborted(all []topic.AbortedTransaction, readCommitted bool) {
	if !readCommitted {
		e.arrayLen(-1)
		return
	}
	e.arrayLen(len(all))
	for _, a := range all {
		e.int64(a.ProducerID)
		e.int64(a.First)
		e.tags()
	}
}
