package kafka_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/record"
)

// quotaRequest sets one quota; an entity is pairs of type and name, "" for the default.
func quotaRequest(key string, value float64, entity ...string) *kmsg.AlterClientQuotasRequest {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	e := kmsg.NewAlterClientQuotasRequestEntry()
	for i := 0; i < len(entity); i += 2 {
		part := kmsg.NewAlterClientQuotasRequestEntryEntity()
		if part.Type = entity[i]; entity[i+1] != "" {
			part.Name = &entity[i+1]
		}
		e.Entity = append(e.Entity, part)
	}
	op := kmsg.NewAlterClientQuotasRequestEntryOp()
	op.Key, op.Value, op.Remove = key, value, value == 0
	e.Ops = append(e.Ops, op)
	req.Entries = append(req.Entries, e)
	return req
}

func setQuota(t testing.TB, w *wire, key string, value float64, entity ...string) {
	t.Helper()
	wantCode(t, "AlterClientQuotas", ask[*kmsg.AlterClientQuotasResponse](w, 1, quotaRequest(key, value, entity...)).Entries[0].ErrorCode, nil)
}

// KIP-219: the answer comes at once and says for how long the client is to be
// silent; a client that is not is not heard.
func TestQuotasThrottleAndMute(t *testing.T) {
	for _, tt := range []struct {
		key     string
		request func() (int16, kmsg.Request)
	}{
		{"producer_byte_rate", func() (int16, kmsg.Request) {
			return 9, produceOf(-1, batchOf(t, record.None, string(make([]byte, 22_000))))
		}},
		{"consumer_byte_rate", func() (int16, kmsg.Request) { return 12, fetchOf("t", 0, 0) }},
	} {
		t.Run(tt.key, func(t *testing.T) {
			// Replies are pooled with their channel, and one of a bubble's is of no use outside
			// of it: two collections empty the pools.
			defer func() { runtime.GC(); runtime.GC() }()
			synctest.Test(t, func(t *testing.T) {
				s, topics := newBroker(t, kafka.Options{})
				create(t, topics, "t", 1)
				appendTo(t, topics, "t", 0, batchOf(t, record.None, string(make([]byte, 22_000))))
				w, other := pipe(t, s), pipe(t, s)
				setQuota(t, w, tt.key, 1000, "client-id", "wire-test") // 11,000 bytes at once
				v, req := tt.request()
				start := time.Now()
				ms := throttleOf(ask[kmsg.Response](w, v, req))
				if ms < 11_000 || ms > 11_200 || time.Since(start) > time.Second {
					t.Fatalf("22,000 bytes at 1,000/s are throttled for %d ms, answered after %v", ms, time.Since(start))
				}
				ask[*kmsg.MetadataResponse](other, 12, kmsg.NewPtrMetadataRequest())
				if took := time.Since(start); took > time.Second {
					t.Errorf("another connection is answered after %v", took)
				}
				ask[*kmsg.ApiVersionsResponse](w, 3, apiVersionsRequest())
				if took := time.Since(start); took < time.Duration(ms)*time.Millisecond {
					t.Errorf("the next request is answered after %v", took)
				}
			})
		})
	}
}

func throttleOf(resp kmsg.Response) int32 {
	ms, _ := resp.(kmsg.ThrottleResponse).Throttle()
	return ms
}

