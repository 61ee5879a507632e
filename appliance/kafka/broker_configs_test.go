package kafka_test

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

// configMemory is a store that a test can open twice.
type configMemory map[string][]byte

func (m configMemory) All() (map[string][]byte, error) { return maps.Clone(m), nil }
func (m configMemory) Put(key string, v []byte) error  { m[key] = v; return nil }

// described is "VALUE SOURCE: NAME=VALUE SOURCE, …" of one config, the synonyms behind the colon.
func described(w *wire, kind kmsg.ConfigResourceType, resource, key string) (out string) {
	w.t.Helper()
	req, rr := kmsg.NewPtrDescribeConfigsRequest(), kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.ConfigNames = kind, resource, []string{key}
	req.IncludeSynonyms, req.Resources = true, append(req.Resources, rr)
	got := ask[*kmsg.DescribeConfigsResponse](w, 4, req).Resources[0]
	if got.ErrorCode != 0 {
		return fmt.Sprint("error ", got.ErrorCode)
	}
	if len(got.Configs) == 0 {
		return "none"
	}
	c := got.Configs[0]
	if out = *c.Value + " " + c.Source.String() + ":"; c.ReadOnly {
		out = "read-only " + out
	}
	for _, sy := range c.ConfigSynonyms {
		out += fmt.Sprintf(" %s=%s %s,", sy.Name, *sy.Value, sy.Source)
	}
	return strings.TrimSuffix(out, ",")
}

func alterBroker(w *wire, resource string, settings ...setting) {
	w.t.Helper()
	got := ask[*kmsg.IncrementalAlterConfigsResponse](w, 1, incrementOf(ofBroker, resource, settings...)).Resources[0]
	if got.ErrorCode != 0 {
		w.t.Fatalf("%v of broker %q: error %d, %s", settings, resource, got.ErrorCode, *got.ErrorMessage)
	}
}

