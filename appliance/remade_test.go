package appliance_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
)

// A topic that is deleted and made again has none of the offsets that a group had
// committed for the one before, whether the commit was plain or waited in a
// transaction, and whether or not the delete got as far as forgetting them.
func TestOffsetsOfATopicMadeAnewAreNotTheOld(t *testing.T) {
	for _, c := range []struct {
		name   string
		commit func(*testing.T, *kgo.Client) (finish func())
	}{
		{"plain", commitPlain},
		{"in a transaction", commitInTransaction},
	} {
		for how, remake := range map[string]func(*testing.T, *site, *kgo.Client){"by a client": remakeByClient, "cut short": remakeCutShort} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				s := newSite(t)
				cl := s.client()
				defer cl.Close()
				finish := c.commit(t, cl)
				remake(t, s, cl)
				if o := offsetOf(t, cl); o != -1 { // what is pending is of the old topic
					t.Errorf("the new topic has the offset %d of the old one, before the transaction has ended", o)
				}
				finish()
				if o := offsetOf(t, cl); o != -1 {
					t.Errorf("the new topic has the offset %d of the old one", o)
				}
				s.restart(true)
				if o := offsetOf(t, cl); o != -1 {
					t.Errorf("after a restart the new topic has the offset %d of the old one", o)
				}
				commitPlain(t, cl)
				if o := offsetOf(t, cl); o != 5 {
					t.Errorf("offset %d after a commit of 5 for the new topic", o)
				}
			})
		}
	}
}

// ask sends a request that must not fail.
func ask[R kmsg.Response](t *testing.T, cl *kgo.Client, req kmsg.Request) R {
	t.Helper()
	resp, err := cl.Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(R)
}

func wantNone(t *testing.T, code int16) {
	t.Helper()
	if err := kerr.ErrorForCode(code); err != nil {
		t.Fatal(err)
	}
}

func commitPlain(t *testing.T, cl *kgo.Client) func() {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "g", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 5
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	resp := ask[*kmsg.OffsetCommitResponse](t, cl, &pinned{Request: req, max: 9})
	wantNone(t, resp.Topics[0].Partitions[0].ErrorCode)
	return func() {}
}

func commitInTransaction(t *testing.T, cl *kgo.Client) func() {
	t.Helper()
	id := "id"
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis, begin.ProducerID, begin.ProducerEpoch = &id, 60_000, -1, -1
	me := ask[*kmsg.InitProducerIDResponse](t, cl, begin)
	wantNone(t, me.ErrorCode)
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = id, "g", me.ProducerID, me.ProducerEpoch, -1
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = 5
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	resp := ask[*kmsg.TxnOffsetCommitResponse](t, cl, req)
	wantNone(t, resp.Topics[0].Partitions[0].ErrorCode)
	return func() {
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, me.ProducerID, me.ProducerEpoch, true
		wantNone(t, ask[*kmsg.EndTxnResponse](t, cl, end).ErrorCode)
	}
}

func remakeByClient(t *testing.T, _ *site, cl *kgo.Client) {
	t.Helper()
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TopicNames, gone.TimeoutMillis = []string{"t"}, 1000
	gt := kmsg.NewDeleteTopicsRequestTopic()
	gt.Topic = kmsg.StringPtr("t")
	gone.Topics = append(gone.Topics, gt)
	wantNone(t, ask[*kmsg.DeleteTopicsResponse](t, cl, gone).Topics[0].ErrorCode)
	made := kmsg.NewPtrCreateTopicsRequest()
	mt := kmsg.NewCreateTopicsRequestTopic()
	mt.Topic, mt.NumPartitions, mt.ReplicationFactor = "t", 6, 1
	made.Topics = append(made.Topics, mt)
	wantNone(t, ask[*kmsg.CreateTopicsResponse](t, cl, made).Topics[0].ErrorCode)
}

// remakeCutShort is what a crash between the delete and its consequences leaves.
func remakeCutShort(t *testing.T, s *site, _ *kgo.Client) {
	t.Helper()
	if err := s.b.Topics().Delete("t"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.b.Topics().Create("t", topic.Spec{Partitions: 6}); err != nil {
		t.Fatal(err)
	}
}

func offsetOf(t *testing.T, cl *kgo.Client) int64 {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, req.RequireStable = "g", true
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = "t", []int32{0}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	resp := ask[*kmsg.OffsetFetchResponse](t, cl, &pinned{Request: req, max: 9})
	wantNone(t, resp.Groups[0].ErrorCode)
	wantNone(t, resp.Groups[0].Topics[0].Partitions[0].ErrorCode)
	return resp.Groups[0].Topics[0].Partitions[0].Offset
}

// pinned is a request in a version that names topics by name.
type pinned struct {
	kmsg.Request
	max int16
}

func (p *pinned) MaxVersion() int16 { return min(p.max, p.Request.MaxVersion()) }
