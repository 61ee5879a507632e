package kafka

import (
	"cmp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
)

// ElectLeaders, key 43, versions 0-2 (flexible from 2): every partition has its only
// replica for its leader, so the answer is ELECTION_NOT_NEEDED (84), which tools take
// for success. Who asks for all partitions is told of those that changed: none.
const electLeadersKey = 43

func init() {
	register(api{key: electLeadersKey, name: "ElectLeaders", needs: "ALTER Cluster", min: 0, max: 2, handle: (*Server).electLeaders,
		notes: "ELECTION_NOT_NEEDED: one replica leads"})
}

func (s *Server) electLeaders(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ElectLeadersRequest), kmsg.NewPtrElectLeadersResponse()
	refused := r.authorizeCluster(auth.Alter)
	resp.ErrorCode = errorCode(refused) // from version 1; before there is no place for it
	for _, t := range req.Topics {
		rt := kmsg.NewElectLeadersResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewElectLeadersResponseTopicPartition()
			var err error = kerr.ElectionNotNeeded
			if _, unknown := s.o.Topics.Partition(record.TopicPartition{Topic: t.Topic, Partition: p}); unknown != nil {
				err = unknown
			}
			err = cmp.Or(refused, err)
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p, errorCode(err), errorMessage(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
