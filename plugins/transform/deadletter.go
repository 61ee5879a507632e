package transform

import (
	"encoding/binary"
	"strconv"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins/abi"
)

// Headers of a dead letter, before those that the record had.
const (
	HeaderPlugin    = "weir.plugin"
	HeaderError     = "weir.error"
	HeaderTopic     = "weir.source.topic"
	HeaderPartition = "weir.source.partition"
	HeaderOffset    = "weir.source.offset"
	// HeaderDropped is the size of a value that was too large to keep.
	HeaderDropped = "weir.dropped.bytes"
)

// MaxReasonBytes bounds the text that says why a record failed.
const MaxReasonBytes = 1024

func clip(reason []byte) []byte { return reason[:min(len(reason), MaxReasonBytes)] }

// deadLetter adds r, with the cause of its death, to the dead-letter topic.
func (o *Output) deadLetter(plugin string, from record.TopicPartition, r *record.Record, reason []byte, keepValue bool) {
	added := []record.Header{
		{Key: HeaderPlugin, Value: []byte(plugin)},
		{Key: HeaderError, Value: clip(reason)},
		{Key: HeaderTopic, Value: []byte(from.Topic)},
		{Key: HeaderPartition, Value: strconv.AppendInt(nil, int64(from.Partition), 10)},
		{Key: HeaderOffset, Value: strconv.AppendInt(nil, r.Offset, 10)},
	}
	dead := record.Record{Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	block := r.HeaderBlock
	if abi.CheckHeaders(block) != nil {
		block = nil
	}
	if !keepValue {
		added = append(added, record.Header{Key: HeaderDropped, Value: strconv.AppendInt(nil, int64(len(r.Key)+len(r.Value)+len(block)), 10)})
		dead.Key, dead.Value, block = nil, nil, nil
	}
	o.headers = appendHeaderBlock(o.headers[:0], added, block)
	dead.HeaderBlock = o.headers
	o.add(&o.dead, &dead)
}

// appendHeaderBlock encodes added and then the headers of block.
func appendHeaderBlock(dst []byte, added []record.Header, block []byte) []byte {
	count, n := binary.Varint(block)
	if n <= 0 || count < 0 {
		count, n = 0, len(block)
	}
	dst = binary.AppendVarint(dst, int64(len(added))+count)
	for _, h := range added {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = binary.AppendVarint(dst, int64(len(h.Value)))
		dst = append(dst, h.Value...)
	}
	return append(dst, block[n:]...)
}
