package kafka_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
)

// pages walks DescribeTopicPartitions: "a/0-1 b/0" are topics with their first and
// last partition, pages are separated by "|".
func pages(t *testing.T, w *wire, limit int32, names ...string) string {
	t.Helper()
	var out []string
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = limit
	for _, name := range names {
		rt := kmsg.NewDescribeTopicPartitionsRequestTopic()
		rt.Topic = name
		req.Topics = append(req.Topics, rt)
	}
	for range 20 {
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](w, 0, req)
		page := ""
		for _, rt := range resp.Topics {
			if page += " " + *rt.Topic; rt.ErrorCode != 0 {
				page += "!" + kerr.TypedErrorForCode(rt.ErrorCode).Message
				continue
			}
			page += fmt.Sprintf("/%d-%d", rt.Partitions[0].Partition, rt.Partitions[len(rt.Partitions)-1].Partition)
			for _, p := range rt.Partitions {
				if p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil || p.LeaderID != 1 || p.LeaderEpoch != testEpoch {
					t.Errorf("%s: %+v", *rt.Topic, p)
				}
			}
			if rt.TopicID == ([16]byte{}) {
				t.Errorf("%s has no id", *rt.Topic)
			}
		}
		out = append(out, strings.TrimSpace(page))
		if resp.NextCursor == nil {
			return strings.Join(out, "|")
		}
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic, c.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		req.Cursor = &c
	}
	t.Fatalf("no end: %v", out)
	return ""
}

func TestDescribeTopicPartitions(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "b", 3)
	create(t, topics, "a", 2)
	create(t, topics, "c", 1)
	w := pipe(t, s)
	for _, tt := range []struct {
		limit int32
		names []string
		want  string
	}{
		{2000, nil, "a/0-1 b/0-2 c/0-0"},
		{0, nil, "a/0-1 b/0-2 c/0-0"},
		{2, nil, "a/0-1|b/0-1|b/2-2 c/0-0"},
		{1, []string{"a"}, "a/0-0|a/1-1"},
		{4, []string{"c", "b", "nobody", "b", "x/y"}, "b/0-2 c/0-0|nobody!UNKNOWN_TOPIC_OR_PARTITION x/y!INVALID_TOPIC_EXCEPTION"},
	} {
		if got := pages(t, w, tt.limit, tt.names...); got != tt.want {
			t.Errorf("limit %d, %v: %s, want %s", tt.limit, tt.names, got, tt.want)
		}
	}
}

func TestDescribeTopicPartitionsIsBounded(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "many", 2001)
	if got, want := pages(t, pipe(t, s), 1<<30), "many/0-1999|many/2000-2000"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestListConfigResources(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	for _, tt := range []struct {
		version int16
		types   []int8
		want    string
	}{
		{0, nil, "0 "}, {1, nil, "0 2/t 4/1 "}, {1, []int8{4}, "0 4/1 "}, {1, []int8{16, 8, 32}, "0 "}, {1, []int8{2, 99}, "35 "},
	} {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.ResourceTypes = tt.types
		resp := ask[*kmsg.ListConfigResourcesResponse](w, tt.version, req)
		got := fmt.Sprint(resp.ErrorCode, " ")
		for _, c := range resp.ConfigResources {
			got += fmt.Sprintf("%d/%s ", c.Type, c.Name)
		}
		if got != tt.want {
			t.Errorf("v%d of types %v: %q, want %q", tt.version, tt.types, got, tt.want)
		}
	}
}

// Tools take error 84 for success: there is nothing to elect.
func TestElectLeaders(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrElectLeadersRequest()
		if all := ask[*kmsg.ElectLeadersResponse](w, v, req); all.ErrorCode != 0 || len(all.Topics) != 0 {
			t.Errorf("v%d of all: %+v", v, all)
		}
		rt := kmsg.NewElectLeadersRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0, 1}
		req.Topics = append(req.Topics, rt)
		ps := ask[*kmsg.ElectLeadersResponse](w, v, req).Topics[0].Partitions
		wantCode(t, "t-0", ps[0].ErrorCode, kerr.ElectionNotNeeded)
		wantCode(t, "t-1", ps[1].ErrorCode, kerr.UnknownTopicOrPartition)
	}
}
