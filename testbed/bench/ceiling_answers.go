package main

import (
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ceilingVersions are the requests that the clients of the rows send, and the last
// version of each before topics had ids.
var ceilingVersions = []struct {
	key kmsg.Key
	max int16
}{
	{kmsg.Produce, 9}, {kmsg.Fetch, 12}, {kmsg.ListOffsets, 7}, {kmsg.Metadata, 9}, {kmsg.OffsetCommit, 8}, {kmsg.OffsetFetch, 7},
	{kmsg.FindCoordinator, 3}, {kmsg.JoinGroup, 7}, {kmsg.Heartbeat, 4}, {kmsg.LeaveGroup, 4}, {kmsg.SyncGroup, 5},
	{kmsg.ApiVersions, 3}, {kmsg.InitProducerID, 4},
}

// respond is the answer to a request; nil where the client wants none.
func (c *ceiling) respond(req kmsg.Request) (kmsg.Response, error) {
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		return c.produced(req), nil
	case *kmsg.FetchRequest:
		return c.fetch(req), nil
	case *kmsg.ApiVersionsRequest:
		resp := kmsg.NewPtrApiVersionsResponse()
		for _, v := range ceilingVersions {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = int16(v.key), v.max
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		return resp, nil
	case *kmsg.MetadataRequest:
		return c.metadata(req), nil
	case *kmsg.InitProducerIDRequest:
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ProducerID = 1
		return resp, nil
	case *kmsg.ListOffsetsRequest:
		return c.offsets(req), nil
	}
	return c.member(req)
}

func (c *ceiling) produced(req *kmsg.ProduceRequest) kmsg.Response {
	resp := kmsg.NewPtrProduceResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.BaseOffset = p.Partition, c.shelf(t.Topic, p.Partition).put(p.Records, c.keeps)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// address is the only broker.
func (c *ceiling) address() (host string, port int32) {
	host, p, _ := net.SplitHostPort(c.addr())
	n, _ := strconv.Atoi(p)
	return host, int32(n)
}

// metadata says of every topic that it is there.
func (c *ceiling) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	resp := kmsg.NewPtrMetadataResponse()
	b := kmsg.NewMetadataResponseBroker()
	b.Host, b.Port = c.address()
	resp.Brokers = append(resp.Brokers, b)
	for _, t := range req.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic = t.Topic
		for i := range c.partitions {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Replicas, p.ISR = i, []int32{0}, []int32{0}
			rt.Partitions = append(rt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (c *ceiling) offsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrListOffsetsResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset = p.Partition, 0
			if p.Timestamp == -1 {
				_, rp.Offset, _ = c.shelf(t.Topic, p.Partition).get(0, 0)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// member answers a consumer that has its group to itself.
func (c *ceiling) member(req kmsg.Request) (kmsg.Response, error) {
	const id = "only"
	switch req := req.(type) {
	case *kmsg.FindCoordinatorRequest:
		resp := kmsg.NewPtrFindCoordinatorResponse()
		resp.Host, resp.Port = c.address()
		return resp, nil
	case *kmsg.JoinGroupRequest:
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Generation, resp.ProtocolType, resp.LeaderID, resp.MemberID = 1, &req.ProtocolType, id, id
		resp.Protocol = &req.Protocols[0].Name
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID, m.ProtocolMetadata = id, req.Protocols[0].Metadata
		resp.Members = append(resp.Members, m)
		return resp, nil
	case *kmsg.SyncGroupRequest:
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ProtocolType, resp.Protocol = req.ProtocolType, req.Protocol
		resp.MemberAssignment = req.GroupAssignment[0].MemberAssignment
		return resp, nil
	case *kmsg.HeartbeatRequest:
		return kmsg.NewPtrHeartbeatResponse(), nil
	case *kmsg.LeaveGroupRequest:
		return kmsg.NewPtrLeaveGroupResponse(), nil
	case *kmsg.OffsetFetchRequest:
		return uncommitted(req), nil
	case *kmsg.OffsetCommitRequest:
		return committed(req), nil
	}
	return nil, fmt.Errorf("a request of kind %d", req.Key())
}

func uncommitted(req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetFetchResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset = p, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func committed(req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
