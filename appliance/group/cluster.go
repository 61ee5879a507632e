package group

import "github.com/weirmq/weir/appliance/topic"

// Cluster is the topics as a group sees them.
type Cluster interface {
	// Changes grows when anything below changes; it is greater than 0.
	Changes() uint64
	// Topic is a topic's identity and how many partitions it has.
	Topic(name string) (id TopicID, partitions int32, ok bool)
	// Name is the name of a topic.
	Name(id TopicID) (name string, ok bool)
	// Names lists the topics that a regular expression may match.
	Names() []string
}

// noCluster has no topics.
type noCluster struct{}

func (noCluster) Changes() uint64                     { return 1 }
func (noCluster) Topic(string) (TopicID, int32, bool) { return TopicID{}, 0, false }
func (noCluster) Name(TopicID) (string, bool)         { return "", false }
func (noCluster) Names() []string                     { return nil }

// TopicsOf lets members subscribe to the topics of s. Nobody means internal topics by
// an expression.
func TopicsOf(s *topic.Set) Cluster { return topicSet{s} }

type topicSet struct{ *topic.Set }

func (s topicSet) Changes() uint64 { return s.Set.Changes() + 1 }

func (s topicSet) Topic(name string) (id TopicID, partitions int32, ok bool) {
	t := s.Set.Topic(name)
	if t == nil {
		return id, 0, false
	}
	return t.ID(), int32(len(t.Partitions())), true
}

func (s topicSet) Name(id TopicID) (name string, ok bool) {
	if t := s.ByID(id); t != nil {
		return t.Name(), true
	}
	return "", false
}

func (s topicSet) Names() (names []string) {
	for _, t := range s.Set.Topics() {
		if !t.Internal() {
			names = append(names, t.Name())
		}
	}
	return names
}
