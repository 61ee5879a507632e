package kafka_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

const (
	ofTopic  = kmsg.ConfigResourceTypeTopic
	ofBroker = kmsg.ConfigResourceTypeBroker
)

// setting is one config of an AlterConfigs or IncrementalAlterConfigs.
type setting struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

func is(name, value string) setting { return setting{name: name, value: &value} }

func alterOf(kind kmsg.ConfigResourceType, name string, settings ...setting) *kmsg.AlterConfigsRequest {
	req, res := kmsg.NewPtrAlterConfigsRequest(), kmsg.NewAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kind, name
	for _, s := range settings {
		c := kmsg.NewAlterConfigsRequestResourceConfig()
		c.Name, c.Value = s.name, s.value
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	return req
}

func incrementOf(kind kmsg.ConfigResourceType, name string, settings ...setting) *kmsg.IncrementalAlterConfigsRequest {
	req, res := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kind, name
	for _, s := range settings {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = s.name, s.op, s.value
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	return req
}

// wantAnswer compares an answer with the error wanted; a refusal must have words.
func wantAnswer(t *testing.T, what string, code int16, message *string, want *kerr.Error) {
	t.Helper()
	switch {
	case want == nil && (code != 0 || message != nil):
		t.Errorf("%s: error %d (%v), want none", what, code, kerr.ErrorForCode(code))
	case want != nil && (code != want.Code || message == nil || len(*message) < 10):
		t.Errorf("%s: error %v, message %v; want %v and its reason", what, kerr.ErrorForCode(code), message, want)
	}
}

func TestAlterConfigsReplacesAll(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	for v := int16(0); v <= 2; v++ {
		for _, configs := range [][]setting{{is("retention.ms", "1000"), is("segment.ms", "5")}, {is("retention.bytes", fmt.Sprint(1000+int(v)))}} {
			got := ask[*kmsg.AlterConfigsResponse](w, v, alterOf(ofTopic, "t", configs...)).Resources[0]
			wantAnswer(t, fmt.Sprint("v", v), got.ErrorCode, got.ErrorMessage, nil)
			if got.ResourceType != ofTopic || got.ResourceName != "t" {
				t.Errorf("v%d: answer is of %v %q", v, got.ResourceType, got.ResourceName)
			}
			over := topics.Topic("t").Overrides()
			if len(over) != len(configs) || over[configs[0].name] != *configs[0].value {
				t.Errorf("v%d: overrides are %v", v, over)
			}
		}
	}
	dry := alterOf(ofTopic, "t")
	dry.ValidateOnly = true
	got := ask[*kmsg.AlterConfigsResponse](w, 2, dry).Resources[0]
	wantAnswer(t, "validate only", got.ErrorCode, got.ErrorMessage, nil)
	if over := topics.Topic("t").Overrides(); len(over) != 1 {
		t.Errorf("validate_only changed the overrides to %v", over)
	}
	ask[*kmsg.AlterConfigsResponse](w, 2, alterOf(ofTopic, "t")) // none at all: the defaults
	if got := topics.Topic("t"); len(got.Overrides()) != 0 || got.Config("retention.bytes") != "-1" {
		t.Errorf("overrides are %v", got.Overrides())
	}
}

func TestIncrementalAlterConfigs(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	created, err := topics.Create("t", topic.Spec{Configs: map[string]string{"segment.ms": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	w := pipe(t, s)
	add, take := kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	for v := int16(0); v <= 1; v++ {
		for _, step := range []struct {
			op   setting
			want string
		}{
			{is("retention.ms", "1000"), "1000"},
			{setting{"retention.ms", kmsg.IncrementalAlterConfigOpDelete, nil}, "604800000"},
			{setting{"retention.ms", kmsg.IncrementalAlterConfigOpDelete, nil}, "604800000"}, // nothing to delete
			{setting{"cleanup.policy", add, kmsg.StringPtr("compact")}, "delete,compact"},
			{setting{"cleanup.policy", add, kmsg.StringPtr("delete")}, "compact,delete"}, // not twice
			{setting{"cleanup.policy", take, kmsg.StringPtr("delete")}, "compact"},
			{setting{"cleanup.policy", kmsg.IncrementalAlterConfigOpDelete, nil}, "delete"},
		} {
			dry := incrementOf(ofTopic, "t", step.op)
			dry.ValidateOnly = true
			before := created.Config(step.op.name)
			got := ask[*kmsg.IncrementalAlterConfigsResponse](w, v, dry).Resources[0]
			wantAnswer(t, "validate only", got.ErrorCode, got.ErrorMessage, nil)
			if now := created.Config(step.op.name); now != before {
				t.Errorf("v%d: validate_only made %s %q", v, step.op.name, now)
			}
			got = ask[*kmsg.IncrementalAlterConfigsResponse](w, v, incrementOf(ofTopic, "t", step.op)).Resources[0]
			wantAnswer(t, step.op.name, got.ErrorCode, got.ErrorMessage, nil)
			if now := created.Config(step.op.name); now != step.want || created.Overrides()["segment.ms"] != "5" {
				t.Errorf("v%d: %s is %q, want %q; all: %v", v, step.op.name, now, step.want, created.Overrides())
			}
		}
	}
}

func TestAlterConfigsRefuses(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	if _, err := topics.Create("__own", topic.Spec{Internal: true}); err != nil {
		t.Fatal(err)
	}
	w := pipe(t, s)
	for name, tt := range map[string]struct {
		kind     kmsg.ConfigResourceType
		resource string
		settings []setting
		want     *kerr.Error
	}{
		"unknown config":   {ofTopic, "t", []setting{is("no.such", "1")}, kerr.InvalidConfig},
		"bad value":        {ofTopic, "t", []setting{is("retention.ms", "soon")}, kerr.InvalidConfig},
		"one of two bad":   {ofTopic, "t", []setting{is("segment.ms", "1"), is("retention.ms", "soon")}, kerr.InvalidConfig},
		"no value":         {ofTopic, "t", []setting{{name: "retention.ms"}}, kerr.InvalidRequest},
		"twice":            {ofTopic, "t", []setting{is("retention.ms", "1"), is("retention.ms", "2")}, kerr.InvalidRequest},
		"no topic":         {ofTopic, "none", nil, kerr.UnknownTopicOrPartition},
		"internal":         {ofTopic, "__own", []setting{is("retention.ms", "1")}, kerr.InvalidTopicException},
		"read-only":        {ofBroker, "1", []setting{is("num.partitions", "3")}, kerr.InvalidRequest},
		"durability":       {ofBroker, "", []setting{is("log.flush.interval.messages", "1000")}, kerr.InvalidRequest},
		"broker, bad":      {ofBroker, "", []setting{is("log.retention.ms", "soon")}, kerr.InvalidRequest},
		"locked out":       {ofBroker, "1", []setting{is("max.connections", "0")}, kerr.InvalidRequest},
		"one bad of many":  {ofBroker, "1", []setting{is("log.retention.ms", "1"), is("log.segment.bytes", "1")}, kerr.InvalidRequest},
		"other broker":     {ofBroker, "7", nil, kerr.InvalidRequest},
		"other resource":   {kmsg.ConfigResourceTypeBrokerLogger, "1", nil, kerr.InvalidRequest},
		"unknown resource": {99, "x", nil, kerr.InvalidRequest},
	} {
		all := ask[*kmsg.AlterConfigsResponse](w, 2, alterOf(tt.kind, tt.resource, tt.settings...)).Resources[0]
		wantAnswer(t, "AlterConfigs: "+name, all.ErrorCode, all.ErrorMessage, tt.want)
		one := ask[*kmsg.IncrementalAlterConfigsResponse](w, 1, incrementOf(tt.kind, tt.resource, tt.settings...)).Resources[0]
		wantAnswer(t, "IncrementalAlterConfigs: "+name, one.ErrorCode, one.ErrorMessage, tt.want)
	}
	for name, tt := range map[string]struct {
		op   setting
		want *kerr.Error
	}{
		"append to no list":  {setting{"retention.ms", kmsg.IncrementalAlterConfigOpAppend, kmsg.StringPtr("1")}, kerr.InvalidConfig},
		"append unknown":     {setting{"cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, kmsg.StringPtr("burn")}, kerr.InvalidConfig},
		"subtract to empty":  {setting{"cleanup.policy", kmsg.IncrementalAlterConfigOpSubtract, kmsg.StringPtr("delete")}, kerr.InvalidConfig},
		"delete unknown":     {setting{"no.such", kmsg.IncrementalAlterConfigOpDelete, nil}, kerr.InvalidConfig},
		"unknown operation":  {setting{"retention.ms", 9, kmsg.StringPtr("1")}, kerr.InvalidRequest},
		"append without one": {setting{"cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, nil}, kerr.InvalidRequest},
	} {
		got := ask[*kmsg.IncrementalAlterConfigsResponse](w, 1, incrementOf(ofTopic, "t", tt.op)).Resources[0]
		wantAnswer(t, name, got.ErrorCode, got.ErrorMessage, tt.want)
	}
	both := alterOf(ofTopic, "t", is("retention.ms", "1"))
	both.Resources = append(both.Resources, both.Resources[0])
	for _, got := range ask[*kmsg.AlterConfigsResponse](w, 1, both).Resources {
		wantAnswer(t, "a resource twice", got.ErrorCode, got.ErrorMessage, kerr.InvalidRequest)
	}
	if over := topics.Topic("t").Overrides(); len(over) != 0 {
		t.Errorf("refusals left overrides %v", over)
	}
}

func partitionsOf(name string, count int32, assigned ...[]int32) *kmsg.CreatePartitionsRequest {
	req, rt := kmsg.NewPtrCreatePartitionsRequest(), kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = name, count
	for _, replicas := range assigned {
		a := kmsg.NewCreatePartitionsRequestTopicAssignment()
		a.Replicas = replicas
		rt.Assignment = append(rt.Assignment, a)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func TestCreatePartitions(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	created := create(t, topics, "t", 1)
	if _, err := topics.Create("__own", topic.Spec{Internal: true}); err != nil {
		t.Fatal(err)
	}
	w := pipe(t, s)
	for v := int16(0); v <= 3; v++ {
		want := int32(v) + 2
		dry := partitionsOf("t", want)
		dry.ValidateOnly = true
		got := ask[*kmsg.CreatePartitionsResponse](w, v, dry).Topics[0]
		if wantAnswer(t, "validate only", got.ErrorCode, got.ErrorMessage, nil); len(created.Partitions()) != int(want)-1 {
			t.Errorf("v%d: validate_only made %d partitions", v, len(created.Partitions()))
		}
		got = ask[*kmsg.CreatePartitionsResponse](w, v, partitionsOf("t", want)).Topics[0]
		wantAnswer(t, fmt.Sprint("v", v), got.ErrorCode, got.ErrorMessage, nil)
		if meta := metadataOf(w, 9, false, "t").Topics[0]; got.Topic != "t" || len(meta.Partitions) != int(want) {
			t.Errorf("v%d: answer for %q, metadata has %d partitions, want %d", v, got.Topic, len(meta.Partitions), want)
		}
	}
	for name, tt := range map[string]struct {
		req  *kmsg.CreatePartitionsRequest
		want *kerr.Error
	}{
		"as many":              {partitionsOf("t", 5), kerr.InvalidPartitions},
		"fewer":                {partitionsOf("t", 1), kerr.InvalidPartitions},
		"too many":             {partitionsOf("t", 1_000_000), kerr.InvalidPartitions},
		"no topic":             {partitionsOf("none", 2), kerr.UnknownTopicOrPartition},
		"internal":             {partitionsOf("__own", 2), kerr.InvalidTopicException},
		"assigned elsewhere":   {partitionsOf("t", 6, []int32{2}), kerr.InvalidReplicaAssignment},
		"two replicas":         {partitionsOf("t", 6, []int32{1, 1}), kerr.InvalidReplicaAssignment},
		"assignment too short": {partitionsOf("t", 7, []int32{1}), kerr.InvalidReplicaAssignment},
	} {
		got := ask[*kmsg.CreatePartitionsResponse](w, 3, tt.req).Topics[0]
		wantAnswer(t, name, got.ErrorCode, got.ErrorMessage, tt.want)
	}
	twice := partitionsOf("t", 6)
	twice.Topics = append(twice.Topics, twice.Topics[0])
	for _, got := range ask[*kmsg.CreatePartitionsResponse](w, 3, twice).Topics {
		wantAnswer(t, "a topic twice", got.ErrorCode, got.ErrorMessage, kerr.InvalidRequest)
	}
	got := ask[*kmsg.CreatePartitionsResponse](w, 3, partitionsOf("t", 7, []int32{1}, []int32{1})).Topics[0]
	if wantAnswer(t, "assigned", got.ErrorCode, got.ErrorMessage, nil); len(created.Partitions()) != 7 {
		t.Errorf("%d partitions, want 7", len(created.Partitions()))
	}
}

func TestDescribeLogDirs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, topics := newBroker(t, kafka.Options{LogDir: dir})
	create(t, topics, "t", 2)
	create(t, topics, "u", 1)
	w := pipe(t, s)
	b := batchOf(t, 0, "a", "b")
	ask[*kmsg.ProduceResponse](w, 9, produceOf(-1, b))
	if err := topics.Checkpoint(); err != nil { // sizes are of what stands in segments
		t.Fatal(err)
	}
	named := kmsg.NewPtrDescribeLogDirsRequest()
	named.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 9}}, {Topic: "none", Partitions: []int32{0}}}
	none := kmsg.NewPtrDescribeLogDirsRequest()
	none.Topics = []kmsg.DescribeLogDirsRequestTopic{}
	for v := int16(1); v <= 4; v++ {
		all := ask[*kmsg.DescribeLogDirsResponse](w, v, kmsg.NewPtrDescribeLogDirsRequest())
		if len(all.Dirs) != 1 || all.ErrorCode != 0 || all.Dirs[0].ErrorCode != 0 || all.Dirs[0].Dir != dir {
			t.Fatalf("v%d: %+v", v, all)
		}
		d := all.Dirs[0]
		if len(d.Topics) != 2 || len(d.Topics[0].Partitions) != 2 || d.Topics[0].Partitions[0].Size != int64(len(b)) || d.Topics[0].Partitions[1].Size != 0 {
			t.Errorf("v%d: %+v, want %d bytes in t-0", v, d.Topics, len(b))
		}
		if v >= 4 && (d.TotalBytes <= 0 || d.UsableBytes <= 0 || d.UsableBytes > d.TotalBytes) {
			t.Errorf("v%d: %d of %d bytes usable", v, d.UsableBytes, d.TotalBytes)
		}
		some := ask[*kmsg.DescribeLogDirsResponse](w, v, named).Dirs[0].Topics
		if len(some) != 1 || len(some[0].Partitions) != 1 || some[0].Partitions[0].Partition != 1 {
			t.Errorf("v%d: t-1 was asked for: %+v", v, some)
		}
		if got := ask[*kmsg.DescribeLogDirsResponse](w, v, none).Dirs; len(got) != 1 || len(got[0].Topics) != 0 {
			t.Errorf("v%d: nothing was asked for: %+v", v, got)
		}
	}
}

// An administrator with franz-go, and clients that are at work meanwhile.
func TestAdminChangesTopics(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	addr := listen(t, s)
	consumer := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	producer := newClient(t, addr, kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm, ctx := kadm.NewClient(newClient(t, addr)), patience(t)
	if err := producer.ProduceSync(ctx, &kgo.Record{Value: []byte("first")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	read(t, consumer, 1)
	added, err := adm.CreatePartitions(ctx, 2, "t")
	if err != nil || added.Error() != nil {
		t.Fatalf("add partitions: %v, %v", err, added.Error())
	}
	fresh := newClient(t, addr, kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := fresh.ProduceSync(ctx, &kgo.Record{Partition: 2, Value: []byte("second")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, consumer, 1); got[0].Partition != 2 {
		t.Errorf("partition %d", got[0].Partition)
	}
	alter := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("1024")}}
	altered, err := adm.AlterTopicConfigs(ctx, alter, "t", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range altered {
		if r.Name == "t" && r.Err != nil || r.Name == "nobody" && !errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
			t.Errorf("alter %s: %v", r.Name, r.Err)
		}
	}
	plain := newClient(t, addr, kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	large := &kgo.Record{Value: []byte(strings.Repeat("x", 2000))}
	if err := plain.ProduceSync(ctx, large).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("a large batch: %v, want %v", err, kerr.MessageTooLarge)
	}
	state, err := adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("-1")}}, "t")
	if err != nil || state[0].Err != nil {
		t.Fatalf("alter all: %v, %v", err, state)
	}
	if over := topics.Topic("t").Overrides(); len(over) != 1 || over["retention.ms"] != "-1" {
		t.Errorf("overrides %v", over)
	}
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil || dirs[1].Error() != nil || dirs[1].Size() == 0 {
		t.Errorf("log dirs: %v, %+v", err, dirs)
	}
}
