package compat_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// Kafka's own DumpLogSegments reads segments with transactions and their markers, and
// decodes what the coordinator has written.
func TestKafkaReadsOurTransactions(t *testing.T) {
	compat.Require(t)
	dir := filepath.Join(t.TempDir(), "data")
	s, err := site.Start(t.Context(), site.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	makeTopic(t, s, "t", 1)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.TransactionalID("the-id"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("in a transaction")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	out := dump(t, dir, ".log", "--print-data-log", "--deep-iteration")
	if n := strings.Count(out, "endTxnMarker: COMMIT"); n != 2 {
		t.Errorf("the tool sees %d markers that commit, want 2:\n%s", n, out)
	}
	if n := strings.Count(out, "endTxnMarker: ABORT"); n != 1 {
		t.Errorf("the tool sees %d markers that abort, want 1:\n%s", n, out)
	}
	if n := strings.Count(out, "isTransactional: true"); n != 6 {
		t.Errorf("the tool sees %d transactional batches, want 6:\n%s", n, out)
	}
	states, err := filepath.Glob(filepath.Join(dir, "topics", "__transaction_state-0", "*.log"))
	if err != nil || len(states) == 0 {
		t.Fatal("no segment of __transaction_state", err)
	}
	slices.Sort(states)
	out, err = compat.Tool("kafka.tools.DumpLogSegments", "--files", strings.Join(states, ","), "--transaction-log-decoder")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"transactionalId":"the-id"`, `"transactionStatus":1,"transactionPartitions":[{"topic":"t","partitionIds":[0]}]`,
		`"transactionStatus":2`, `"transactionStatus":3`, `"transactionStatus":4`, `"transactionStatus":5`, `"clientTransactionVersion":2`} {
		if !strings.Contains(out, want) {
			t.Errorf("the tool does not read %q in __transaction_state:\n%s", want, out)
		}
	}
}
