package kafka_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// reader is a client's half of a fetch session.
type sessionClient struct {
	w       *wire
	version int16
	id      topic.ID
	session int32
	epoch   int32
}

// open asks for a session of some partitions of topic "t", from offset 0.
func (c *sessionClient) open(partitions ...int32) *kmsg.FetchResponse {
	c.w.t.Helper()
	req := fetchByID(c.id, 0, partitions...)
	req.SessionID, req.SessionEpoch = c.session, 0
	resp := ask[*kmsg.FetchResponse](c.w, c.version, req)
	c.session, c.epoch = resp.SessionID, 0
	return resp
}

// next is the next request of the session: what change makes of an empty one.
func (c *sessionClient) next(change func(req *kmsg.FetchRequest)) *kmsg.FetchResponse {
	c.w.t.Helper()
	c.epoch++
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionID, req.SessionEpoch = 1<<20, c.session, c.epoch
	if change != nil {
		change(req)
	}
	return ask[*kmsg.FetchResponse](c.w, c.version, req)
}

// read is what a change of offsets looks like; from is by partition.
func (c *sessionClient) read(from map[int32]int64) func(*kmsg.FetchRequest) {
	return func(req *kmsg.FetchRequest) {
		for p := range int32(10) {
			if offset, ok := from[p]; ok {
				req.Topics = append(req.Topics, fetchByID(c.id, offset, p).Topics...)
			}
		}
	}
}

func (c *sessionClient) forget(partitions ...int32) func(*kmsg.FetchRequest) {
	return func(req *kmsg.FetchRequest) {
		ft := kmsg.NewFetchRequestForgottenTopic()
		ft.Topic, ft.TopicID, ft.Partitions = "t", c.id, partitions
		req.ForgottenTopics = append(req.ForgottenTopics, ft)
	}
}

// told lists the partitions of an answer with their number of records.
func told(t testing.TB, resp *kmsg.FetchResponse) (out string) {
	t.Helper()
	if resp.ErrorCode != 0 {
		return kerr.ErrorForCode(resp.ErrorCode).Error()
	}
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			out += fmt.Sprintf("%d:%d", p.Partition, len(values(t, p.RecordBatches)))
			if p.ErrorCode != 0 {
				out += "!" + kerr.TypedErrorForCode(p.ErrorCode).Message
			}
			out += " "
		}
	}
	return out
}

func wantTold(t testing.TB, what string, resp *kmsg.FetchResponse, want string) {
	t.Helper()
	if got := told(t, resp); got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// eachSessionVersion runs a test with topics by name and by id.
func eachSessionVersion(t *testing.T, partitions int32, o kafka.Options, f func(t *testing.T, c *sessionClient, topics *topic.Set)) {
	for _, v := range []int16{7, 11, 12, 13, 18} {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			s, topics := newBroker(t, o)
			id := create(t, topics, "t", partitions).ID()
			f(t, &sessionClient{w: pipe(t, s), version: v, id: id}, topics)
		})
	}
}

func TestFetchSession(t *testing.T) {
	eachSessionVersion(t, 4, kafka.Options{}, func(t *testing.T, c *sessionClient, topics *topic.Set) {
		appendTo(t, topics, "t", 1, batchOf(t, record.None, "a", "b"))
		wantTold(t, "the first answer has everything", c.open(0, 1, 2), "0:0 1:2 2:0 ")
		if c.session == 0 {
			t.Fatal("no session")
		}
		wantTold(t, "read on", c.next(c.read(map[int32]int64{1: 2})), "")
		wantTold(t, "nothing new", c.next(nil), "")
		appendTo(t, topics, "t", 2, batchOf(t, record.None, "c"))
		wantTold(t, "records", c.next(nil), "2:1 ")
		wantTold(t, "the same again, for the client did not go on", c.next(nil), "2:1 ")
		wantTold(t, "gone on", c.next(c.read(map[int32]int64{2: 1})), "")
		appendTo(t, topics, "t", 3, batchOf(t, record.None, "d"))
		wantTold(t, "a partition more", c.next(c.read(map[int32]int64{3: 0})), "3:1 ")
		wantTold(t, "a partition less", c.next(c.forget(3)), "")
		if _, err := topics.Topic("t").Partitions()[1].DeleteRecords(1); err != nil {
			t.Fatal(err)
		}
		wantTold(t, "the log start moved", c.next(nil), "1:0 ")
		wantTold(t, "out of range", c.next(c.read(map[int32]int64{1: 0})), "1:0!OFFSET_OUT_OF_RANGE ")
		wantTold(t, "the error is told each time", c.next(nil), "1:0!OFFSET_OUT_OF_RANGE ")
		wantTold(t, "and its end", c.next(c.read(map[int32]int64{1: 2})), "1:0 ")
		wantTold(t, "no partition left", c.next(c.forget(0, 1, 2)), "")
		wantTold(t, "a session of nothing is none", c.next(nil), kerr.FetchSessionIDNotFound.Error())
	})
}

