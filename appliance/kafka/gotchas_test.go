package kafka_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// What brokers other than Kafka get wrong, and the tests that keep us from it. The
// folder of a test that is not of this package stands before its name.
var gotchas = []struct {
	what  string
	tests []string
}{
	{"ApiVersions: response header 0, error 35 in version 0's form, software names (KIP-511)", []string{"TestApiVersionsEveryVersion", "TestApiVersionsOfUnknownVersion", "TestApiVersionsChecksSoftwareName"}},
	{"header 2 keeps the client id as it was", []string{"TestFlexibleHeaderKeepsThePlainClientID"}},
	{"librdkafka detects features by the ranges advertised", []string{"TestAdvertisedRangesAreCoherent"}},
	{"topic ids everywhere, never zero, the same over restarts; topics made anew", []string{"TestAdvertisedRangesAreCoherent", "TestTopicsMadeAnewAreNotTheOld", "TestFetchSessionOfATopicMadeAnew", "TestFranzGoReadsATopicMadeAnew", "..:TestTopicIDsOutliveRestarts"}},
	{"leader epochs only grow, and none is checked against -1", []string{"../metadata:TestEpochGrows", "TestMetadataEveryVersion", "TestFetchErrors"}},
	{"never leader -1, not for a moment", []string{"TestATopicHasItsLeaderAtOnce"}},
	{"fetch sessions: bounded, evicted, and they keep the leader epoch", []string{"TestFetchSession", "TestFetchSessionErrors", "TestFetchSessionsAreBounded", "TestFetchSessionKeepsTheLeaderEpoch"}},
	{"Fetch: a whole batch over the limits, aborted transactions in order, max_wait and min_bytes", []string{"TestFetchGivesAWholeBatchOverTheLimits", "TestFetchListsAbortedTransactions", "TestFetchIsolation", "TestFetchWaitsForData", "TestFetchMinBytes"}},
	{"ListOffsets 0 is not offered", []string{"TestAdvertisedRangesAreCoherent"}},
	{"acks=0 is not answered; zstd is for those who know it", []string{"TestAcksZeroIsNotAnswered", "TestProduceErrors", "TestFetchBeforeVersion10DoesNotSeeZstd"}},
	{"versions are not coupled oddly", []string{"TestAdvertisedRangesAreCoherent"}},
	{"KIP-890 is gated on the feature transaction.version", []string{"TestFranzGoTransactions", "TestTransactionalProduceErrors"}},
	{"telemetry is not advertised; with ConsumerGroupHeartbeat comes all of KIP-848", []string{"TestAdvertisedRangesAreCoherent", "TestConsumerGroupAPIs"}},
	{"a producer id without transactions", []string{"TestProducerIDsWithoutTransactions"}},
	{"the address is the one the client dialled, unless configured", []string{"TestMetadataEveryVersion", "TestAdvertisedListener"}},
	{"a live controller, a cluster id, is_internal", []string{"TestMetadataEveryVersion", "TestInternalTopicsAreMarked"}},
	{"cleanup.policy=compact is taken and described with its sources", []string{"TestAdminOfTopics", "TestFranzGoReadsACompactedTopic"}},
	{"batches keep their bytes", []string{"TestBatchesKeepTheirBytes", "TestLogAppendTimeIsStamped"}},

	{"OffsetFetch of a group that never committed is -1 without an error", []string{"TestGroupAPIsEveryVersion"}},
	{"CreateTopics 5 and DescribeTopicPartitions as Java's admin client wants them", []string{"TestCreateTopicsAnswersJava", "TestDescribeTopicPartitions"}},
	{"no node id 0", []string{"TestMetadataEveryVersion"}},
	{"null keys in compacted topics", []string{"TestFranzGoReadsACompactedTopic"}},
	{"topic names and configs are checked", []string{"TestAdminOfTopics", "TestTopicsAreCreatedOnDemand"}},
	{"produce after fencing is fatal", []string{"TestTransactionalProducerIsFenced"}},
	{"a deny rule bites, for ANONYMOUS too", []string{"TestEveryAPIIsAuthorized"}},
	{"ElectLeaders with nothing to do is error 84", []string{"TestElectLeaders"}},
	{"DescribeConfigs of the broker lists advertised.listeners", []string{"TestAdminOfRecordsAndBroker"}},
	{"auto-creation and another advertised address, on and off", []string{"TestTopicsAreCreatedOnDemand", "TestAdvertisedListener"}},
	{"a request too old or unknown never hangs", []string{"TestUnknownRequestsCloseTheConnection", "TestProduceErrors"}},
}

