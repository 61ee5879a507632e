package kafka

import (
	"cmp"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Metadata, key 3, versions 0-13 (flexible from 9): the broker and the topics.
//
// From 10 the answer has topic ids (KIP-516), never zero and the same for as long as
// the topic lives; Fetch, Produce and the offset APIs then take them: a high Fetch
// with zero ids breaks franz-go and librdkafka. From 12 topics are asked for by id,
// too; such a topic is never created on demand. 13 has an error for the whole.
//
// The broker's address is the one the client has dialled, unless advertised.listeners
// says otherwise. The controller is a live broker, this one: Java's admin client and
// kafkajs send CreateTopics there. The leader is always this broker, never -1, which
// leaves librdkafka stuck even when it is for a moment. The leader epoch only grows:
// librdkafka and Java ignore metadata with a lower one than they have seen.
//
// Topics are created on demand when auto.create.topics.enable and the client allow
// it (from 4; before, clients cannot say no). They exist when the answer is sent.
const metadataKey = 3

func init() {
	register(api{key: metadataKey, name: "Metadata", needs: "DESCRIBE Topic; CREATE Topic or Cluster to create", min: 0, max: 13, handle: (*Server).metadata, maxFrame: dataFrame,
		notes: "auto-creates topics; topic ids (10), also to ask by (12); answers with the address the client dialled unless advertised.listeners is set"})
}

func (s *Server) metadata(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.MetadataRequest), kmsg.NewPtrMetadataResponse()
	host, port := s.address(r)
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID, broker.Host, broker.Port = nodeID, host, port
	resp.Brokers = append(resp.Brokers, broker)
	resp.ClusterID, resp.ControllerID = &s.o.ClusterID, nodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = r.conn.login.session.Operations(auth.Cluster, auth.ClusterName)
	}
	if req.Topics == nil || r.version == 0 && len(req.Topics) == 0 {
		for _, t := range s.o.Topics.Topics() {
			if r.may(auth.Describe, auth.Topic, t.Name()) { // what a client may not see is not there
				resp.Topics = append(resp.Topics, describeTopic(r, t, req))
			}
		}
		return resp
	}
	create := !s.o.NoAutoCreateTopics && (req.AllowAutoTopicCreation || r.version < 4)
	created := 0
	for _, want := range req.Topics {
		if want.Topic == nil || want.TopicID != (topic.ID{}) {
			resp.Topics = append(resp.Topics, s.describeByID(r, &want, req))
			continue
		}
		t, err := s.o.Topics.Topic(*want.Topic), r.authorize(auth.Describe, auth.Topic, *want.Topic)
		if err == nil && t == nil && create {
			err = r.authorizeCreate(*want.Topic)
		}
		if err != nil {
		} else if t == nil && create {
			if created++; created > s.o.MaxAutoCreate {
				err = kerr.LeaderNotAvailable
			} else {
				t, err = s.autoCreate(r, *want.Topic)
			}
		} else if t == nil {
			err = record.ErrUnknownTopicOrPartition
		}
		if err != nil {
			resp.Topics = append(resp.Topics, unknownTopic(*want.Topic, err))
			continue
		}
		resp.Topics = append(resp.Topics, describeTopic(r, t, req))
	}
	return resp
}

// autoCreate counts the topic against controller_mutation_rate, as one asked for by
// CreateTopics; who owes is to ask again when the silence is over, for the error of
// KIP-599 is none that Metadata has.
func (s *Server) autoCreate(r *request, name string) (*topic.Topic, error) {
	if err := topic.CheckName(name); err != nil {
		return nil, fmt.Errorf("create topic on demand: %w", err)
	}
	if r.mutate(int(s.o.DefaultPartitions), 0) != nil {
		return nil, kerr.LeaderNotAvailable
	}
	t, err := s.o.Topics.Ensure(name, topic.Spec{})
	if err != nil {
		return nil, fmt.Errorf("create topic on demand: %w", err)
	}
	s.logTopic("topic created on demand", t)
	return t, nil
}

// metadataIDMin is where a topic can be asked for by its id.
const metadataIDMin = 12

// describeByID answers for a topic that is not asked for by name alone.
func (s *Server) describeByID(r *request, want *kmsg.MetadataRequestTopic, req *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID = want.Topic, want.TopicID
	switch t := s.o.Topics.ByID(want.TopicID); {
	case want.TopicID == topic.ID{} || req.Version < metadataIDMin:
		if rt.ErrorCode = kerr.InvalidRequest.Code; rt.Topic == nil && req.Version < metadataIDMin {
			rt.Topic = new(string) // it cannot be null yet
		}
	case t == nil:
		rt.Topic, rt.ErrorCode = nil, kerr.UnknownTopicID.Code
	default:
		err := r.authorize(auth.Describe, auth.Topic, t.Name())
		if err == nil {
			return describeTopic(r, t, req)
		}
		rt.Topic, rt.ErrorCode = nil, errorCode(err) // nor is the name told
	}
	return rt
}

func unknownTopic(name string, err error) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.ErrorCode = &name, errorCode(err)
	return rt
}

func describeTopic(r *request, t *topic.Topic, req *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = kmsg.StringPtr(t.Name()), t.ID(), t.Internal()
	if req.IncludeTopicAuthorizedOperations {
		rt.AuthorizedOperations = r.conn.login.session.Operations(auth.Topic, t.Name())
	}
	replicas := []int32{nodeID}
	for i, p := range t.Partitions() {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch = int32(i), nodeID, p.LeaderEpoch()
		rp.Replicas, rp.ISR, rp.OfflineReplicas = replicas, replicas, []int32{}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// address is where the client is to find this broker.
func (s *Server) address(r *request) (host string, port int32) {
	if advertised := cmp.Or(r.conn.login.sec.Advertised, s.o.AdvertisedListener); advertised != "" {
		host, port, _ = splitListener(advertised) // it was checked
		return host, port
	}
	host, p, err := net.SplitHostPort(r.localAddr().String())
	if err != nil {
		return r.localAddr().String(), 0 // not a TCP connection, so a test's
	}
	if name := dialled(r.conn.nc); name != "" {
		host = name // which the certificate bears; an address it may not
	}
	n, _ := strconv.Atoi(p)
	return host, int32(n)
}

func joinHostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