func TestFetchSessionErrors(t *testing.T) {
	eachSessionVersion(t, 1, kafka.Options{}, func(t *testing.T, c *sessionClient, topics *topic.Set) {
		req := fetchByID(c.id, 0, 0)
		req.SessionID, req.SessionEpoch = 4711, 1
		wantTold(t, "unknown", ask[*kmsg.FetchResponse](c.w, c.version, req), kerr.FetchSessionIDNotFound.Error())
		c.open(0)
		c.epoch++
		wantTold(t, "an epoch left out", c.next(nil), kerr.InvalidFetchSessionEpoch.Error())
		c.epoch = 0
		wantTold(t, "the true epoch", c.next(nil), "")
		other := *c
		if other.version = 13; c.version >= 13 {
			other.version = 12
		}
		wantTold(t, "ids and names in one session", other.next(nil), kerr.FetchSessionTopicIDError.Error())
		old := *c
		if c.open(0); c.session == old.session || c.session == 0 {
			t.Errorf("session %d after %d, want another", c.session, old.session)
		}
		wantTold(t, "the session that it replaced", old.next(nil), kerr.FetchSessionIDNotFound.Error())
		req.SessionID, req.SessionEpoch = c.session, -1
		if resp := ask[*kmsg.FetchResponse](c.w, c.version, req); told(t, resp) != "0:0 " || resp.SessionID != 0 {
			t.Errorf("the last fetch of a session: %q, session %d", told(t, resp), resp.SessionID)
		}
		wantTold(t, "it is closed", c.next(nil), kerr.FetchSessionIDNotFound.Error())
	})
}

// The leader epoch that a client names once holds for the whole session (KAFKA-9338).
func TestFetchSessionKeepsTheLeaderEpoch(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	id := create(t, topics, "t", 1).ID()
	c := &sessionClient{w: pipe(t, s), version: 12, id: id}
	c.open(0)
	wantTold(t, "old epoch", c.next(func(req *kmsg.FetchRequest) {
		c.read(map[int32]int64{0: 0})(req)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = testEpoch - 1
	}), "0:0!FENCED_LEADER_EPOCH ")
	wantTold(t, "not named again", c.next(nil), "0:0!FENCED_LEADER_EPOCH ")
}

func TestFetchSessionOfATopicMadeAnew(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	c := &sessionClient{w: pipe(t, s), version: 17, id: create(t, topics, "t", 1).ID()}
	c.open(0)
	if err := topics.Delete("t"); err != nil {
		t.Fatal(err)
	}
	wantTold(t, "deleted", c.next(nil), "0:0!UNKNOWN_TOPIC_ID ")
	create(t, topics, "t", 1)
	wantTold(t, "made anew", c.next(nil), "0:0!INCONSISTENT_TOPIC_ID ")
}

// Clients leak sessions: the idle ones make room, the small ones for the large ones,
// and who gets none is served all the same.
func TestFetchSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, topics := newBroker(t, kafka.Options{MaxFetchSessions: 2})
		id := create(t, topics, "t", 3).ID()
		w := pipe(t, s)
		client := func() *sessionClient { return &sessionClient{w: w, version: 12, id: id} }
		small, large, third := client(), client(), client()
		small.open(0)
		large.open(0, 1, 2)
		if resp := third.open(0, 1); resp.SessionID != 0 || told(t, resp) != "0:0 1:0 " {
			t.Errorf("a third session of 2: session %d, %q", resp.SessionID, told(t, resp))
		}
		time.Sleep(119 * time.Second)
		wantTold(t, "small is used", small.next(nil), "")
		wantTold(t, "large is used", large.next(nil), "")
		time.Sleep(2 * time.Second)
		if third.open(0); third.session != 0 {
			t.Error("a session of 1 replaced another of 1 that is in use")
		}
		if third.open(0, 1); third.session == 0 {
			t.Error("a session of 2 did not replace one of 1 that has lived for 2 min")
		}
		wantTold(t, "the small one is gone", small.next(nil), kerr.FetchSessionIDNotFound.Error())
		time.Sleep(121 * time.Second)
		wantTold(t, "the third is used", third.next(nil), "")
		if small.open(0); small.session == 0 {
			t.Error("an idle session does not make room")
		}
		wantTold(t, "it was the idle one", large.next(nil), kerr.FetchSessionIDNotFound.Error())
	})
}

func TestFetchSessionsCanBeOff(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{MaxFetchSessions: -1})
	c := &sessionClient{w: pipe(t, s), version: 11, id: create(t, topics, "t", 1).ID()}
	if wantTold(t, "open", c.open(0), "0:0 "); c.session != 0 {
		t.Errorf("session %d", c.session)
	}
}
