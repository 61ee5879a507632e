package txn

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// Versions of Kafka's records in __transaction_state: values as Kafka 3.5 and later
// read them, with the tags of 4.0.
const (
	keyVersion   = 0
	valueVersion = 1
	// bumpVersion is the transaction.version at which epochs grow with each transaction.
	bumpVersion = 2
)

func encodeKey(id string) []byte {
	k := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	return k.AppendTo(nil)
}

// encode is the transaction's TransactionLogValue.
func (t *Transaction) encode() []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = valueVersion
	v.ProducerID, v.ProducerEpoch, v.TimeoutMillis = t.producerID, t.epoch, int32(t.timeout.Milliseconds())
	v.State = kmsg.TransactionState(t.state)
	v.LastUpdateTimestamp, v.StartTimestamp = t.updated.UnixMilli(), -1
	if !t.started.IsZero() {
		v.StartTimestamp = t.started.UnixMilli()
	}
	v.PreviousProducerID, v.NextProducerID = t.replaced, t.next
	if t.bumps {
		v.ClientTransactionVersion = bumpVersion
	}
	for _, tp := range t.sorted() {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != tp.Topic {
			vt := kmsg.NewTxnMetadataValueTopic()
			vt.Topic = tp.Topic
			v.Topics = append(v.Topics, vt)
		}
		vt := &v.Topics[len(v.Topics)-1]
		vt.Partitions = append(vt.Partitions, tp.Partition)
	}
	return v.AppendTo(nil)
}

// Restore returns the transaction that a TransactionLogValue describes. The time that
// an open one has begins anew at now.
func Restore(limits *Limits, id string, value []byte, now Moment) (*Transaction, error) {
	if len(value) < 2 || value[0] != 0 || value[1] > valueVersion {
		return nil, fmt.Errorf("txn: stored transaction of %q has a version that this broker does not read", id)
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return nil, fmt.Errorf("txn: stored transaction of %q: %w", id, err)
	}
	t := New(limits, id, now)
	t.producerID, t.epoch, t.timeout = v.ProducerID, v.ProducerEpoch, time.Duration(v.TimeoutMillis)*time.Millisecond
	t.updated, t.deadline = time.UnixMilli(v.LastUpdateTimestamp), now.Elapsed+t.timeout
	if v.StartTimestamp >= 0 {
		t.started = time.UnixMilli(v.StartTimestamp)
	}
	t.replaced, t.next, t.bumps = v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion >= bumpVersion
	for _, vt := range v.Topics {
		for _, p := range vt.Partitions {
			t.partitions[record.TopicPartition{Topic: vt.Topic, Partition: p}] = struct{}{}
		}
	}
	if v.State < 0 || int(v.State) >= int(Dead) {
		return nil, fmt.Errorf("txn: stored transaction of %q is in state %d, which this broker does not know", id, v.State)
	}
	t.state = State(v.State)
	if t.bumps && (t.state == PrepareCommit || t.state == PrepareAbort || t.state == CompleteCommit || t.state == CompleteAbort) && t.epoch > 0 {
		t.previous = t.epoch - 1 // it ended with a bump, and may be asked to again
	}
	return t, nil
}
