package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
)

// heartbeat is a join at epoch 0, and a plain sign of life otherwise.
func heartbeat(id, member string, epoch int32) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = id, member, epoch, -1
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 30_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return req
}

func TestConsumerGroupAPIs(t *testing.T) {
	w, topics := groupBroker(t)
	id := topics.Topic("t").ID()
	beat := func(v int16, req *kmsg.ConsumerGroupHeartbeatRequest, want *kerr.Error) *kmsg.ConsumerGroupHeartbeatResponse {
		t.Helper()
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](w, v, req)
		wantCode(t, "ConsumerGroupHeartbeat", resp.ErrorCode, want)
		return resp
	}
	joined := beat(1, heartbeat("g", "m", 0), nil)
	if joined.MemberEpoch != 1 || joined.HeartbeatIntervalMillis != 5000 || joined.Assignment == nil || len(joined.Assignment.Topics) != 1 ||
		joined.Assignment.Topics[0].TopicID != id || len(joined.Assignment.Topics[0].Partitions) != 2 {
		t.Errorf("joined: %+v", joined)
	}
	if again := beat(1, heartbeat("g", "m", 1), nil); again.Assignment != nil || again.MemberEpoch != 1 {
		t.Errorf("again: %+v", again)
	}
	beat(1, heartbeat("g", "m", 7), kerr.FencedMemberEpoch)
	beat(1, heartbeat("g", "x", 1), kerr.UnknownMemberID)
	beat(1, heartbeat("nobody", "m", 1), kerr.GroupIDNotFound)
	beat(1, heartbeat("g", "", 0), kerr.InvalidRequest)
	regex := heartbeat("g", "r", 0)
	regex.SubscribedTopicRegex = kmsg.StringPtr("(")
	beat(1, regex, kerr.InvalidRegularExpression)
	assignor := heartbeat("g", "r", 0)
	assignor.ServerAssignor = kmsg.StringPtr("sticky")
	beat(1, assignor, kerr.UnsupportedAssignor)
	if made := beat(0, heartbeat("v0", "", 0), nil); made.MemberID == nil || *made.MemberID == "" {
		t.Error("version 0 is not given a member id")
	}
	testConsumerOffsets(t, w, id)
	testConsumerAdmin(t, w)
}

// Offsets of a group of the consumer protocol are its members', each at its epoch.
func testConsumerOffsets(t *testing.T, w *wire, id topic.ID) {
	commit := func(member string, epoch int32) int16 {
		req := commitRequest("g", member, epoch, 0)
		return ask[*kmsg.OffsetCommitResponse](w, 9, req).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "commit", commit("m", 1), nil)
	wantCode(t, "commit of another epoch", commit("m", 2), kerr.StaleMemberEpoch)
	wantCode(t, "commit of nobody", commit("x", 1), kerr.UnknownMemberID)
	wantCode(t, "commit from outside", commit("", -1), kerr.UnknownMemberID)
	fetch := func(member *string, epoch int32) kmsg.OffsetFetchResponseGroup {
		req := kmsg.NewPtrOffsetFetchRequest()
		rg := kmsg.NewOffsetFetchRequestGroup()
		rg.Group, rg.MemberID, rg.MemberEpoch = "g", member, epoch
		req.Groups = append(req.Groups, rg)
		return ask[*kmsg.OffsetFetchResponse](w, 9, req).Groups[0]
	}
	if got := fetch(kmsg.StringPtr("m"), 1); got.ErrorCode != 0 || len(got.Topics) != 1 || got.Topics[0].Partitions[0].Offset != 100 {
		t.Errorf("fetch: %+v", got)
	}
	wantCode(t, "fetch from outside", fetch(nil, -1).ErrorCode, nil)
	wantCode(t, "fetch of another epoch", fetch(kmsg.StringPtr("m"), 9).ErrorCode, kerr.StaleMemberEpoch)
}

