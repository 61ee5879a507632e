package compat_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
)

// The page's part on clients is what this run has seen: testbed/compat/seen.md,
// which docs/COMPATIBILITY.md includes.
var update = flag.Bool("update", false, "write anew what docs/COMPATIBILITY.md says of clients (make compat-table)")

const seenPage = "seen.md"

// results gather what passed.
type results struct {
	mu      sync.Mutex
	clients map[string]*clientResults
}

type clientResults struct {
	codec                                          string
	group, consumer, admin, transactions, security bool
}

func newResults() *results { return &results{clients: map[string]*clientResults{}} }

// client is the line of a client, by its name and version.
func (r *results) client(name string) *clientResults {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &clientResults{}
	r.clients[name] = c
	return c
}

func (c *clientResults) codecs(codecs []string) {
	if c.codec = strings.Join(codecs, ", "); len(codecs) == len(allCodecs) {
		c.codec = "all"
	}
}

func (r *results) page() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	b.WriteString("Each with its library's defaults, against one appliance that serves them all at the same time (`make compat`). A member of the group of\n" +
		"three is killed by SIGKILL; all records are seen, and when the others have left, all offsets are committed. SASL is PLAIN, SCRAM-SHA-256\n" +
		"and SCRAM-SHA-512, each by a user of its own, who is refused what no rule allows.\n\n")
	b.WriteString("| client | produces with | group of three, one killed | the same by KIP-848 | admin | transactions | SASL over TLS |\n|---|---|---|---|---|---|---|\n")
	var names []string
	for name := range r.clients {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for _, name := range names {
		c := r.clients[name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", name, c.codec, mark(c.group), mark(c.consumer), mark(c.admin), mark(c.transactions), mark(c.security))
	}
	fmt.Fprintf(&b, "\nThe command line tools of Apache Kafka %s do an administrator's work: %s.\n\n", strings.Join(compat.JavaVersions, " and "), strings.Join(slices.Sorted(maps.Keys(toolsUsed())), ", "))
	b.WriteString("The integration tests of franz-go itself pass (TestGroupETL and TestTxnEtl among them), but the one by which an expression matches internal topics.\n\n")
	fmt.Fprintf(&b, "Kafka Streams %[1]s counts words with `exactly_once_v2`, and a Kafka Connect %[1]s worker carries a file into a topic and out of it with exactly-once\n"+
		"sources; both are killed by SIGKILL meanwhile, and nothing is lost or there twice.\n\n", compat.JavaVersions[len(compat.JavaVersions)-1])
	return b.String()
}

func toolsUsed() map[string]bool {
	used := map[string]bool{}
	for _, st := range slices.Concat(toolSteps, accessSteps) {
		used[st.tool] = true
	}
	return used
}

func mark(seen bool) string {
	if seen {
		return "yes"
	}
	return "-"
}

// compare makes sure that the page says what was seen, if everything was run.
func (r *results) compare(t *testing.T) {
	t.Helper()
	if flag.Lookup("test.run").Value.String() != "" && !*update {
		return
	}
	page := r.page()
	if *update {
		if err := os.WriteFile(seenPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(seenPage); err != nil || string(old) != page {
		t.Errorf("%s does not say what was seen (%v): make compat-table writes it anew. Seen:\n%s", seenPage, err, page)
	}
}
