package compat_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/compat"
)

// franzGo is the module whose own tests are run, of the version that Weir itself uses.
const franzGo = "github.com/twmb/franz-go"

// notForWeir are integration tests of franz-go that Weir does not pass, and why.
var notForWeir = map[string]string{
	// A group that is given __consumer_offsets reads its own commits, and commits for it.
	"Test848RegexBrokerResolves": "an expression never matches internal topics here",
}

// skipThemselves are those that find something missing, and what.
var skipThemselves = map[string]string{
	"TestIssueProduceBrokerTooOldFailsRecords": "wants a broker that refuses old versions of Produce",
	"TestConsumeRegexShareSkipsInternal":       "share groups",
	"TestSCRAMAuth":                            "wants a second listener; TestSecuredClients logs in",
	"TestSCRAMAuthBadCredentials":              "the same",
}

// franzGoTests are those of its tests that want a broker. TestGroupETL and TestTxnEtl run
// chains of consumer groups, of both protocols and every assignor, that pass records on
// while members come and go, by transactions in the latter.
const franzGoTests = `^(Test848.*|TestAddRemovePartitions|TestClient_Produce.*|TestConsume.*|TestDirectPartitionPurge|TestGroup.*|TestHookPollStart|` +
	`TestIssue.*|TestPause.*|TestPing|TestPooling|TestSCRAM.*|TestTxnEtl|TestUnknownGroupOffsetFetchPinned)$`

// The integration tests of the Go client, as its authors run them against Apache Kafka.
func TestFranzGosOwnTests(t *testing.T) {
	compat.Require(t)
	s := startWeir(t, "kafka:\n  max.connections.per.ip: 512\n")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", franzGo).Output()
	if err != nil {
		t.Fatalf("find %s: %v", franzGo, err)
	}
	binary := filepath.Join(t.TempDir(), "kgo.test")
	source := filepath.Join(strings.TrimSpace(string(dir)), "pkg", "kgo")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, ".")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests of %s: %v\n%s", franzGo, err, out)
	}
	var except []string
	for name := range notForWeir {
		except = append(except, "^"+name+"$")
	}
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", franzGoTests, "-test.skip", strings.Join(except, "|"))
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+s.Addresses().Kafka, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=20000", "KGO_LOG_LEVEL=none")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("tests of %s: %v\n%s", franzGo, err, tail(out.String()))
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*--- SKIP: (\S+)`).FindAllStringSubmatch(out.String(), -1) {
		if skipThemselves[m[1]] == "" {
			t.Errorf("%s of %s was skipped", m[1], franzGo)
		}
	}
	if passed := strings.Count(out.String(), "--- PASS: "); passed < 50 {
		t.Errorf("%d tests of %s passed, there are more:\n%s", passed, franzGo, tail(out.String()))
	}
}

// tail is the end of a long text.
func tail(text string) string {
	const most = 8 << 10
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return text
}
