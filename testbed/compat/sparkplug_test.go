package compat_test

import (
	"os"
	"strings"
	"testing"
)

// The clients of mosquitto as edge node and host: a sequence number that is not the next
// one brings the request for a birth to the node, and a mark to the record.
func TestSparkplugWithMosquitto(t *testing.T) {
	s := startWeir(t, "mqtt:\n  sparkplug: {enable: true}\nroutes:\n  - {filter: 'spBv1.0/{group}/{type}/{node}/{device...}', topic: edge, key: '{group}/{node}/{type}'}\n")
	host, port := hostPort(s.Addresses().MQTT)
	at := []string{"-h", host, "-p", port}
	sub := command(t, "mosquitto_sub", append(at, "-t", "spBv1.0/+/NCMD/#", "-C", "1", "-F", "%t %x")...)
	var got strings.Builder
	sub.Stdout = &got
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "mosquitto_sub subscribes", func() bool { return subscriptions(t, s) > 0 })
	file := t.TempDir() + "/payload"
	for _, m := range []struct{ kind, payload string }{
		{"NBIRTH", "\x08\x01\x12\x09\x0a\x05bdSeq\x58\x07\x18\x00"},
		{"NDATA", "\x08\x02\x18\x01"},
		{"NDATA", "\x08\x03\x18\x05"},
	} {
		if err := os.WriteFile(file, []byte(m.payload), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "", "mosquitto_pub", append(at, "-q", "1", "-t", "spBv1.0/plant/"+m.kind+"/press", "-f", file)...)
	}
	err := sub.Wait()
	topic, payload, _ := strings.Cut(strings.TrimSpace(got.String()), " ")
	if want := "0a144e6f646520436f6e74726f6c2f52656269727468200b7001"; err != nil || topic != "spBv1.0/plant/NCMD/press" || !strings.HasSuffix(payload, want) {
		t.Errorf("%v: %s %s, want an end of %s", err, topic, payload, want)
	}
	log := kcat(t, s, "", "-C", "-t", "edge", "-o", "beginning", "-e", "-f", "%k %h\n")
	var marks []string
	for line := range strings.Lines(log) {
		key, headers, _ := strings.Cut(line, " ")
		if strings.Contains(headers, "mqtt.sparkplug-stale=true") {
			key += "!"
		}
		if key != "plant/press/NCMD" { // which may overtake its cause
			marks = append(marks, key)
		}
	}
	if got, want := strings.Join(marks, " "), "plant/press/NBIRTH plant/press/NDATA plant/press/NDATA!"; got != want {
		t.Errorf("records are %s, want %s", got, want)
	}
	if _, body, err := s.Get(t.Context(), "/v1/status"); err != nil || !strings.Contains(string(body), `"name":"plant/press"`) && !strings.Contains(string(body), `"name": "plant/press"`) {
		t.Errorf("status: %v\n%s", err, body)
	}
}
