package record

import (
	"encoding/json"
	"time"
)

// GapTopic is the topic that gap records are written to, partition 0: loss is a
// record. Whoever lets records go that nobody asked to be rid of writes one there.
const GapTopic = "__weir_gaps"

// Reasons of gaps that the log itself makes; mirrors have reasons of their own.
const (
	GapDisk    = "disk-budget" // the disk policy of the topic let go of its oldest records
	GapCorrupt = "corrupt"     // the records can no longer be read from the disk
)

// Gap is a run of records that is not to be had any more: the value, in JSON, of a
// record in GapTopic whose key is "topic-partition".
type Gap struct {
	Flow        string    `json:"flow,omitempty"` // of a mirror: the records are missing at its target only
	Topic       string    `json:"topic"`
	Partition   int32     `json:"partition"`
	FirstOffset int64     `json:"first_offset"`
	LastOffset  int64     `json:"last_offset"`
	Count       int64     `json:"count"` // of offsets: the number of records unless the topic is compacted
	Bytes       int64     `json:"bytes"` // 0 when not known
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail,omitempty"`
	Time        time.Time `json:"time"`
}

// Batch is the gap as it is written to GapTopic.
func (g Gap) Batch() (Batch, error) {
	value, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	tp := TopicPartition{Topic: g.Topic, Partition: g.Partition}
	return NewBatch(None, Record{Key: []byte(tp.String()), Value: value, Timestamp: g.Time.UnixMilli()})
}
