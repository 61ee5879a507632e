package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

// newGroupBroker is a server with groups over a real log, and a topic "t" of two partitions.
func newGroupBroker(t testing.TB) *wire {
	t.Helper()
	w, _ := groupBroker(t)
	return w
}

func groupBroker(t testing.TB) (*wire, *topic.Set) {
	t.Helper()
	topics := openTopics(t)
	p, err := group.EnsureTopic(topics)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := group.Open(group.Options{Log: topics, Partition: p, Cluster: group.TopicsOf(topics), Limits: group.Limits{InitialRebalanceDelay: -1, MinSessionTimeout: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { groups.Close() })
	s, _ := newBroker(t, kafka.Options{Topics: topics, Groups: groups})
	create(t, topics, "t", 2)
	return pipe(t, s), topics
}

func wantCode(t testing.TB, what string, code int16, want *kerr.Error) {
	t.Helper()
	w := int16(0)
	if want != nil {
		w = want.Code
	}
	if code != w {
		t.Errorf("%s: error %d, want %d", what, code, w)
	}
}

func joinRequest(group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10000, 10000
	p := kmsg.NewJoinGroupRequestProtocol()
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{"t"}
	p.Name, p.Metadata = "range", meta.AppendTo(nil)
	req.Protocols = append(req.Protocols, p)
	return req
}

func commitRequest(group, member string, generation int32, partitions ...int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = group, member, generation
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	for _, p := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = p, int64(100+p), kmsg.StringPtr("m")
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// offsetsOf is the offsets an OffsetFetch of any version answers, "t/0=100 …".
func offsetsOf(t testing.TB, w *wire, version int16, id string, all bool) (out string) {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	if version < 8 {
		req.Group = id
		if !all {
			rt := kmsg.NewOffsetFetchRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 1}
			req.Topics = append(req.Topics, rt)
		}
		resp := ask[*kmsg.OffsetFetchResponse](w, version, req)
		wantCode(t, "OffsetFetch", resp.ErrorCode, nil)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out += fmt.Sprintf("%s/%d=%d,%d ", t.Topic, p.Partition, p.Offset, p.ErrorCode)
			}
		}
		return out
	}
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = id
	if !all {
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = "t", []int32{0, 1}
		rg.Topics = append(rg.Topics, rt)
	}
	req.Groups = append(req.Groups, rg)
	resp := ask[*kmsg.OffsetFetchResponse](w, version, req)
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			out += fmt.Sprintf("%s/%d=%d,%d ", t.Topic, p.Partition, p.Offset, p.ErrorCode)
		}
	}
	return out
}

