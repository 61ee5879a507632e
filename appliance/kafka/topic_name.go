package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// topicName is how a request names a topic: by name or, in newer versions, by id
// (KIP-516); the answer names it the same way. A topic that was deleted and made
// again has another id, so who means the old one is told so and does not read or
// write the new one by mistake.
type topicName struct {
	// name is empty when only the id is known.
	name string
	id   topic.ID
	byID bool
}

// Each is one value, for the id stands beside it in the answer.
var (
	errUnknownID = fmt.Errorf("%w: there is no topic of this id; it may have been deleted", kerr.UnknownTopicID)
	errOtherID   = fmt.Errorf("%w: the topic was deleted and made again", kerr.InconsistentTopicID)
)

// partitionOf finds a partition however its topic is named.
func (s *Server) partitionOf(of topicName, partition int32) (*topic.Partition, error) {
	if !of.byID {
		return s.o.Topics.Partition(record.TopicPartition{Topic: of.name, Partition: partition})
	}
	t := s.o.Topics.ByID(of.id)
	switch {
	case t != nil:
	case of.name != "" && s.o.Topics.Topic(of.name) != nil:
		return nil, errOtherID
	default:
		return nil, errUnknownID
	}
	if ps := t.Partitions(); partition >= 0 && int(partition) < len(ps) {
		return ps[partition], nil
	}
	return nil, fmt.Errorf("%w: %s-%d", record.ErrUnknownTopicOrPartition, t.Name(), partition)
}

// authorizeNamed is authorize for a topic however it is named. What there is no topic of
// is for partitionOf to say.
func (r *request) authorizeNamed(op auth.Operation, of topicName) error {
	if of.byID {
		t := r.conn.s.o.Topics.ByID(of.id)
		if t == nil {
			return nil
		}
		of.name = t.Name()
	}
	return r.authorize(op, auth.Topic, of.name)
}

// topic reads the name or the id of a topic.
func (r *reader) topic(c *conn, byID bool) topicName {
	of := topicName{byID: byID}
	if byID {
		copy(of.id[:], r.span(len(of.id)))
	} else {
		name := r.nullableString()
		r.bad = r.bad || name == nil // it cannot be null
		of.name = c.intern(name)
	}
	return of
}

// topic appends what reader.topic reads.
func (e *encoder) topic(of topicName) {
	if of.byID {
		e.b = append(e.b, of.id[:]...)
		return
	}
	e.string(of.name)
}
