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

const compatibilityPage = "../../docs/COMPATIBILITY.md"

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
- **Metadata ends at 9, Fetch at 12, Produce at 11, OffsetCommit and OffsetFetch at 9**: one step further each of them carries
  topic ids, and a broker must do so in all of them or in none.
- **No fetch sessions**: every Fetch answers session id 0, which the protocol allows; clients then name their partitions
  each time.
- **No transactions yet**: a transactional id is refused at FindCoordinator and InitProducerId with
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED, on which every client gives up at once. Idempotent producers work.
- **acks=1 means what acks=all means**: the answer follows the commit round that has the batch on stable storage.
- **Access rules are always in force**, also where nobody logs in: the client is User:ANONYMOUS then, and as long as no listener asks
  who clients are, what no rule is about is allowed (allow.everyone.if.no.acl.found). [security.md](security.md) says more.

## Clients seen to work

Each with its default settings against this table: kcat 1.7.1 and confluent-kafka-python 1.7.0 (librdkafka 2.0.2),
kafka-crab-js 5.0.0 (librdkafka again), kafkajs 2.2.4, @platformatic/kafka 1.35.0, franz-go 1.22.2. What of theirs does not
work is what is listed below. Over TLS with a login: kcat 1.7.1 (SCRAM-SHA-256, SCRAM-SHA-512, PLAIN) and franz-go (the same, client
certificates).

## Not served

Transactions (24-28), quotas (48, 49), the consumer group
protocol of KIP-848 (68, 69), telemetry (71, 72), share groups (76-79) and all that only brokers say to one another.
`

func compatibility() []byte {
	var b bytes.Buffer
	b.WriteString(compatibilityHead)
	for _, r := range kafka.Table() {
		advertised := fmt.Sprintf("%d-%d", r.AdvertisedMin, r.Max)
		fmt.Fprintf(&b, "| %d | %s | %d-%d | %s | %s | %s |\n", r.Key, r.Name, r.Min, r.Max, advertised, r.Needs, strings.ReplaceAll(r.Notes, "|", "\\|"))
	}
	b.WriteString(compatibilityTail)
	return b.Bytes()
}

func TestCompatibilityPageIsCurrent(t *testing.T) {
	if *update {
		if err := os.WriteFile(compatibilityPage, compatibility(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, compatibility()) {
		t.Error("docs/COMPATIBILITY.md is out of date: go test ./appliance/kafka -run Compatibility -update")
	}
}
