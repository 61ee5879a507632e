package mirror

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance/record"
)

// An anchor ties a place in the source to a place in the target. It is a record
// of the positions topic at the target:
//
//	key    flow/topic/partition
//	value  the anchor in JSON
//
// It says: the record of the target at TargetOffset is the first record of the
// source at or after SourceOffset, and every record that this flow appends at
// target offset t has the producer identity given and the sequence number
// (t - SequenceBase) mod 2^31. The target itself refuses a batch whose sequence
// does not follow, so a batch is appended at exactly the offset we believe in or
// not at all: compare and append, by Kafka's own means.
//
// Claims. Two processes that both find no anchor each write one of generation
// g. The first in the log wins; the other sees that when it reads its own claim
// back, and takes the winner's identity. Within a generation the greatest
// TargetOffset is the newest, so an old process cannot move the position back.
type anchor struct {
	Generation    int64  `json:"generation"`
	SourceID      hexID  `json:"source_topic_id"`
	SourceOffset  int64  `json:"source_offset"`
	Target        string `json:"target_topic"`
	TargetID      hexID  `json:"target_topic_id"` // zero when the target shows no ids
	TargetOffset  int64  `json:"target_offset"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	SequenceBase  int64  `json:"sequence_base"`
}

// sequence is the base sequence of a batch that goes to target offset t.
func (a *anchor) sequence(t int64) int32 { return int32((t - a.SequenceBase) & (1<<31 - 1)) }

// same reports whether both have one producer identity.
func (a *anchor) same(b *anchor) bool {
	return a.ProducerID == b.ProducerID && a.ProducerEpoch == b.ProducerEpoch && a.SequenceBase == b.SequenceBase
}

// hexID is a topic id, hexadecimal in JSON.
type hexID [16]byte

func (id hexID) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

func (id *hexID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("topic id %q: want %d hexadecimal digits", text, 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

func anchorKey(flow string, tp record.TopicPartition) string {
	return flow + "/" + tp.Topic + "/" + strconv.Itoa(int(tp.Partition))
}

// parseAnchorKey is the inverse of anchorKey. Topic names hold no '/'.
func parseAnchorKey(key string) (flow string, tp record.TopicPartition, err error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return "", tp, fmt.Errorf("anchor key %q: want flow/topic/partition", key)
	}
	p, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil || p < 0 {
		return "", tp, fmt.Errorf("anchor key %q: %q is no partition", key, parts[2])
	}
	return parts[0], record.TopicPartition{Topic: parts[1], Partition: int32(p)}, nil
}

var errAnchor = errors.New("impossible anchor")

func parseAnchor(value []byte) (anchor, error) {
	var a anchor
	if err := json.Unmarshal(value, &a); err != nil {
		return a, fmt.Errorf("anchor: %w", err)
	}
	if a.SourceOffset < 0 || a.SequenceBase < 0 || a.TargetOffset < a.SequenceBase || a.ProducerID < 0 || a.ProducerEpoch < 0 || a.Generation < 1 {
		return a, fmt.Errorf("%w: %s", errAnchor, value)
	}
	return a, nil
}

// book is the anchors of one flow, by partition, as read from the positions topic.
type book map[record.TopicPartition]anchor

// note applies one anchor, in log order, by the rule of claims.
func (b book) note(tp record.TopicPartition, a anchor) {
	old, ok := b[tp]
	switch {
	case !ok, a.Generation > old.Generation:
		b[tp] = a
	case a.Generation == old.Generation && a.same(&old) && a.TargetOffset >= old.TargetOffset:
		b[tp] = a
	}
}

// read applies the records of a positions topic that are anchors of flow. A
// record that is none is somebody else's and no reason to stop.
func (b book) read(flow string, batches record.Batches) error {
	for batch := range batches.All() {
		if err := batch.Validate(); err != nil {
			return fmt.Errorf("positions topic at offset %d: %w", batch.BaseOffset(), err)
		}
		if batch.Control() {
			continue
		}
		records, err := batch.Records()
		if err != nil {
			return fmt.Errorf("positions topic: %w", err)
		}
		for i := range records {
			owner, tp, err := parseAnchorKey(string(records[i].Key))
			if err != nil || owner != flow {
				continue
			}
			a, err := parseAnchor(records[i].Value)
			if err != nil {
				return fmt.Errorf("positions topic at offset %d, key %s: %w", records[i].Offset, records[i].Key, err)
			}
			b.note(tp, a)
		}
	}
	return nil
}
