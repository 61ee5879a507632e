package compat_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/site"
)

// An edge mirrors into an appliance as weir init makes one: over TLS that it checks by
// the authority's file, as a user who may write what it mirrors.
func TestMirrorIntoSecuredWeir(t *testing.T) {
	target := startSecured(t)
	for _, mechanism := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			name := strings.ToLower(mechanism)
			login := map[string]string{}
			for _, kv := range target.user(t, name, mechanism, "all --topic "+name+". --prefixed", "all --topic weir-mirror-positions."+name+". --prefixed") {
				k, v, _ := strings.Cut(kv, "=")
				login[k] = v
			}
			config := fmt.Sprintf("site: %s\nmirror:\n  flows:\n  - name: up\n    to: [%q]\n    topics: [readings]\n    tls: {enable: true, ca: %q}\n    sasl: {mechanism: %s, username: %q, password: %q}\n",
				name, login["BOOTSTRAP"], login["CA_FILE"], mechanism, name, login["SASL_PASSWORD"])
			edge, err := site.Start(t.Context(), site.Options{Dir: t.TempDir() + "/data", Config: config})
			if err != nil {
				t.Fatal(err)
			}
			defer edge.Kill()
			if _, err := edge.Command(t.Context(), "produce", "--kafka", edge.Addresses().Kafka, "readings", "one", "two"); err != nil {
				t.Fatal(err)
			}
			awaitTopic(t, target, name+".readings")
			out := target.weir(t, "consume", name+".readings", "--from", "start", "-n", "2", "-f", "%v\n")
			if out != "one\ntwo\n" {
				t.Errorf("the target has %q\n%s", out, edge.Output())
			}
		})
	}
}

// awaitTopic returns once the mirror has made its topic at the target.
func awaitTopic(t *testing.T, b *secured, name string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(b.weir(t, "topic", "list"), name); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no topic %s at the target after a minute", name)
		}
	}
}
