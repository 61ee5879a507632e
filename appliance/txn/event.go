package txn

import (
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// NoProducer says in an Init that the producer does not know of an earlier session.
const (
	NoProducer int64 = -1
	NoEpoch    int16 = -1
)

// Event is what happens to a transaction: a request, markers that are in the log, or
// the passing of time.
type Event interface{ event() }

// Init begins a producer's session, which fences the one before (InitProducerId).
type Init struct {
	// ProducerID and Epoch are those of a producer that goes on after an error
	// (KIP-360); NoProducer and NoEpoch for one that begins.
	ProducerID int64
	Epoch      int16
	Timeout    time.Duration
	NewID      int64 // the producer id to take, should one be needed
}

// Add makes partitions part of the transaction, which it opens if need be
// (AddPartitionsToTxn).
type Add struct {
	ProducerID int64
	Epoch      int16
	Partitions []record.TopicPartition
	// Bump says that the producer's epoch grows with each transaction (KIP-890).
	Bump bool
}

// End ends the transaction (EndTxn).
type End struct {
	ProducerID int64
	Epoch      int16
	Commit     bool
	Bump       bool
	NewID      int64 // as in Init
}

// Marked says that these partitions have their markers, or are gone.
type Marked struct{ Partitions []record.TopicPartition }

// Tick is the passing of time; it is due at [Transaction.Deadline].
type Tick struct{ NewID int64 }

// Abort aborts the transaction, if it is not decided, by an operator's hand: its producer
// is fenced, as by a timeout.
type Abort struct{ NewID int64 }

func (Abort) event()  {}
func (Init) event()   {}
func (Add) event()    {}
func (End) event()    {}
func (Marked) event() {}
func (Tick) event()   {}

// Answer is what a request gets, once the effects are on stable storage.
type Answer struct {
	Err error
	// ProducerID and Epoch are the producer's from here on: of Init and of End.
	ProducerID int64
	Epoch      int16
	// TookID says that NewID is in use now.
	TookID bool
	// Again asks for the same event once more, after the effects.
	Again bool
}

// Effect is what the world must do after a step, in order.
type Effect interface{ effect() }

// Store asks for the transaction's metadata to be appended to the log. When that
// cannot be, the step has not happened.
type Store struct{ Value []byte }

// Mark asks for a marker in each partition, and for a [Marked] with those that have theirs.
type Mark struct {
	record.Marker
	Partitions []record.TopicPartition
}

func (Store) effect() {}
func (Mark) effect()  {}
