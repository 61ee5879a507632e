package group

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// EncodeOffsetCommit is the record that commits an offset of a group: append it to
// [TopicPartition], if need be atomically with what was made of the records
// before that offset. It is the record that an OffsetCommit request would append;
// the group must not have members, which would commit over it.
func EncodeOffsetCommit(group string, tp record.TopicPartition, offset int64, metadata string, nowMs int64) record.Record {
	return encodeOffset(group, tp, Offset{Offset: offset, LeaderEpoch: -1, Metadata: metadata, CommitMs: nowMs})
}

// topicIDHeader is the header of a committed offset with its topic's id, 16 bytes.
// Kafka has it in version 4 of the value, which only Kafka 4.1 and later read.
const topicIDHeader = "weir.topic.id"

func encodeOffset(group string, tp record.TopicPartition, o Offset) record.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch = offsetValueVersion, o.Offset, o.LeaderEpoch
	v.Metadata, v.CommitTimestamp = o.Metadata, o.CommitMs
	r := record.Record{Timestamp: o.CommitMs, Key: offsetKey(group, tp), Value: v.AppendTo(nil)}
	if o.TopicID != (TopicID{}) {
		r.Headers = []record.Header{{Key: topicIDHeader, Value: o.TopicID[:]}}
	}
	return r
}

func offsetKey(group string, tp record.TopicPartition) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: tp.Topic, Partition: tp.Partition}
	return k.AppendTo(nil)
}

// encodeGroup is a record of group metadata; a nil value is a tombstone.
func encodeGroup(group string, value []byte, nowMs int64) record.Record {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return record.Record{Timestamp: nowMs, Key: k.AppendTo(nil), Value: value}
}

// offsetTombstone deletes a committed offset.
func offsetTombstone(group string, tp record.TopicPartition, nowMs int64) record.Record {
	return record.Record{Timestamp: nowMs, Key: offsetKey(group, tp)}
}

// copied marks a record as the repetition of the one at offset from.
func copied(r record.Record, from int64) record.Record {
	r.Headers = append(r.Headers, record.Header{Key: CopiedFromHeader, Value: binary.BigEndian.AppendUint64(nil, uint64(from))})
	return r
}
