package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// ListOffsets, key 2, versions 1-11 (flexible from 6): the offset at a time or at one
// of the ends.
//
// Version 0 answers a list of segment offsets and is not offered. Version 7 adds -3,
// the record with the greatest timestamp, which Kafka's own tools ask for; 8 adds
// -4, the earliest offset on local disk, which is the earliest here. 9 adds -5 and 11
// adds -6, which ask how far tiered storage is: as in Kafka without it, offset -1. The
// timeout of 10 is for remote storage too. For who reads what
// is committed the log ends at the last stable offset. No record at or after a time
// is offset -1 without an error.
const listOffsetsKey = 2

const (
	timestampLatest        = -1
	timestampEarliest      = -2
	timestampMax           = -3
	timestampEarliestLocal = -4
	timestampLatestTiered  = -5
	timestampPendingUpload = -6
)

func init() {
	register(api{key: listOffsetsKey, name: "ListOffsets", needs: "DESCRIBE Topic", min: 1, max: 11, handle: (*Server).listOffsets, maxFrame: dataFrame,
		notes: "earliest, latest, by time, greatest timestamp (7), earliest local (8); nothing is tiered (9, 11)"})
}

func (s *Server) listOffsets(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ListOffsetsRequest), kmsg.NewPtrListOffsetsResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, part := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset, rp.Timestamp, rp.LeaderEpoch = part.Partition, -1, -1, -1
			p, err := s.partitionFor(r, auth.Describe, t.Topic, part.Partition, part.CurrentLeaderEpoch)
			if err == nil {
				rp.LeaderEpoch = p.LeaderEpoch()
				rp.Offset, rp.Timestamp, err = offsetAt(p, part.Timestamp, r.version, req.IsolationLevel == readCommitted)
			}
			rp.ErrorCode = errorCode(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// readCommitted is an isolation level.
const readCommitted = 1

func offsetAt(p *topic.Partition, ts int64, version int16, committed bool) (offset, timestamp int64, err error) {
	end := p.HighWatermark()
	if committed {
		end = p.LastStableOffset()
	}
	switch {
	case ts == timestampLatest:
		return end, -1, nil
	case ts == timestampEarliest, ts == timestampEarliestLocal && version >= 8:
		return p.LogStartOffset(), -1, nil
	case ts == timestampMax && version >= 7:
		offset, timestamp, err = p.MaxTimestamp()
	case ts == timestampLatestTiered && version >= 9, ts == timestampPendingUpload && version >= 11:
		return -1, -1, nil
	case ts >= 0:
		offset, timestamp, err = p.OffsetForTime(ts)
	default:
		return -1, -1, fmt.Errorf("%w: timestamp %d has no meaning in ListOffsets v%d", kerr.UnsupportedVersion, ts, version)
	}
	if committed && offset >= end {
		return -1, -1, err
	}
	return offset, timestamp, err
}

// partitionFor is partition for a client that may do op to the topic.
func (s *Server) partitionFor(r *request, op auth.Operation, name string, id, epoch int32) (*topic.Partition, error) {
	if err := r.authorize(op, auth.Topic, name); err != nil {
		return nil, err
	}
	return s.partition(name, id, epoch)
}

// partition finds a partition for a client that believes in a leader epoch, or -1.
func (s *Server) partition(name string, id, epoch int32) (*topic.Partition, error) {
	p, err := s.o.Topics.Partition(record.TopicPartition{Topic: name, Partition: id})
	if err != nil {
		return nil, err
	}
	return p, checkEpoch(p, epoch)
}