// KIP-226: what is set of one broker counts before what is set of all, and that before
// the file; a topic that does not say has what counts.
func TestBrokerConfigsChangeAtRunTime(t *testing.T) {
	store := configMemory{}
	open := func(o kafka.Options) *wire {
		configs, err := kafka.OpenBrokerConfigs(store, map[string]string{"segment.bytes": "1048576"}, topic.Tuning{CleanerMapBytes: 1 << 20}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		o.Configs = configs
		s, _ := newBroker(t, o)
		return pipe(t, s)
	}
	topics := openTopics(t)
	plain := create(t, topics, "plain", 1)
	if _, err := topics.Create("says", topic.Spec{Configs: map[string]string{"segment.bytes": "65536"}}); err != nil {
		t.Fatal(err)
	}
	w := open(kafka.Options{Topics: topics})
	check := func(resource, key, want string) {
		t.Helper()
		if got := described(w, ofBroker, resource, key); got != want {
			t.Errorf("%s of broker %q is %s\nwant %s", key, resource, got, want)
		}
	}
	const file = " log.segment.bytes=1048576 STATIC_BROKER_CONFIG, log.segment.bytes=67108864 DEFAULT_CONFIG"
	check("1", "log.segment.bytes", "1048576 STATIC_BROKER_CONFIG:"+file)
	check("", "log.segment.bytes", "none")

	alterBroker(w, "", is("log.segment.bytes", "2097152"), is("log.retention.ms", "5000"))
	check("1", "log.segment.bytes", "2097152 DYNAMIC_DEFAULT_BROKER_CONFIG: log.segment.bytes=2097152 DYNAMIC_DEFAULT_BROKER_CONFIG,"+file)
	if got := plain.Config("segment.bytes") + " " + plain.Config("retention.ms"); got != "2097152 5000" {
		t.Errorf("a topic that does not say has %s", got)
	}
	alterBroker(w, "1", is("log.segment.bytes", "4194304"))
	const both = " log.segment.bytes=4194304 DYNAMIC_BROKER_CONFIG, log.segment.bytes=2097152 DYNAMIC_DEFAULT_BROKER_CONFIG," + file
	check("1", "log.segment.bytes", "4194304 DYNAMIC_BROKER_CONFIG:"+both)
	check("", "log.segment.bytes", "2097152 DYNAMIC_DEFAULT_BROKER_CONFIG: log.segment.bytes=2097152 DYNAMIC_DEFAULT_BROKER_CONFIG,"+file)
	if got, want := described(w, ofTopic, "plain", "segment.bytes"), "4194304 DYNAMIC_BROKER_CONFIG:"+both; got != want {
		t.Errorf("the topic has %s\nwant %s", got, want)
	}
	if got, want := described(w, ofTopic, "says", "segment.bytes"), "65536 DYNAMIC_TOPIC_CONFIG: segment.bytes=65536 DYNAMIC_TOPIC_CONFIG,"+both; got != want {
		t.Errorf("the topic that says has %s\nwant %s", got, want)
	}
	if got := topics.Topic("says").Config("segment.bytes"); got != "65536" {
		t.Errorf("a topic's own config became %s", got)
	}
	check("1", "num.partitions", "read-only 1 DEFAULT_CONFIG: num.partitions=1 DEFAULT_CONFIG")

	again := open(kafka.Options{Topics: topics}) // as after a restart
	if got, want := described(again, ofBroker, "1", "log.segment.bytes"), "4194304 DYNAMIC_BROKER_CONFIG:"+both; got != want {
		t.Errorf("opened anew: %s\nwant %s", got, want)
	}
	remove := setting{"log.segment.bytes", kmsg.IncrementalAlterConfigOpDelete, nil}
	alterBroker(again, "1", remove)
	alterBroker(again, "", remove)
	if got := described(again, ofBroker, "1", "log.segment.bytes"); got != "1048576 STATIC_BROKER_CONFIG:"+file || plain.Config("segment.bytes") != "1048576" {
		t.Errorf("taken back: %s; the topic has %s", got, plain.Config("segment.bytes"))
	}
}

// A list is added to beginning with what is in force at its level.
func TestBrokerConfigListsAndDryRuns(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	w, plain := pipe(t, s), create(t, topics, "plain", 1)
	alterBroker(w, "1", setting{"log.cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, kmsg.StringPtr("compact")})
	if got := plain.Config("cleanup.policy"); got != "delete,compact" {
		t.Errorf("cleanup.policy is %s", got)
	}
	dry := incrementOf(ofBroker, "1", is("log.cleanup.policy", "delete"))
	dry.ValidateOnly = true
	wantCode(t, "validate only", ask[*kmsg.IncrementalAlterConfigsResponse](w, 1, dry).Resources[0].ErrorCode, nil)
	if got := plain.Config("cleanup.policy"); got != "delete,compact" {
		t.Errorf("validate_only made cleanup.policy %s", got)
	}
	wantCode(t, "AlterConfigs", ask[*kmsg.AlterConfigsResponse](w, 2, alterOf(ofBroker, "1", is("log.retention.ms", "7000"))).Resources[0].ErrorCode, nil)
	if got := plain.Config("cleanup.policy") + " " + plain.Config("retention.ms"); got != "delete 7000" {
		t.Errorf("AlterConfigs replaces all: %s", got)
	}
}

func TestConnectionLimitsChangeAtRunTime(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	addr := listen(t, s)
	w := dial(t, addr)
	alterBroker(w, "", is("max.connections.per.ip", "1"))
	dial(t, addr).wantClosed()
	alterBroker(w, "1", is("max.connections.per.ip", "2"))
	ask[*kmsg.ApiVersionsResponse](dial(t, addr), 3, apiVersionsRequest())
	alterBroker(w, "1", is("max.connections", "2"), is("max.connections.per.ip", "10"))
	dial(t, addr).wantClosed()
}

// What tunes the log is in force at once, and again after a restart before anything is
// deleted by it.
func TestTuningChangesAtRunTime(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	file := topics.Tuning()
	w := pipe(t, s)
	alterBroker(w, "", is("log.cleaner.io.max.bytes.per.second", "1000"), is("log.cleaner.backoff.ms", "20000"), is("producer.id.expiration.ms", "90000"))
	alterBroker(w, "1", is("log.cleaner.dedupe.buffer.size", "4096"))
	want := topic.Tuning{CleanerInterval: 20 * time.Second, CleanerMapBytes: 4096, CleanerIOBytesPerSecond: 1000, ProducerExpiration: 90 * time.Second}
	if got := topics.Tuning(); got != want {
		t.Errorf("in force is %+v, want %+v", got, want)
	}
	if got := described(w, ofBroker, "1", "producer.id.expiration.ms"); got != "90000 DYNAMIC_DEFAULT_BROKER_CONFIG: producer.id.expiration.ms=90000 DYNAMIC_DEFAULT_BROKER_CONFIG, producer.id.expiration.ms=86400000 DEFAULT_CONFIG" {
		t.Error(got)
	}
	for name, value := range map[string]string{"log.cleaner.backoff.ms": "1", "log.cleaner.dedupe.buffer.size": "much", "producer.id.expiration.ms": "-1", "group.max.size": "3", "transactional.id.expiration.ms": "90000"} {
		got := ask[*kmsg.IncrementalAlterConfigsResponse](w, 1, incrementOf(ofBroker, "", is(name, value))).Resources[0]
		wantCode(t, name, got.ErrorCode, kerr.InvalidRequest)
	}
	for _, name := range []string{"log.cleaner.io.max.bytes.per.second", "log.cleaner.backoff.ms", "producer.id.expiration.ms"} {
		alterBroker(w, "", setting{name, kmsg.IncrementalAlterConfigOpDelete, nil})
	}
	alterBroker(w, "1", setting{"log.cleaner.dedupe.buffer.size", kmsg.IncrementalAlterConfigOpDelete, nil})
	if got := topics.Tuning(); got != file {
		t.Errorf("taken back: %+v, the file says %+v", got, file)
	}
}
