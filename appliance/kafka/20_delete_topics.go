package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// DeleteTopics, key 20, versions 1-6 (flexible from 4). Version 6 names topics by
// name or by id. Internal topics are refused: the parts that own them are at work.
// Their partitions count against controller_mutation_rate, strictly from 5 (KIP-599).
const (
	deleteTopicsKey    = 20
	deleteTopicsStrict = 5
)

func init() {
	register(api{key: deleteTopicsKey, name: "DeleteTopics", needs: "DELETE Topic", min: 1, max: 6, handle: (*Server).deleteTopics,
		notes: "by name or id (6); internal topics are refused"})
}

func (s *Server) deleteTopics(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DeleteTopicsRequest), kmsg.NewPtrDeleteTopicsResponse()
	for _, name := range req.TopicNames {
		resp.Topics = append(resp.Topics, deletedTopic(&name, topic.ID{}, s.deleteTopic(r, name, s.o.Topics.Topic(name))))
	}
	for _, want := range req.Topics {
		if want.Topic != nil && want.TopicID != (topic.ID{}) {
			resp.Topics = append(resp.Topics, deletedTopic(want.Topic, want.TopicID, errNameAndID))
			continue
		}
		if want.Topic != nil {
			resp.Topics = append(resp.Topics, deletedTopic(want.Topic, want.TopicID, s.deleteTopic(r, *want.Topic, s.o.Topics.Topic(*want.Topic))))
			continue
		}
		t := s.o.Topics.ByID(want.TopicID)
		if t == nil {
			resp.Topics = append(resp.Topics, deletedTopic(nil, want.TopicID, kerr.UnknownTopicID))
			continue
		}
		if !r.may(auth.Describe, auth.Topic, t.Name()) { // nor is the name told
			resp.Topics = append(resp.Topics, deletedTopic(nil, want.TopicID, r.authorize(auth.Describe, auth.Topic, t.Name())))
			continue
		}
		resp.Topics = append(resp.Topics, deletedTopic(kmsg.StringPtr(t.Name()), want.TopicID, s.deleteTopic(r, t.Name(), t)))
	}
	return resp
}

var errNameAndID = fmt.Errorf("%w: a topic is named by its name or by its id, not by both", kerr.InvalidRequest)

func (s *Server) deleteTopic(r *request, name string, t *topic.Topic) error {
	if err := r.authorize(auth.Delete, auth.Topic, name); err != nil {
		return err
	}
	switch {
	case t == nil:
		return record.ErrUnknownTopicOrPartition
	case t.Internal():
		return fmt.Errorf("%w: %s belongs to the broker", kerr.InvalidTopicException, t.Name())
	}
	if err := r.mutate(len(t.Partitions()), deleteTopicsStrict); err != nil {
		return err
	}
	if err := s.o.Topics.Delete(t.Name()); err != nil {
		return err
	}
	if err := s.o.Groups.ForgetTopic(t.Name()); err != nil {
		// The topic is gone all the same; offsets of it that stay behind expire.
		s.o.Log.Warn("offsets of a deleted topic stay", "topic", t.Name(), "error", err)
	}
	s.o.Log.Info("topic deleted", "topic", t.Name())
	r.audit(auth.TopicChanged, auth.Delete, auth.Topic, t.Name(), "")
	return nil
}

func deletedTopic(name *string, id topic.ID, err error) kmsg.DeleteTopicsResponseTopic {
	rt := kmsg.NewDeleteTopicsResponseTopic()
	rt.Topic, rt.TopicID, rt.ErrorCode, rt.ErrorMessage = name, id, errorCode(err), errorMessage(err)
	return rt
}
