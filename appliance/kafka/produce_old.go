package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceTooOld answers versions 0-2, whose message formats are not taken.
func produceTooOld(r *request, body []byte) (reply, error) {
	req, resp := kmsg.NewPtrProduceRequest(), kmsg.NewPtrProduceResponse()
	req.SetVersion(r.version)
	if r.version < 0 || r.version >= produceMin {
		return nil, errVersion
	}
	if err := r.conn.s.decode(req, body); err != nil {
		return nil, fmt.Errorf("%w: Produce v%d: %w", errMalformed, r.version, err)
	}
	if req.Acks == 0 {
		return nil, errVersion
	}
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, part := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = part.Partition, kerr.UnsupportedVersion.Code, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	resp.SetVersion(r.version)
	return encode(r.correlationID, resp), nil
}
