package mqtt

import (
	"github.com/weirmq/weir/appliance/record"
)

// Log is the partition log as the server needs it: it stages messages without
// waiting, reads what is committed, and sees to its topics.
type Log interface {
	record.AsyncAppender
	record.AsyncAtomicAppender
	record.Fetcher
	// Ensure makes a topic unless there is one, and returns how many partitions
	// it has. 0 partitions and nil configs ask for the broker's defaults.
	Ensure(topic string, partitions int32, configs map[string]string) (int32, error)
	// TopicID identifies a topic: one that is deleted and made again has another.
	TopicID(topic string) (id [16]byte, ok bool)
	// MaxMessageBytes is how large a batch of a topic may be. It is asked for each batch.
	MaxMessageBytes(topic string) int
	// Offsets returns the log start offset and the high watermark.
	Offsets(tp record.TopicPartition) (start, end int64, err error)
	// ReportGap writes a gap record, without waiting.
	ReportGap(g record.Gap)
	// DeleteRecords moves the log start offset up to before.
	DeleteRecords(tp record.TopicPartition, before int64) error
}

// Router says where messages go in the log and which records come back out. It is
// called by many connections at once.
type Router interface {
	// Route appends to ways, which is empty, those of a message published on topic; none
	// drops it on purpose. It keeps no reference to topic and payload and reuses the memory
	// of the Routes that ways has room for. An error refuses the message.
	Route(topic, payload []byte, ways []Route) ([]Route, error)
	// Topics lists the Kafka topics of routes whose name needs no capture.
	Topics() []string
	// Downlinks lists what Kafka clients say to devices, at most one for a topic. One that
	// has not changed since it was last asked is the same Downlink.
	Downlinks() []*Downlink
	// Past makes the downlink of a Spec, of which records of before are.
	Past(spec string) (*Downlink, error)
}

// Route is a message's way into the log.
type Route struct {
	Topic     string // Kafka topic
	Key       []byte
	Partition int32 // -1: by Kafka's hash of the key
	// Headers is further headers, each made by AppendHeader; Count is how many.
	Headers []byte
	Count   int
	// Timestamp is the record's, in ms; 0: when the message arrived. Untimed says that
	// its payload was to tell, and did not.
	Timestamp int64
	Untimed   bool

	copy bool  // not the message's first way
	feed *feed // of Topic and Partition, when there are several ways
}

// Downlink turns the records of one Kafka topic into messages. It never changes.
type Downlink struct {
	Topic  string // Kafka topic
	Spec   string // by which the Router makes it again
	QoS    byte   // 0, 1 or 2
	Retain bool
	// AppendTopic appends the MQTT topic name that the record goes to. The record's
	// headers are in its HeaderBlock alone.
	AppendTopic func(dst []byte, partition int32, r *record.Record) ([]byte, error)
	// AppendResponse appends the topic name on which an answer to the record is awaited;
	// nil: none is.
	AppendResponse func(dst []byte, partition int32, r *record.Record) ([]byte, error)
}