// A quota of request time throttles whoever asks much, but not who waits.
func TestRequestQuota(t *testing.T) {
	quotas, err := quota.Open(quota.Options{Window: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	s, topics := newBroker(t, kafka.Options{Quotas: quotas})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	setQuota(t, w, "request_percentage", 10, "user", "")
	if ms := throttleOf(ask[*kmsg.MetadataResponse](w, 12, kmsg.NewPtrMetadataRequest())); ms == 0 {
		t.Error("a request beyond the quota is not throttled")
	}
	fetch := fetchOf("t", 0, 0)
	fetch.MaxWaitMillis, fetch.MinBytes = 300, 1
	if ms := throttleOf(ask[*kmsg.FetchResponse](w, 12, fetch)); ms >= 2500 {
		t.Errorf("300 ms of waiting for data are charged: %d ms", ms)
	}
}

func TestConnectionQuota(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	addr := listen(t, s)
	w := dial(t, addr)
	setQuota(t, w, "connection_creation_rate", 0.001, "ip", "127.0.0.1")
	ask[*kmsg.ApiVersionsResponse](dial(t, addr), 3, apiVersionsRequest())
	dial(t, addr).wantClosed()
	setQuota(t, w, "connection_creation_rate", 0, "ip", "127.0.0.1")
	ask[*kmsg.ApiVersionsResponse](dial(t, addr), 3, apiVersionsRequest())
}

func TestDescribeClientQuotas(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	w := pipe(t, s)
	setQuota(t, w, "producer_byte_rate", 1, "user", "u")
	setQuota(t, w, "consumer_byte_rate", 2, "user", "u")
	setQuota(t, w, "request_percentage", 3, "user", "", "client-id", "c")
	setQuota(t, w, "connection_creation_rate", 4, "ip", "")
	const u, uc, ip = "user=u:producer_byte_rate=1,consumer_byte_rate=2; ", "user=<default>,client-id=c:request_percentage=3; ", "ip=<default>:connection_creation_rate=4; "
	type component struct {
		entity string
		match  kmsg.QuotasMatchType
		name   string
	}
	for _, tt := range []struct {
		strict bool
		by     []component
		want   string
	}{
		{false, nil, uc + u + ip}, {true, nil, ""},
		{false, []component{{"user", 2, ""}}, uc + u}, {true, []component{{"user", 2, ""}}, u},
		{false, []component{{"user", 1, ""}}, uc}, {true, []component{{"user", 1, ""}, {"client-id", 0, "c"}}, uc},
		{false, []component{{"client-id", 0, "d"}}, ""}, {true, []component{{"ip", 1, ""}}, ip},
		{false, []component{{"planet", 1, ""}}, "error 35"}, {false, []component{{"user", 2, ""}, {"user", 1, ""}}, "error 42"},
		{false, []component{{"user", 9, ""}}, "error 42"}, {false, []component{{"user", 2, ""}, {"ip", 2, ""}}, "error 42"},
	} {
		req := kmsg.NewPtrDescribeClientQuotasRequest()
		req.Strict = tt.strict
		for _, c := range tt.by {
			rc := kmsg.NewDescribeClientQuotasRequestComponent()
			if rc.EntityType, rc.MatchType = c.entity, c.match; c.match == 0 {
				rc.Match = &c.name
			}
			req.Components = append(req.Components, rc)
		}
		for v := int16(0); v <= 1; v++ {
			if got := quotasOf(ask[*kmsg.DescribeClientQuotasResponse](w, v, req)); got != tt.want {
				t.Errorf("v%d, strict=%v %v: %q, want %q", v, tt.strict, tt.by, got, tt.want)
			}
		}
	}
}

func quotasOf(resp *kmsg.DescribeClientQuotasResponse) (out string) {
	if resp.ErrorCode != 0 {
		return fmt.Sprint("error ", resp.ErrorCode)
	}
	sep := func(i int) string { return []string{"", ","}[min(i, 1)] }
	for _, e := range resp.Entries {
		for i, n := range e.Entity {
			name := "<default>"
			if n.Name != nil {
				name = *n.Name
			}
			out += sep(i) + n.Type + "=" + name
		}
		out += ":"
		for i, v := range e.Values {
			out += fmt.Sprintf("%s%s=%v", sep(i), v.Key, v.Value)
		}
		out += "; "
	}
	return out
}

func TestAlterClientQuotasChecks(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	w := pipe(t, s)
	for name, tt := range map[string]struct {
		req  *kmsg.AlterClientQuotasRequest
		want *kerr.Error
	}{
		"unknown key":    {quotaRequest("mutation_rate", 1, "user", "u"), kerr.InvalidRequest},
		"unknown entity": {quotaRequest("producer_byte_rate", 1, "planet", "u"), kerr.UnsupportedVersion},
		"twice":          {quotaRequest("producer_byte_rate", 1, "user", "u", "user", "v"), kerr.InvalidRequest},
		"negative":       {quotaRequest("producer_byte_rate", -1, "user", "u"), kerr.InvalidRequest},
	} {
		got := ask[*kmsg.AlterClientQuotasResponse](w, 1, tt.req).Entries[0]
		wantCode(t, name, got.ErrorCode, tt.want)
		if got.ErrorMessage == nil {
			t.Errorf("%s: no message", name)
		}
	}
}

// KIP-599: who owes partitions is refused, from the versions whose clients know the
// error; before them the client is made to be silent. What is only asked costs nothing.
func TestMutationQuota(t *testing.T) {
	for _, tt := range []struct {
		name           string
		create, delete int16
		add            int16
		want           *kerr.Error
	}{
		{"strict", 6, 5, 3, kerr.ThrottlingQuotaExceeded},
		{"before", 5, 4, 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			quotas, err := quota.Open(quota.Options{Window: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			s, topics := newBroker(t, kafka.Options{Quotas: quotas})
			create(t, topics, "t", 1)
			// Each request on a connection of its own: one that owes is not heard for a while.
			ask1 := func(v int16, req kmsg.Request) kmsg.Response { return ask[kmsg.Response](pipe(t, s), v, req) }
			setQuota(t, pipe(t, s), "controller_mutation_rate", 0.001, "client-id", "wire-test")
			created := func(name string, partitions int32, dry bool) kmsg.CreateTopicsResponse {
				req, rt := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
				rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
				req.Topics, req.ValidateOnly = append(req.Topics, rt), dry
				return *ask1(tt.create, req).(*kmsg.CreateTopicsResponse)
			}
			wantCode(t, "asked only", created("dry", 50, true).Topics[0].ErrorCode, nil)
			wantCode(t, "there already", created("t", 50, false).Topics[0].ErrorCode, kerr.TopicAlreadyExists)
			first := created("first", 5, false)
			wantCode(t, "the first", first.Topics[0].ErrorCode, nil)
			if late := first.ThrottleMillis > 0; late != (tt.want == nil) {
				t.Errorf("the first is throttled for %d ms", first.ThrottleMillis)
			}
			second := created("second", 1, false)
			wantCode(t, "the second", second.Topics[0].ErrorCode, tt.want)
			if second.ThrottleMillis == 0 {
				t.Error("the second is not throttled")
			}
			if exists := topics.Topic("second") != nil; exists != (tt.want == nil) {
				t.Errorf("the second exists: %v", exists)
			}
			more := ask1(tt.add, partitionsOf("t", 2)).(*kmsg.CreatePartitionsResponse)
			wantCode(t, "more partitions", more.Topics[0].ErrorCode, tt.want)
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames = []string{"first"}
			wantCode(t, "delete", ask1(tt.delete, req).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode, tt.want)
		})
	}
}

// A topic made on demand is counted as one asked for; a client that owes gets it when
// it asks again later.
func TestMutationQuotaOnDemand(t *testing.T) {
	quotas, err := quota.Open(quota.Options{Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s, topics := newBroker(t, kafka.Options{Quotas: quotas, DefaultPartitions: 3})
	setQuota(t, pipe(t, s), "controller_mutation_rate", 0.001, "client-id", "wire-test")
	demand := func(name string) *kmsg.MetadataResponse {
		req, rt := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
		rt.Topic, req.AllowAutoTopicCreation = &name, true
		req.Topics = append(req.Topics, rt)
		return ask[*kmsg.MetadataResponse](pipe(t, s), 9, req)
	}
	wantCode(t, "no name for a topic", demand("a/b").Topics[0].ErrorCode, kerr.InvalidTopicException)
	wantCode(t, "the first", demand("first").Topics[0].ErrorCode, nil)
	second := demand("second")
	wantCode(t, "the second", second.Topics[0].ErrorCode, kerr.LeaderNotAvailable)
	if second.ThrottleMillis == 0 || topics.Topic("second") != nil {
		t.Errorf("the second is throttled for %d ms, and exists: %v", second.ThrottleMillis, topics.Topic("second") != nil)
	}
	known := demand("first")
	wantCode(t, "what there is", known.Topics[0].ErrorCode, nil)
	if known.ThrottleMillis != 0 {
		t.Errorf("who asks for what there is was throttled for %d ms", known.ThrottleMillis)
	}
	quotas2, err := quota.Open(quota.Options{Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s, _ = newBroker(t, kafka.Options{Quotas: quotas2})
	for i := range 5 {
		wantCode(t, "without a quota", demand(fmt.Sprint("free", i)).Topics[0].ErrorCode, nil)
	}
}