func TestGroupAPIsEveryVersion(t *testing.T) {
	versions := map[int16]kafka.TableRow{}
	for _, r := range kafka.Table() {
		versions[r.Key] = r
	}
	w := newGroupBroker(t)
	// at is version i of an API, or its nearest.
	at := func(key, i int16) int16 { return min(max(versions[key].Min, i), versions[key].Max) }
	for i := range int16(10) {
		id := fmt.Sprint("g", i)
		if got, want := offsetsOf(t, w, at(9, i), id, false), "t/0=-1,0 t/1=-1,0 "; got != want {
			t.Errorf("v%d: a group that never committed: %s", i, got)
		}
		join := ask[*kmsg.JoinGroupResponse](w, at(11, i), joinRequest(id, ""))
		if i >= 4 {
			wantCode(t, "first JoinGroup", join.ErrorCode, kerr.MemberIDRequired)
			join = ask[*kmsg.JoinGroupResponse](w, at(11, i), joinRequest(id, join.MemberID))
		}
		wantCode(t, "JoinGroup", join.ErrorCode, nil)
		if join.Generation != 1 || join.LeaderID != join.MemberID || len(join.Members) != 1 || *join.Protocol != "range" {
			t.Fatalf("v%d: %+v", i, join)
		}
		member := join.MemberID

		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation, sync.ProtocolType, sync.Protocol = id, member, 1, kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = member, []byte("all")
		sync.GroupAssignment = append(sync.GroupAssignment, a)
		synced := ask[*kmsg.SyncGroupResponse](w, at(14, i), sync)
		wantCode(t, "SyncGroup", synced.ErrorCode, nil)
		if string(synced.MemberAssignment) != "all" {
			t.Errorf("v%d: assignment %q", i, synced.MemberAssignment)
		}

		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.MemberID, hb.Generation = id, member, 1
		wantCode(t, "Heartbeat", ask[*kmsg.HeartbeatResponse](w, at(12, i), hb).ErrorCode, nil)
		hb.Generation = 2
		wantCode(t, "Heartbeat of another generation", ask[*kmsg.HeartbeatResponse](w, at(12, i), hb).ErrorCode, kerr.IllegalGeneration)

		commit := ask[*kmsg.OffsetCommitResponse](w, at(8, i), commitRequest(id, member, 1, 0, 7, 1))
		for k, want := range []*kerr.Error{nil, kerr.UnknownTopicOrPartition, nil} {
			wantCode(t, "OffsetCommit", commit.Topics[0].Partitions[k].ErrorCode, want)
		}
		commit = ask[*kmsg.OffsetCommitResponse](w, at(8, i), commitRequest(id, "", -1, 0))
		wantCode(t, "OffsetCommit of a stranger", commit.Topics[0].Partitions[0].ErrorCode, kerr.UnknownMemberID)
		for _, all := range []bool{false, at(9, i) >= 2} {
			if got, want := offsetsOf(t, w, at(9, i), id, all), "t/0=100,0 t/1=101,0 "; got != want {
				t.Errorf("v%d: fetched %s, want %s", i, got, want)
			}
		}

		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Groups, describe.IncludeAuthorizedOperations = []string{id, "nobody"}, true
		described := ask[*kmsg.DescribeGroupsResponse](w, at(15, i), describe).Groups
		if d := described[0]; d.State != "Stable" || d.Protocol != "range" || len(d.Members) != 1 || string(d.Members[0].MemberAssignment) != "all" || d.Members[0].ClientID != "wire-test" {
			t.Errorf("v%d: %+v", i, d)
		}
		wantCode(t, "DescribeGroups", described[0].ErrorCode, nil)
		if at(15, i) < 6 {
			wantCode(t, "DescribeGroups of none", described[1].ErrorCode, nil)
		} else {
			wantCode(t, "DescribeGroups of none", described[1].ErrorCode, kerr.GroupIDNotFound)
		}
		if described[1].State != "Dead" {
			t.Errorf("a group that does not exist is %s", described[1].State)
		}

		list := kmsg.NewPtrListGroupsRequest()
		list.StatesFilter, list.TypesFilter = []string{"stable"}, []string{"Classic"}
		if l := ask[*kmsg.ListGroupsResponse](w, at(16, i), list).Groups; len(l) != 1 || l[0].Group != id || l[0].ProtocolType != "consumer" {
			t.Errorf("v%d: %+v", i, l)
		}
		if at(16, i) >= 4 {
			list.StatesFilter = []string{"Empty"}
			if l := ask[*kmsg.ListGroupsResponse](w, at(16, i), list).Groups; len(l) != 0 {
				t.Errorf("v%d: %+v", i, l)
			}
		}

		del := kmsg.NewPtrOffsetDeleteRequest()
		del.Group = id
		dt := kmsg.NewOffsetDeleteRequestTopic()
		dp := kmsg.NewOffsetDeleteRequestTopicPartition()
		dt.Topic, dt.Partitions = "t", append(dt.Partitions, dp)
		del.Topics = append(del.Topics, dt)
		wantCode(t, "OffsetDelete of a subscribed topic", ask[*kmsg.OffsetDeleteResponse](w, 0, del).Topics[0].Partitions[0].ErrorCode, kerr.GroupSubscribedToTopic)

		remove := kmsg.NewPtrDeleteGroupsRequest()
		remove.Groups = []string{id, "nobody"}
		removed := ask[*kmsg.DeleteGroupsResponse](w, at(42, i), remove).Groups
		wantCode(t, "DeleteGroups of a live group", removed[0].ErrorCode, kerr.NonEmptyGroup)
		wantCode(t, "DeleteGroups of none", removed[1].ErrorCode, kerr.GroupIDNotFound)

		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group, leave.MemberID = id, member
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID = member
		leave.Members = append(leave.Members, lm)
		left := ask[*kmsg.LeaveGroupResponse](w, at(13, i), leave)
		wantCode(t, "LeaveGroup", left.ErrorCode, nil)
		if at(13, i) >= 3 {
			wantCode(t, "LeaveGroup of the member", left.Members[0].ErrorCode, nil)
		}
		if left = ask[*kmsg.LeaveGroupResponse](w, at(13, i), leave); at(13, i) < 3 {
			wantCode(t, "LeaveGroup again", left.ErrorCode, kerr.UnknownMemberID)
		}

		wantCode(t, "OffsetDelete", ask[*kmsg.OffsetDeleteResponse](w, 0, del).Topics[0].Partitions[0].ErrorCode, nil)
		if got, want := offsetsOf(t, w, at(9, i), id, false), "t/0=-1,0 t/1=101,0 "; got != want {
			t.Errorf("v%d: after OffsetDelete %s", i, got)
		}
		removed = ask[*kmsg.DeleteGroupsResponse](w, at(42, i), remove).Groups
		wantCode(t, "DeleteGroups", removed[0].ErrorCode, nil)
		commit = ask[*kmsg.OffsetCommitResponse](w, at(8, i), commitRequest(id, "", -1, 0))
		wantCode(t, "OffsetCommit of a consumer without a group", commit.Topics[0].Partitions[0].ErrorCode, nil)
		removed = ask[*kmsg.DeleteGroupsResponse](w, at(42, i), remove).Groups
		wantCode(t, "DeleteGroups", removed[0].ErrorCode, nil)
	}
}

