package compat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// guarded is an appliance with a listener that wants TLS and a login, beside one that
// the tests administer it by.
type guarded struct {
	site          *site.Site
	open, secured string // addresses
	ca            string
	password      string // of the user "client"
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	compat.Require(t)
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{}
	host, dir := site.LoopbackHost(), filepath.Join(t.TempDir(), "box")
	if out, err := exec.CommandContext(t.Context(), binary, "init", dir, "--host", host).CombinedOutput(); err != nil {
		t.Fatalf("weir init: %v\n%s", err, out)
	}
	g.ca = filepath.Join(dir, "pki", "ca.crt")
	config := fmt.Sprintf("tls: {cert: %q, key: %q}\nauth: {allow.everyone.if.no.acl.found: \"true\"}\n",
		filepath.Join(dir, "pki", "server.crt"), filepath.Join(dir, "pki", "server.key"))
	g.site, err = site.Start(t.Context(), site.Options{Dir: t.TempDir() + "/data", Config: config, Host: host, Args: []string{"--kafka", "SASL_SSL://" + host + ":0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.site.Kill()
		if t.Failed() {
			t.Logf("weir's log:\n%s", g.site.Output())
		}
	})
	g.open, g.secured, _ = strings.Cut(g.site.Addresses().Kafka, ",")
	out, err := g.site.Command(t.Context(), "user", "add", "client", "--json", "--kafka", g.open)
	var made struct{ Password string }
	if err != nil || json.Unmarshal(out, &made) != nil {
		t.Fatalf("weir user add: %v\n%s", err, out)
	}
	g.password = made.Password
	return g
}

func (g *guarded) env(mechanism, password string) []string {
	return []string{"BOOTSTRAP=" + g.secured, "SASL_MECHANISM=" + mechanism, "SASL_USERNAME=client", "SASL_PASSWORD=" + password, "CA_FILE=" + g.ca}
}

// wrongPasswordTime is how long a client may try in vain.
const wrongPasswordTime = 10 * time.Second

// mechanisms that every client has.
var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// security: the client logs in over TLS by each mechanism, and writes; and does not
// with a wrong password.
func (c *checked) security(t *testing.T) {
	for _, m := range mechanisms {
		topic := c.topic(m)
		if _, err := c.guarded.site.Command(t.Context(), "topic", "create", topic+"-none", "--kafka", c.guarded.open); err != nil {
			t.Fatal(err)
		}
		drive(t, c.d, c.guarded.env(m, c.guarded.password), "produce", topic, "100", "none")
		total := int64(0)
		for _, end := range kadmEnds(t, c.guarded.open, topic+"-none") {
			total += end
		}
		if total != 100 {
			t.Errorf("%s: %d records, 100 were written", m, total)
		}
	}
	// Clients try again for a long time; that they get nowhere is what is seen here.
	ctx, cancel := context.WithTimeout(t.Context(), wrongPasswordTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.d.Argv[0], append(slices.Clone(c.d.Argv[1:]), "produce", c.topic("PLAIN"), "1", "none")...)
	cmd.Env = slices.Concat(os.Environ(), c.d.Env, c.guarded.env("SCRAM-SHA-256", "wrong"))
	if err := cmd.Run(); err == nil {
		t.Error("a wrong password is taken")
	}
	c.results.security = true
}
