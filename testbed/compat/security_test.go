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

// secured is an appliance as weir init makes one: TLS and a login.
type secured struct {
	s          *site.Site
	ca         string
	properties string // the administrator's, for weir and other clients of librdkafka
	password   string
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	compat.Require(t)
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "box")
	out, err := exec.Command(binary, "init", dir, "--json").Output()
	if err != nil {
		t.Fatalf("weir init: %v", err)
	}
	var made struct {
		Config, Password, CA string
		Client               string `json:"client_properties"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(made.Config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.Start(t.Context(), site.Options{Dir: filepath.Join(dir, "data"), Config: string(config), Protocol: "SASL_SSL", User: "admin", Password: made.Password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the secured weir's log:\n%s", s.Output())
		}
	})
	return &secured{s, made.CA, made.Client, made.Password}
}

// weir runs a command as the administrator.
func (b *secured) weir(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.s.Command(t.Context(), append(args, "--client", b.properties, "--kafka", b.s.Addresses().Kafka)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// user makes a user with the rules given, and returns its environment for a driver.
func (b *secured) user(t *testing.T, name, mechanism string, rules ...string) []string {
	t.Helper()
	var made struct{ Password string }
	if err := json.Unmarshal([]byte(b.weir(t, "user", "add", name, "--json")), &made); err != nil || made.Password == "" {
		t.Fatalf("weir user add: %v", err)
	}
	for _, rule := range rules {
		b.weir(t, append([]string{"acl", "add", name}, strings.Fields(rule)...)...)
	}
	return []string{"BOOTSTRAP=" + b.s.Addresses().Kafka, "SASL_MECHANISM=" + mechanism, "SASL_USERNAME=" + name, "SASL_PASSWORD=" + made.Password, "CA_FILE=" + b.ca}
}

// mechanisms are the logins that each client shows.
var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// security: the client logs in by each mechanism over TLS and writes and reads what
// its user may; what it may not it is refused, and so is a wrong password.
func (c *checked) security(t *testing.T) {
	const n = 20
	for _, mechanism := range mechanisms {
		topic := c.topic(strings.ToLower(mechanism))
		c.secured.weir(t, "topic", "create", topic+"-none", "-p", "1")
		env := c.secured.user(t, topic, mechanism, "read write --topic "+topic+" --prefixed", "read --group "+topic)
		drive(t, c.d, env, "produce", topic, fmt.Sprint(n), "none")
		if mechanism == mechanisms[0] {
			seen := &collector{lines: map[string]int{}}
			m := c.join(t, seen, 0, topic, topic+"-none", env...)
			seen.wait(t, n)
			m.leave(t)
			c.secured.weir(t, "topic", "create", c.f.name+"-forbidden-none", "-p", "1")
			if out, err := tryDrive(t, c.d, env, "produce", c.f.name+"-forbidden", "1", "none"); err == nil {
				t.Errorf("the client writes to a topic that its user may not write to\n%s", out)
			}
		}
	}
	c.wrongPassword(t)
	if end := c.secured.end(t, c.f.name+"-forbidden-none"); end != 0 {
		t.Errorf("%d records stand in a topic that the user may not write to", end)
	}
	c.results.security = true
}

// wrongPasswordTime is how long a client may try in vain.
const wrongPasswordTime = 10 * time.Second

// wrongPassword: clients try again for a long time; that they get nowhere is what is seen here.
func (c *checked) wrongPassword(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), wrongPasswordTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.d.Argv[0], append(slices.Clone(c.d.Argv[1:]), "produce", c.topic("plain"), "1", "none")...)
	cmd.Env = slices.Concat(os.Environ(), c.d.Env, []string{"BOOTSTRAP=" + c.secured.s.Addresses().Kafka, "SASL_MECHANISM=SCRAM-SHA-256",
		"SASL_USERNAME=" + c.topic("plain"), "SASL_PASSWORD=wrong", "CA_FILE=" + c.secured.ca})
	cmd.WaitDelay = time.Second // a script's children keep its output open
	if err := cmd.Run(); err == nil {
		t.Error("a wrong password is taken")
	}
}

// end is the end of a topic of one partition, as the administrator is shown it.
func (b *secured) end(t *testing.T, topic string) int64 {
	t.Helper()
	var d struct {
		Partitions []struct {
			End int64 `json:"high_watermark"`
		}
	}
	if err := json.Unmarshal([]byte(b.weir(t, "topic", "describe", topic, "--json")), &d); err != nil || len(d.Partitions) != 1 {
		t.Fatalf("weir topic describe %s: %+v, %v", topic, d, err)
	}
	return d.Partitions[0].End
}

// Kafka's own tools manage access rules and passwords.
func TestKafkasToolsManageAccess(t *testing.T) {
	t.Parallel()
	b := startSecured(t)
	dir := t.TempDir()
	properties := fmt.Sprintf(`security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-256
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="%s";
ssl.truststore.type=PEM
ssl.truststore.location=%s
`, b.password, b.ca)
	if err := os.WriteFile(filepath.Join(dir, "admin.properties"), []byte(properties), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range compat.JavaVersions {
		for _, st := range accessSteps {
			st.args = strings.ReplaceAll(st.args, "{user}", "java-"+version)
			st.run(t, version, b.s, dir)
		}
	}
}

const asAdmin = "--bootstrap-server {broker} --command-config {dir}/admin.properties "

var accessSteps = []step{
	{"kafka-acls", asAdmin + "--add --allow-principal User:{user} --operation Read --operation Write --topic orders", "", `ALLOW`},
	{"kafka-acls", asAdmin + "--add --deny-principal User:{user} --operation Write --topic invoices- --resource-pattern-type prefixed", "", `PREFIXED`},
	{"kafka-acls", asAdmin + "--list --principal User:{user}", "", `patternType=LITERAL(?s:.*)operation=READ|operation=READ(?s:.*)patternType=LITERAL`},
	{"kafka-acls", asAdmin + "--remove --force --allow-principal User:{user} --operation Write --topic orders", "", ``},
	{"kafka-configs", asAdmin + "--alter --entity-type users --entity-name {user} --add-config SCRAM-SHA-256=[iterations=4096,password=secret-{user}]", "", `Completed updating config for user`},
	{"kafka-configs", asAdmin + "--describe --entity-type users --entity-name {user}", "", `SCRAM-SHA-256=iterations=4096`},
	{"kafka-configs", asAdmin + "--alter --entity-type users --entity-name {user} --add-config producer_byte_rate=1000000", "", `Completed updating config for user`},
	{"kafka-configs", asAdmin + "--describe --entity-type users --entity-name {user}", "", `producer_byte_rate=1000000`},
	{"kafka-configs", asAdmin + "--alter --entity-type users --entity-name {user} --delete-config SCRAM-SHA-256", "", `Completed updating config for user`},
	{"kafka-configs", asAdmin + "--alter --entity-type users --entity-name {user} --delete-config producer_byte_rate", "", `Completed updating config for user`},
}
