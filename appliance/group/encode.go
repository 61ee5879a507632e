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

func encodeOffset(group string, tp record.TopicPartition, o Offset) record.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch = offsetValueVersion, o.Offset, o.LeaderEpoch
	v.Metadata, v.CommitTimestamp = o.Metadata, o.CommitMs
	return record.Record{Timestamp: o.CommitMs, Key: offsetKey(group, tp), Value: v.AppendTo(nil)}
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
	r.Headers = []record.Header{{Key: CopiedFromHeader, Value: binary.BigEndian.AppendUint64(nil, uint64(from))}}
	return r
}
