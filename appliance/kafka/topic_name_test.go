package kafka_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// produceByID and fetchByID name topic "t" by its name and by its id: the version
// says which of them is sent.
func produceByID(id topic.ID, acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := produceOf(acks, batches...)
	req.Topics[0].TopicID = id
	return req
}

func fetchByID(id topic.ID, offset int64, partitions ...int32) *kmsg.FetchRequest {
	req := fetchOf("t", offset, partitions...)
	req.Topics[0].TopicID = id
	return req
}

// Who names a topic that is gone by its id is told so, even when there is one of the
// same name (franz-go#908): producing to or reading from the other is a mistake.
func TestTopicsMadeAnewAreNotTheOld(t *testing.T) {
	w, topics := groupBroker(t)
	old := topics.Topic("t").ID()
	if err := topics.Delete("t"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []topic.ID{old, {}} {
		for _, state := range []string{"deleted", "made anew"} {
			t.Run(fmt.Sprintf("%x %s", id[:2], state), func(t *testing.T) {
				if state == "made anew" && topics.Topic("t") == nil {
					create(t, topics, "t", 1)
				}
				produced := ask[*kmsg.ProduceResponse](w, 13, produceByID(id, -1, batchOf(t, record.None, "a"))).Topics[0]
				wantCode(t, "Produce", produced.Partitions[0].ErrorCode, kerr.UnknownTopicID)
				if produced.TopicID != id {
					t.Errorf("Produce answers for topic %x, want %x", produced.TopicID, id)
				}
				got := ask[*kmsg.FetchResponse](w, 13, fetchByID(id, 0, 0)).Topics[0]
				wantCode(t, "Fetch", got.Partitions[0].ErrorCode, kerr.UnknownTopicID)
				if got.TopicID != id {
					t.Errorf("Fetch answers for topic %x, want %x", got.TopicID, id)
				}
				commit := commitRequest("g", "", -1, 0)
				commit.Topics[0].TopicID = id
				wantCode(t, "OffsetCommit", ask[*kmsg.OffsetCommitResponse](w, 10, commit).Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
				fetched := fetchOffsetsByID(w, "g", &id)
				wantCode(t, "OffsetFetch", fetched.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
			})
		}
	}
	if hw := topics.Topic("t").Partitions()[0].HighWatermark(); hw != 0 {
		t.Errorf("the new topic has %d records of the old one's producers", hw)
	}
}

func fetchOffsetsByID(w *wire, id string, of *topic.ID) kmsg.OffsetFetchResponseGroup {
	req := kmsg.NewPtrOffsetFetchRequest()
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = id
	if of != nil {
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.TopicID, rt.Partitions = *of, []int32{0}
		rg.Topics = append(rg.Topics, rt)
	}
	req.Groups = append(req.Groups, rg)
	return ask[*kmsg.OffsetFetchResponse](w, 10, req).Groups[0]
}

func TestOffsetsByTopicID(t *testing.T) {
	w, topics := groupBroker(t)
	id := topics.Topic("t").ID()
	commit := commitRequest("g", "", -1, 0, 7)
	commit.Topics[0].TopicID = id
	resp := ask[*kmsg.OffsetCommitResponse](w, 10, commit).Topics[0]
	if resp.TopicID != id {
		t.Errorf("OffsetCommit answers for topic %x, want %x", resp.TopicID, id)
	}
	wantCode(t, "OffsetCommit", resp.Partitions[0].ErrorCode, nil)
	wantCode(t, "OffsetCommit of partition 7 of 2", resp.Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
	for _, of := range []*topic.ID{&id, nil} {
		got := fetchOffsetsByID(w, "g", of)
		if len(got.Topics) != 1 || got.Topics[0].TopicID != id || got.Topics[0].Partitions[0].Offset != 100 || got.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Errorf("OffsetFetch, all=%v: %+v", of == nil, got)
		}
	}
}

func TestMetadataByTopicID(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	id := create(t, topics, "t", 1).ID()
	w := pipe(t, s)
	of := func(v int16, name *string, id topic.ID) kmsg.MetadataResponseTopic {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = true
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic, rt.TopicID = name, id
		req.Topics = append(req.Topics, rt)
		return ask[*kmsg.MetadataResponse](w, v, req).Topics[0]
	}
	for _, v := range []int16{12, 13} {
		if got := of(v, nil, id); got.ErrorCode != 0 || got.Topic == nil || *got.Topic != "t" || got.TopicID != id || len(got.Partitions) != 1 {
			t.Errorf("v%d: %+v", v, got)
		}
		if got := of(v, nil, topic.ID{9}); got.ErrorCode != kerr.UnknownTopicID.Code || got.Topic != nil || got.TopicID != (topic.ID{9}) {
			t.Errorf("v%d, unknown id: %+v", v, got)
		}
		wantCode(t, "neither name nor id", of(v, nil, topic.ID{}).ErrorCode, kerr.InvalidRequest)
	}
	wantCode(t, "v11 by id", of(11, kmsg.StringPtr("t"), id).ErrorCode, kerr.InvalidRequest)
}

func TestDeleteTopicsByNameAndID(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	req := kmsg.NewPtrDeleteTopicsRequest()
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic, rt.TopicID = kmsg.StringPtr("t"), create(t, topics, "t", 1).ID()
	req.Topics = append(req.Topics, rt)
	wantCode(t, "both", ask[*kmsg.DeleteTopicsResponse](pipe(t, s), 6, req).Topics[0].ErrorCode, kerr.InvalidRequest)
	if topics.Topic("t") == nil {
		t.Error("the topic is gone all the same")
	}
}

// A consumer whose topic is deleted and made again goes on with the new one and does
// not spin (franz-go PR#1426).
func TestFranzGoReadsATopicMadeAnew(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	addr := listen(t, s)
	opts := []kgo.Opt{kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(10e6), kgo.DefaultProduceTopic("t"), kgo.UnknownTopicRetries(100)}
	cl := newClient(t, addr, opts...)
	appendTo(t, topics, "t", 0, batchOf(t, record.None, "old"))
	read(t, cl, 1)
	if err := topics.Delete("t"); err != nil {
		t.Fatal(err)
	}
	create(t, topics, "t", 1)
	producer := newClient(t, addr, opts...)
	if err := producer.ProduceSync(patience(t), &kgo.Record{Value: []byte("new")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(t, addr, opts...)
	if got := read(t, fresh, 1); string(got[0].Value) != "new" || got[0].Offset != 0 {
		t.Errorf("a new consumer read %q at %d", got[0].Value, got[0].Offset)
	}
}
