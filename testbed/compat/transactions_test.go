package compat_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
)

// A transaction whose producer is gone is found by Kafka's own tool, and aborted by it.
func TestKafkaTransactionsAbortsOne(t *testing.T) {
	t.Parallel()
	s := startWeir(t, "")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.AllowAutoTopicCreation(), kgo.TransactionalID("gone"), kgo.TransactionTimeout(10*time.Minute), kgo.DefaultProduceTopic("hung"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("never")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	version := compat.JavaVersions[len(compat.JavaVersions)-1]
	for _, st := range []step{
		{"kafka-transactions", "--bootstrap-server {broker} list", "", `gone\s.*Ongoing`},
		{"kafka-transactions", "--bootstrap-server {broker} describe --transactional-id gone", "", `hung-0`},
		{"kafka-transactions", "--bootstrap-server {broker} find-hanging --broker-id 1", "", `ProducerId`},
		{"kafka-transactions", "--bootstrap-server {broker} abort --topic hung --partition 0 --start-offset 0", "", ``},
		{"kafka-transactions", "--bootstrap-server {broker} describe-producers --topic hung --partition 0", "", `None`},
	} {
		st.run(t, version, s, t.TempDir())
	}
}
