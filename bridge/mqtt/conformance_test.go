package mqtt_test

import (
	"bufio"
	"bytes"
	"embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// The conformance suite: testdata/conformance lists every normative statement of MQTT
// 5.0 and 3.1.1 in our words, and the cases that show it; conformance_*_test.go has the
// cases. docs/MQTT-CONFORMANCE.md is made of both and of the results:
//
//	go test ./bridge/mqtt -run TestConformance -update

var update = flag.Bool("update", false, "write docs/MQTT-CONFORMANCE.md anew")

//go:embed testdata/conformance
var statementFiles embed.FS

// statement is one line of the lists: number | whose duty | what | cases.
type statement struct {
	id, who, text string
	cases         []string // "-": outside of this package's reach
}

// kit is what a case works with: a box of its own and the version under test.
type kit struct {
	*box
	v packet.Version
	t *testing.T
}

// five reports whether the case runs for MQTT 5.
func (k *kit) five() bool { return k.v == v5 }

// pick returns what is expected of MQTT 5 or of 3.1.1.
func (k *kit) pick(five, three string) string {
	if k.five() {
		return five
	}
	return three
}

// in connects a client by the version under test.
func (k *kit) in(id string, change ...func(*packet.Connect)) *client {
	k.t.Helper()
	return k.client(k.v, id, change...)
}

// sub subscribes and takes the SUBACK.
func (k *kit) sub(c *client, filters ...string) {
	k.t.Helper()
	c.send(subscribe(k.v, 60000, filters...))
	if got := c.next(); !strings.HasPrefix(got, "SUBACK #60000") {
		k.t.Fatal(got)
	}
}

// refused sends bytes on a new connection and expects the connection to end, MQTT 5
// with the reason in a DISCONNECT.
func (k *kit) refused(reason string, packets ...[]byte) {
	k.t.Helper()
	c := k.in("refused")
	c.send(packets...)
	got := c.next()
	if k.five() && got != "DISCONNECT "+reason {
		k.t.Errorf("%x: got %s, want DISCONNECT %s", packets, got, reason)
	}
	if k.five() {
		got = c.next()
	}
	if got != "closed" {
		k.t.Errorf("%x: %s, want the end of the connection", packets, got)
	}
}

func statements(t *testing.T, version string) (out []statement) {
	t.Helper()
	b, err := statementFiles.ReadFile("testdata/conformance/" + version + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Split(s.Text(), "|")
		if len(f) != 4 {
			t.Fatalf("%s: %q is not number | who | text | cases", version, s.Text())
		}
		st := statement{id: strings.TrimSpace(f[0]), who: strings.TrimSpace(f[1]), text: strings.TrimSpace(f[2]), cases: strings.Fields(f[3])}
		if len(st.cases) == 0 && st.who != "client" {
			t.Errorf("%s: [MQTT-%s] has no case and is not the client's alone", version, st.id)
		}
		out = append(out, st)
	}
	return out
}

// TestConformance runs every case for the versions that name it, and holds the page
// against what came of them.
func TestConformance(t *testing.T) {
	cases := map[string]func(*kit){}
	for _, set := range []map[string]func(*kit){connectCases, publishCases, deliveryCases, subscribeCases, sessionCases, formCases, websocketCases} {
		for name, run := range set {
			if cases[name] != nil {
				t.Fatalf("two cases are called %s", name)
			}
			cases[name] = run
		}
	}
	results := map[string]string{}
	used := map[string]bool{}
	for _, version := range []string{"5.0", "3.1.1"} {
		v := v5
		if version == "3.1.1" {
			v = v3
		}
		for _, st := range statements(t, version) {
			for _, name := range st.cases {
				key := version + " " + name
				if used[name] = true; name == "-" || results[key] != "" {
					continue
				}
				run := cases[name]
				if run == nil {
					t.Errorf("%s: [MQTT-%s] names the case %s, which there is not", version, st.id, name)
					continue
				}
				results[key] = "fails"
				if t.Run(version+"/"+name, func(t *testing.T) {
					b := newBox(t)
					run(&kit{box: b, v: v, t: t})
					if b.srv != nil {
						b.stop()
					}
				}) {
					results[key] = "holds"
				}
			}
		}
	}
	for name := range cases {
		if !used[name] {
			t.Errorf("case %s shows no statement", name)
		}
	}
	holdPage(t, results)
}

func holdPage(t *testing.T, results map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString(pageHead)
	for _, version := range []string{"5.0", "3.1.1"} {
		list := statements(t, version)
		counts := map[string]int{}
		var rows strings.Builder
		for _, st := range list {
			result := resultOf(version, st, results)
			counts[result]++
			fmt.Fprintf(&rows, "| MQTT-%s | %s | %s | %s | %s |\n", st.id, st.who, st.text, strings.Join(st.cases, ", "), result)
		}
		fmt.Fprintf(&b, "\n## MQTT %s\n\n%d statements: %d hold, %d fail, %d are the client's alone, %d lie outside of the suite.\n\n"+
			"| statement | whose | what | cases | result |\n|---|---|---|---|---|\n%s",
			version, len(list), counts["holds"], counts["fails"], counts["client"], counts["–"], rows.String())
	}
	path := filepath.Join("..", "..", "docs", "MQTT-CONFORMANCE.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf("%s is out of date (%v): go test ./bridge/mqtt -run TestConformance -update", path, err)
	}
}

func resultOf(version string, st statement, results map[string]string) string {
	if len(st.cases) == 0 {
		return "client"
	}
	result := "–"
	for _, name := range st.cases {
		switch r := results[version+" "+name]; {
		case r == "fails":
			return r
		case r != "":
			result = r
		}
	}
	return result
}

const pageHead = `# MQTT conformance

Every normative statement of MQTT 5.0 and 3.1.1 by its number, in our words (the
standard's are in its appendix B), with the cases of ` + "`bridge/mqtt/conformance_*_test.go`" + ` that
show it. This page is made of the suite's results (` + "`go test ./bridge/mqtt -run TestConformance -update`" + `);
the suite fails when it is out of date.

"Whose" is who is bound: the server, the client or both. A statement that binds clients
has a case where the server has an answer to clients that break it; those without one
are the client's alone. Weir as a client of another broker is another part's and is
tested there.
`