func TestDeletedTopicTakesItsOffsets(t *testing.T) {
	w := newGroupBroker(t)
	ask[*kmsg.OffsetCommitResponse](w, 9, commitRequest("g", "", -1, 0, 1))
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames = []string{"t"}
	wantCode(t, "DeleteTopics", ask[*kmsg.DeleteTopicsResponse](w, 4, del).Topics[0].ErrorCode, nil)
	if got, want := offsetsOf(t, w, 9, "g", false), "t/0=-1,0 t/1=-1,0 "; got != want {
		t.Errorf("after the topic's deletion %s", got)
	}
}

func TestNoCoordinator(t *testing.T) {
	topics := openTopics(t)
	s, _ := newBroker(t, kafka.Options{Topics: topics})
	create(t, topics, "t", 2)
	w := pipe(t, s)
	wantCode(t, "JoinGroup", ask[*kmsg.JoinGroupResponse](w, 9, joinRequest("g", "")).ErrorCode, kerr.CoordinatorNotAvailable)
	wantCode(t, "OffsetCommit", ask[*kmsg.OffsetCommitResponse](w, 9, commitRequest("g", "", -1, 0)).Topics[0].Partitions[0].ErrorCode, kerr.CoordinatorNotAvailable)
	if got, want := offsetsOf(t, w, 1, "g", false), fmt.Sprintf("t/0=-1,%d t/1=-1,%[1]d ", kerr.CoordinatorNotAvailable.Code); got != want {
		t.Errorf("OffsetFetch %s, want %s", got, want)
	}
	list := ask[*kmsg.ListGroupsResponse](w, 5, kmsg.NewPtrListGroupsRequest())
	wantCode(t, "ListGroups", list.ErrorCode, kerr.CoordinatorNotAvailable)
}

func TestOffsetsTopicCannotBeCut(t *testing.T) {
	w := newGroupBroker(t)
	ask[*kmsg.OffsetCommitResponse](w, 9, commitRequest("g", "", -1, 0, 1))
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = -1
	rt.Topic, rt.Partitions = group.TopicName, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	wantCode(t, "DeleteRecords", ask[*kmsg.DeleteRecordsResponse](w, 2, req).Topics[0].Partitions[0].ErrorCode, kerr.PolicyViolation)
}
