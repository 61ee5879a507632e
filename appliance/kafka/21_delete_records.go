package kafka

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DeleteRecords, key 21, versions 0-2 (flexible from 2): move the log start offset
// up. Offset -1 means the high watermark. A topic that is only compacted is refused, as
// Kafka does: its records are its state, which __consumer_offsets needs at the next start.
const deleteRecordsKey = 21

func init() {
	register(api{key: deleteRecordsKey, name: "DeleteRecords", needs: "DELETE Topic", min: 0, max: 2, handle: (*Server).deleteRecords})
}

func (s *Server) deleteRecords(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DeleteRecordsRequest), kmsg.NewPtrDeleteRecordsResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, part := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark = part.Partition, -1
			p, err := s.partitionFor(r, auth.Delete, t.Topic, part.Partition, -1)
			if tt := s.o.Topics.Topic(t.Topic); err == nil && tt != nil && !strings.Contains(tt.Config("cleanup.policy"), "delete") {
				err = kerr.PolicyViolation
			}
			if err == nil {
				rp.LowWatermark, err = p.DeleteRecords(part.Offset)
				r.audit(auth.TopicChanged, auth.Delete, auth.Topic, t.Topic, "records")
			}
			if rp.ErrorCode = errorCode(err); err != nil {
				rp.LowWatermark = -1
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
