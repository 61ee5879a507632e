package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/txn"
)

// DescribeTransactions, key 65, version 0 (flexible): what the coordinator knows of
// transactional ids.
const describeTransactionsKey = 65

func init() {
	register(api{key: describeTransactionsKey, name: "DescribeTransactions", needs: "DESCRIBE TransactionalId; DESCRIBE Topic", min: 0, max: 0, handle: (*Server).describeTransactions})
}

func (s *Server) describeTransactions(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeTransactionsRequest), kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range req.TransactionalIDs {
		st := kmsg.NewDescribeTransactionsResponseTransactionState()
		st.TransactionalID = id
		err := r.authorize(auth.Describe, auth.TransactionalID, id)
		var d txn.Description
		if err == nil {
			d, err = s.o.Transactions.Describe(id)
		}
		if st.ErrorCode = errorCode(err); err != nil {
			st.ProducerID, st.ProducerEpoch, st.StartTimestamp = -1, -1, -1
			resp.TransactionStates = append(resp.TransactionStates, st)
			continue
		}
		st.State, st.TimeoutMillis, st.StartTimestamp = d.State.String(), int32(d.Timeout.Milliseconds()), -1
		st.ProducerID, st.ProducerEpoch = d.Producer.ID, d.Producer.Epoch
		if !d.Started.IsZero() {
			st.StartTimestamp = d.Started.UnixMilli()
		}
		for _, tp := range d.Partitions {
			if !r.may(auth.Describe, auth.Topic, tp.Topic) {
				continue
			}
			if n := len(st.Topics); n == 0 || st.Topics[n-1].Topic != tp.Topic {
				t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
				t.Topic = tp.Topic
				st.Topics = append(st.Topics, t)
			}
			t := &st.Topics[len(st.Topics)-1]
			t.Partitions = append(t.Partitions, tp.Partition)
		}
		resp.TransactionStates = append(resp.TransactionStates, st)
	}
	return resp
}
