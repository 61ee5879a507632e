package compat_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// Every MQTT client passes the same checks by both versions, and what it published
// with QoS 2 is in the log once.
func TestMQTTClients(t *testing.T) {
	s := startWeir(t, "")
	host, port := hostPort(s.Addresses().MQTT)
	for name, driver := range map[string]func(t *testing.T) compat.Driver{
		"paho-python": func(t *testing.T) compat.Driver { return compat.Python(t, "paho_mqtt") },
		"mqtt.js":     func(t *testing.T) compat.Driver { return compat.Node(t, "mqttjs.cjs") },
	} {
		t.Run(name, func(t *testing.T) {
			d, env := driver(t), []string{"MQTT_HOST=" + host, "MQTT_PORT=" + port}
			t.Log(strings.TrimSpace(drive(t, d, env, "version")))
			for _, level := range []string{"3.1.1", "5"} {
				prefix := name + "-" + level
				drive(t, d, env, "mqtt", level, prefix)
				onceInTheLog(t, kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%k|%s\n`), prefix+"/t/2|q2-", 200)
			}
		})
	}
}

// onceInTheLog wants n lines that begin with a prefix, all of them different.
func onceInTheLog(t *testing.T, log, prefix string, n int) {
	t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, prefix) {
			seen[line]++
		}
	}
	for line, times := range seen {
		if times != 1 {
			t.Errorf("%s is in the log %d times", strings.TrimSpace(line), times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d messages %s… are in the log", len(seen), n, prefix)
	}
}

// The clients of mosquitto publish and subscribe with every QoS by both versions.
func TestMosquittoQoS2(t *testing.T) {
	s := startWeir(t, "")
	host, port := hostPort(s.Addresses().MQTT)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for qos := range 3 {
			topic := fmt.Sprintf("m/%s/%d", version, qos)
			at := []string{"-h", host, "-p", port, "-V", version, "-q", fmt.Sprint(qos), "-t", topic}
			sub := command(t, "mosquitto_sub", append(at, "-i", "sub-"+version, "-c", "-C", "200")...)
			var got strings.Builder
			sub.Stdout = &got
			before := subscriptions(t, s)
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "mosquitto_sub subscribes", func() bool { return subscriptions(t, s) > before })
			sent := lines("v", 200)
			run(t, sent, "mosquitto_pub", append(at, "-i", "pub-"+version, "-l")...)
			if err := sub.Wait(); err != nil || got.String() != sent {
				t.Errorf("%s, QoS %d: %v, got\n%.200s", version, qos, err, got.String())
			}
			waitUntil(t, "mosquitto_sub has gone", func() bool { return subscriptions(t, s) == before })
			if qos == 2 {
				onceInTheLog(t, kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%k|%s\n`), topic+"|", 200)
			}
		}
	}
}

// subscriptions is how many there are of connected MQTT sessions.
func subscriptions(t *testing.T, s *site.Site) (n int) {
	t.Helper()
	_, body, err := s.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(body), "\nweir_mqtt_subscriptions ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