func testConsumerAdmin(t *testing.T, w *wire) {
	for v := int16(0); v <= 1; v++ {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{"g", "nobody"}
		gs := ask[*kmsg.ConsumerGroupDescribeResponse](w, v, req).Groups
		wantCode(t, "describe of no group", gs[1].ErrorCode, kerr.GroupIDNotFound)
		if g := gs[0]; g.ErrorCode != 0 || g.State != "Stable" || g.Epoch != 1 || g.AssignmentEpoch != 1 || g.AssignorName != "uniform" || len(g.Members) != 1 ||
			g.Members[0].MemberID != "m" || g.Members[0].Assignment.TopicPartitions[0].Topic != "t" || v == 1 && g.Members[0].MemberType != 1 {
			t.Errorf("describe: %+v", g)
		}
	}
	classic := kmsg.NewPtrDescribeGroupsRequest()
	classic.Groups = []string{"g"}
	wantCode(t, "DescribeGroups 6", ask[*kmsg.DescribeGroupsResponse](w, 6, classic).Groups[0].ErrorCode, kerr.GroupIDNotFound)
	if g := ask[*kmsg.DescribeGroupsResponse](w, 5, classic).Groups[0]; g.ErrorCode != 0 || g.State != "Dead" {
		t.Errorf("DescribeGroups 5: %+v", g)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.TypesFilter = []string{"Consumer"}
	if got := ask[*kmsg.ListGroupsResponse](w, 5, list).Groups; len(got) != 2 || got[0].GroupType != "consumer" || got[0].ProtocolType != "consumer" {
		t.Errorf("ListGroups: %+v", got)
	}
	testClassicBesideConsumers(t, w)
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Groups = []string{"g"}
	wantCode(t, "DeleteGroups", ask[*kmsg.DeleteGroupsResponse](w, 2, remove).Groups[0].ErrorCode, kerr.NonEmptyGroup)
	left := ask[*kmsg.ConsumerGroupHeartbeatResponse](w, 1, heartbeat("g", "m", -1))
	if wantCode(t, "leave", left.ErrorCode, nil); left.MemberEpoch != -1 {
		t.Errorf("left: %+v", left)
	}
	wantCode(t, "DeleteGroups", ask[*kmsg.DeleteGroupsResponse](w, 2, remove).Groups[0].ErrorCode, nil)
	wantCode(t, "DeleteGroups again", ask[*kmsg.DeleteGroupsResponse](w, 2, remove).Groups[0].ErrorCode, kerr.GroupIDNotFound)
}

// A classic member of a group of the consumer protocol is answered at once, and assigned
// by the broker.
func testClassicBesideConsumers(t *testing.T, w *wire) {
	required := ask[*kmsg.JoinGroupResponse](w, 9, joinRequest("g", ""))
	wantCode(t, "a classic member without an id", required.ErrorCode, kerr.MemberIDRequired)
	joined := ask[*kmsg.JoinGroupResponse](w, 9, joinRequest("g", required.MemberID))
	if wantCode(t, "a classic member", joined.ErrorCode, nil); joined.LeaderID != "" || len(joined.Members) != 0 || *joined.Protocol != "range" || joined.Generation < 1 {
		t.Errorf("joined: %+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", joined.MemberID, joined.Generation
	synced := ask[*kmsg.SyncGroupResponse](w, 5, sync)
	wantCode(t, "SyncGroup", synced.ErrorCode, nil)
	var v kmsg.ConsumerMemberAssignment
	if err := v.ReadFrom(synced.MemberAssignment); err != nil {
		t.Errorf("the assignment: %v", err)
	}
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Groups = []string{"g"}
	types := map[int8]int{}
	for _, m := range ask[*kmsg.ConsumerGroupDescribeResponse](w, 1, describe).Groups[0].Members {
		types[m.MemberType]++
	}
	if types[0] != 1 || types[1] != 1 {
		t.Errorf("members by type: %v", types)
	}
	leave, m := kmsg.NewPtrLeaveGroupRequest(), kmsg.NewLeaveGroupRequestMember()
	m.MemberID = joined.MemberID
	leave.Group, leave.Members = "g", append(leave.Members, m)
	wantCode(t, "LeaveGroup", ask[*kmsg.LeaveGroupResponse](w, 5, leave).Members[0].ErrorCode, nil)
}
