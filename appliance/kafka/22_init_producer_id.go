package kafka

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/txn"
)

// InitProducerId, key 22, versions 0-5 (flexible from 2): a session for an idempotent or
// transactional producer. It must exist: Java producers are idempotent by default since 3.0.
//
// Without a transactional id every call gives a new id at epoch 0, also to a
// producer that names its old one (KIP-360), as Kafka does. With one, the id's producer
// goes on with the next epoch, and all that came before is fenced, and aborted if it was
// open. From 3 on a producer says which session it goes on from after an error: that
// is fenced if somebody else came between. Version 6 is for two-phase commit (KIP-939).
const (
	initProducerIDKey       = 22
	fencedInitProducerIDMin = 4
)

func init() {
	register(api{key: initProducerIDKey, name: "InitProducerId", needs: "IDEMPOTENT_WRITE Cluster or WRITE any Topic; WRITE TransactionalId", min: 0, max: 5, handle: (*Server).initProducerID,
		notes: "idempotent and transactional producers"})
}

// mayProduceIdempotently: who may write to any topic may do so idempotently (KIP-679).
func (r *request) mayProduceIdempotently() bool {
	return r.may(auth.IdempotentWrite, auth.Cluster, auth.ClusterName) || r.conn.login.session.AllowedAny(auth.Write, auth.Topic)
}

var errNoProducerIDs = errors.New("kafka: no source of producer ids")

func (s *Server) initProducerID(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.InitProducerIDRequest), kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	var err error
	switch {
	case req.TransactionalID == nil && !r.mayProduceIdempotently():
		err = r.authorizeCluster(auth.IdempotentWrite)
	case req.TransactionalID != nil && !r.may(auth.Write, auth.TransactionalID, *req.TransactionalID):
		err = r.authorize(auth.Write, auth.TransactionalID, *req.TransactionalID)
	case req.TransactionalID != nil:
		from, timeout := txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, time.Duration(req.TransactionTimeoutMillis)*time.Millisecond
		var p txn.Producer
		if p, err = s.o.Transactions.Init(*req.TransactionalID, from, timeout); err == nil {
			resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
		}
		err = fenced(err, r.version >= fencedInitProducerIDMin)
	case s.o.NextProducerID == nil:
		err = errNoProducerIDs
	default:
		var id int64
		if id, err = s.o.NextProducerID(); err == nil {
			resp.ProducerID, resp.ProducerEpoch = id, 0
		}
	}
	if resp.ErrorCode = errorCode(err); err != nil {
		s.complain("producer id refused", "remote", r.remoteAddr(), "client", r.clientID, "error", err)
	}
	return resp
}
