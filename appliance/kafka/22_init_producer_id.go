package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// InitProducerId, key 22, versions 0-5 (flexible from 2): an id for an idempotent
// producer. It must exist: Java producers are idempotent by default since 3.0.
//
// Without a transactional id every call gives a new id at epoch 0, also to a
// producer that names its old one (KIP-360), as Kafka does. With a transactional
// id the request is refused with a code on which clients give up at once.
const initProducerIDKey = 22

func init() {
	register(api{key: initProducerIDKey, name: "InitProducerId", needs: "IDEMPOTENT_WRITE Cluster or WRITE any Topic; WRITE TransactionalId", min: 0, max: 5, handle: (*Server).initProducerID,
		notes: "idempotent producers; a transactional id is refused (TRANSACTIONAL_ID_AUTHORIZATION_FAILED)"})
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
	case req.TransactionalID != nil:
		err = errNoTransactions
	case s.o.NextProducerID == nil:
		err = errNoProducerIDs
	default:
		var id int64
		if id, err = s.o.NextProducerID(); err == nil {
			resp.ProducerID, resp.ProducerEpoch = id, 0
		}
	}
	if resp.ErrorCode = errorCode(err); err != nil {
		s.o.Log.Warn("producer id refused", "remote", r.remoteAddr(), "client", r.clientID, "error", err)
	}
	return resp
}
