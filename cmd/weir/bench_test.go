package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/console"
)

func TestBenchFleetCountsItsAcks(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	var st console.Status
	if err := json.Unmarshal([]byte(s.run("", "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	out, errs, code := weir(t, "", "bench", "fleet", "--devices", "4", "--rate", "200", "--duration", "300ms", "--seed", "7",
		"--mqtt", st.Addresses["mqtt"], "--replay", "../../testbed/fleet/data/seattle-weather-hourly-normals.csv", "--json")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var r struct{ Sent, Acked, Unacked, Seed int64 }
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.Acked == 0 || r.Acked != r.Sent || r.Unacked != 0 || r.Seed != 7 {
		t.Errorf("report %s", out)
	}
	if err := json.Unmarshal([]byte(s.run("", "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	if st.Totals.MessagesAcked != r.Acked {
		t.Errorf("the appliance acked %d messages, the devices count %d", st.Totals.MessagesAcked, r.Acked)
	}
	out, errs, code = weir(t, "", "bench", "fleet", "--devices", "2", "--rate", "50", "--duration", "200ms", "--mqtt", st.Addresses["mqtt"])
	if code != exitOK || !strings.Contains(out, "readings sent") || !strings.Contains(out, "ack delay: median") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestBenchErrorsNameTheMend(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte("date,wind\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"fleet", "--mqtt", "127.0.0.1:1", "--duration", "100ms"}, exitUnreachable, "is weir serve running?"},
		{[]string{"fleet", "--devices", "99999"}, exitUsage, "give 1 to 10000"},
		{[]string{"fleet", "--replay", "no-such.csv"}, exitUsage, "no-such.csv"},
		{[]string{"fleet", "--replay", bad}, exitUsage, `no column "pressure"`},
		{[]string{"demo", "--plugin", "no-such.wasm"}, exitUsage, "run make guests"},
	} {
		_, errs, code := weir(t, "", append([]string{"bench"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("weir bench %s: exit %d, want %d: %s", strings.Join(c.args, " "), code, c.code, errs)
		}
	}
}