// A row whose test has gone is a gotcha that can come back.
func TestGotchasAreCovered(t *testing.T) {
	text := map[string]string{}
	for _, g := range gotchas {
		for _, name := range g.tests {
			folder, test, ok := strings.Cut(name, ":")
			if !ok {
				folder, test = ".", name
			}
			if _, read := text[folder]; !read {
				files, _ := filepath.Glob(filepath.Join(folder, "*_test.go"))
				for _, file := range files {
					b, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					text[folder] += string(b)
				}
			}
			if !strings.Contains(text[folder], "func "+test+"(t *testing.T)") {
				t.Errorf("%s: there is no %s in %s", g.what, test, folder)
			}
		}
	}
}

// The client id of a flexible request is a plain nullable string with two bytes of
// length; who reads a compact one loses all that follows.
func TestFlexibleHeaderKeepsThePlainClientID(t *testing.T) {
	w := pipe(t, newServer(t, noTopics()))
	for _, id := range []string{"", "x", strings.Repeat("c", 300)} {
		b := []byte{0, 18, 0, 3, 0, 0, 0, 9}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(id))), id...)
		b = append(b, 0) // tagged fields of the header
		b = apiVersionsAt(3).AppendTo(b)
		w.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
		if resp := w.receive(apiVersionsAt(3), 9).(*kmsg.ApiVersionsResponse); resp.ErrorCode != 0 {
			t.Errorf("client id of %d bytes: error %d", len(id), resp.ErrorCode)
		}
	}
}

func apiVersionsAt(v int16) *kmsg.ApiVersionsRequest {
	req := apiVersionsRequest()
	req.SetVersion(v)
	return req
}

// librdkafka that has once been told leader -1 stays without one (vector#25375).
func TestATopicHasItsLeaderAtOnce(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	w := pipe(t, s)
	for range 20 {
		got := metadataOf(w, 12, true, "t").Topics[0]
		if got.ErrorCode != 0 || len(got.Partitions) != 1 || got.Partitions[0].Leader != 1 || got.Partitions[0].ErrorCode != 0 {
			t.Fatalf("the topic that was just made: %+v", got)
		}
		if err := topics.Delete("t"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProducerIDsWithoutTransactions(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{}) // no coordinator of transactions
	w := pipe(t, s)
	seen := map[int64]bool{}
	for v := int16(0); v <= 5; v++ {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.ProducerID, req.ProducerEpoch = -1, -1
		resp := ask[*kmsg.InitProducerIDResponse](w, v, req)
		if resp.ErrorCode != 0 || resp.ProducerID < 0 || resp.ProducerEpoch != 0 || seen[resp.ProducerID] {
			t.Errorf("v%d: %+v", v, resp)
		}
		seen[resp.ProducerID] = true
	}
}

func TestInternalTopicsAreMarked(t *testing.T) {
	w, _ := groupBroker(t)
	for _, got := range metadataOf(w, 12, false).Topics {
		if got.IsInternal != (*got.Topic == "__consumer_offsets") {
			t.Errorf("%s: is_internal %v", *got.Topic, got.IsInternal)
		}
	}
}

// A LogAppendTime topic stamps the batch; its CRC is right all the same.
func TestLogAppendTimeIsStamped(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	if _, err := topics.Create("t", topic.Spec{Configs: map[string]string{"message.timestamp.type": "LogAppendTime"}}); err != nil {
		t.Fatal(err)
	}
	w := pipe(t, s)
	if got := part(ask[*kmsg.ProduceResponse](w, 9, produceOf(-1, batchOf(t, record.None, "a")))); got.ErrorCode != 0 || got.LogAppendTime <= 1000 {
		t.Errorf("Produce: error %d, log append time %d", got.ErrorCode, got.LogAppendTime)
	}
	b := record.Batch(fetched(ask[*kmsg.FetchResponse](w, 12, fetchOf("t", 0, 0))).RecordBatches)
	if err := b.Validate(); err != nil || !b.LogAppendTime() || b.MaxTimestamp() <= 1000 {
		t.Errorf("%v, log append time %v, timestamp %d of a record of 1000", err, b.LogAppendTime(), b.MaxTimestamp())
	}
}
