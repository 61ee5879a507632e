package kafka

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/txn"
)

// ListTransactions, key 66, versions 0-2 (flexible): the transactional ids, by state and
// producer id; from 1 by how long they are open, from 2 by a pattern.
const listTransactionsKey = 66

func init() {
	register(api{key: listTransactionsKey, name: "ListTransactions", needs: "DESCRIBE TransactionalId; others are left out", min: 0, max: 2, handle: (*Server).listTransactions})
}

// maxPatternBytes bounds the pattern.
const maxPatternBytes = 1 << 10

func (s *Server) listTransactions(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ListTransactionsRequest), kmsg.NewPtrListTransactionsResponse()
	var named *regexp.Regexp
	if p := deref(req.TransactionalIDPattern); p != "" {
		var err error
		if len(p) > maxPatternBytes {
			err = fmt.Errorf("%d bytes", len(p))
		} else {
			named, err = regexp.Compile("^(?:" + p + ")$")
		}
		if err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp
		}
	}
	for _, state := range req.StateFilters {
		if !slices.ContainsFunc(txn.States(), func(s txn.State) bool { return s.String() == state }) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, state)
		}
	}
	all, err := s.o.Transactions.List()
	resp.ErrorCode = errorCode(err)
	for _, d := range all {
		switch state := d.State.String(); {
		case !r.may(auth.Describe, auth.TransactionalID, d.ID):
		case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, state):
		case len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, d.Producer.ID):
		case r.version >= 1 && req.DurationFilterMillis >= 0 && (d.Started.IsZero() || time.Since(d.Started).Milliseconds() <= req.DurationFilterMillis):
		case named != nil && !named.MatchString(d.ID):
		default:
			st := kmsg.NewListTransactionsResponseTransactionState()
			st.TransactionalID, st.ProducerID, st.TransactionState = d.ID, d.Producer.ID, state
			resp.TransactionStates = append(resp.TransactionStates, st)
		}
	}
	return resp
}
