package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/topic"
)

// DescribeLogDirs, key 35, versions 1-4 (flexible from 2): the one log directory with
// the size of each partition and, from 4 (KIP-827), the room on its disk. Consoles
// show topic sizes from it. A topic or partition that is not there is left out, as
// Kafka does. Once the storage has failed the directory carries KAFKA_STORAGE_ERROR.
const describeLogDirsKey = 35

func init() {
	register(api{key: describeLogDirsKey, name: "DescribeLogDirs", needs: "DESCRIBE Cluster", min: 1, max: 4, handle: (*Server).describeLogDirs,
		notes: "one log directory"})
}

func (s *Server) describeLogDirs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeLogDirsRequest), kmsg.NewPtrDescribeLogDirsResponse()
	if err := r.authorizeCluster(auth.Describe); err != nil {
		resp.ErrorCode = errorCode(err) // from version 3; before there are no directories
		return resp
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = s.o.LogDir
	if s.o.Topics.Err() != nil {
		dir.ErrorCode = kerr.KafkaStorageError.Code
	}
	if free, total := s.o.Topics.Disk(); total > 0 {
		dir.TotalBytes, dir.UsableBytes = total, free
	}
	wanted := map[string][]int32{}
	for _, t := range req.Topics {
		wanted[t.Topic] = append(wanted[t.Topic], t.Partitions...)
	}
	for _, t := range s.o.Topics.Topics() {
		partitions, named := wanted[t.Name()]
		if req.Topics != nil && !named {
			continue
		}
		slices.Sort(partitions)
		sizes := partitionSizes(t, func(p int32) bool {
			_, ok := slices.BinarySearch(partitions, p)
			return ok || req.Topics == nil
		})
		if len(sizes.Partitions) > 0 {
			dir.Topics = append(dir.Topics, sizes)
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}

func partitionSizes(t *topic.Topic, wanted func(partition int32) bool) kmsg.DescribeLogDirsResponseDirTopic {
	rt := kmsg.NewDescribeLogDirsResponseDirTopic()
	rt.Topic = t.Name()
	for i, p := range t.Partitions() {
		if wanted(int32(i)) {
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition, rp.Size = int32(i), p.Size()
			rt.Partitions = append(rt.Partitions, rp)
		}
	}
	return rt
}
