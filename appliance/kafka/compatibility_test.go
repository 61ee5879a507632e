package kafka_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/kafka"
)

var update = flag.Bool("update", false, "rewrite docs/COMPATIBILITY.md")

const (
	compatibilityPage = "../../docs/COMPATIBILITY.md"
	compatibilitySeen = "../../testbed/compat/seen.md" // what make compat saw of clients
)

const compatibilityHead = `# Kafka compatibility

The Kafka APIs that Weir serves. This page is made from the dispatch table in appliance/kafka; a test fails when it
is out of date (` + "`go test ./appliance/kafka -run Compatibility -update`" + ` rewrites it).

| key | API | versions | advertised | a client needs | notes |
|---:|---|---|---|---|---|
`

const compatibilityTail = `
A request of a key that is not in the table, or of a version outside its range, closes the connection with a line in the
log. ApiVersions and Produce are answered with UNSUPPORTED_VERSION instead.

## Why these versions

- **The range of Produce, FindCoordinator and JoinGroup begins at 0**, even where 0 is refused. Older librdkafka (2.0.2, kcat's in
  Debian 12) concludes from the lowest versions what the broker can do: without Produce 0 it sends gzip, snappy and lz4
  uncompressed, without FindCoordinator 0 it drops lz4.
- **The consumer protocol of KIP-848** (68, 69; ` + "`group.protocol=consumer`" + `) is served whole: server-side assignors uniform and range, static members,
  regular expressions by RE2, member epochs in OffsetCommit and OffsetFetch 9. A group goes over to the consumer protocol
  when its first member of that joins, and back when the last one leaves (` + "`group.consumer.migration.policy`" + `), as in Kafka; classic members beside others are served as
  consumers, with assignments of the broker's.
- **Topic ids are everywhere**: in Metadata from 10, Fetch and Produce from 13, OffsetCommit and OffsetFetch from 10. They
  never are zero and stay the same over restarts. A topic that is deleted and made again has another one, and whoever uses
  the old one is answered UNKNOWN_TOPIC_ID, or INCONSISTENT_TOPIC_ID within a fetch session, and asks for metadata anew.
- **Fetch sessions** (KIP-227) are kept as Kafka keeps them, up to ` + "`max.incremental.fetch.session.cache.slots`" + ` and 100,000 partitions
  in all of them together; who gets none, or wants none as librdkafka, names all partitions each time.
- **transaction.version=2 is finalized**: clients that know it (Java and librdkafka of Kafka 4.0, franz-go) have an epoch for
  each transaction and send neither AddPartitionsToTxn nor AddOffsetsToTxn (KIP-890). Older ones do as they always did.
- **Broker configs change at run time** (KIP-226) as far as the code honours it: the defaults of topics but those of flushing, which say what an
  acknowledgement means, the limits of connections, those of compaction and the life of producer ids. All others are read-only, and who sets them is told so (INVALID_REQUEST).
- **An expression never matches internal topics**, in the consumer protocol either: a group that is given ` + "`__consumer_offsets`" + ` reads its own commits.
- **acks=1 means what acks=all means**: the answer follows the commit round that has the batch on stable storage.
- **Access rules are always in force**, also where nobody logs in: the client is User:ANONYMOUS then, and as long as no listener asks
  who clients are, what no rule is about is allowed (allow.everyone.if.no.acl.found). [security.md](security.md) says more.

## Clients seen to work

{{seen}}
## Not served

Telemetry (71, 72), share groups (76-79) and all that only brokers say to one another.
`

func compatibility(seen []byte) []byte {
	var b bytes.Buffer
	b.WriteString(compatibilityHead)
	for _, r := range kafka.Table() {
		advertised := fmt.Sprintf("%d-%d", r.AdvertisedMin, r.Max)
		fmt.Fprintf(&b, "| %d | %s | %d-%d | %s | %s | %s |\n", r.Key, r.Name, r.Min, r.Max, advertised, r.Needs, strings.ReplaceAll(r.Notes, "|", "\\|"))
	}
	b.WriteString(strings.Replace(compatibilityTail, "{{seen}}\n", string(seen), 1))
	return b.Bytes()
}

func TestCompatibilityPageIsCurrent(t *testing.T) {
	seen, err := os.ReadFile(compatibilitySeen)
	if err != nil {
		t.Fatal(err)
	}
	want := compatibility(seen)
	if *update {
		if err := os.WriteFile(compatibilityPage, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, want) {
		t.Error("docs/COMPATIBILITY.md is out of date: go test ./appliance/kafka -run Compatibility -update")
	}
}
