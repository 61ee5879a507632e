package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka's quota of a client id holds for the MQTT client of that identifier, from the
// moment on when it is set, and for no other.
func TestClientQuotaHoldsForMQTT(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	metered, other := connected(t, s, "meter-7"), connected(t, s, "meter-8")
	burst(t, metered, 30)
	settle(t, metered) // all before it are decided
	if n := s.lostByQuota(); n != "0" {
		t.Fatalf("%s messages are lost before there is a quota", n)
	}
	s.setQuota("meter-7", 1)
	burst(t, other, 30)
	settle(t, other)
	if n := s.lostByQuota(); n != "0" {
		t.Fatalf("%s messages of a client without a quota are lost", n)
	}
	burst(t, metered, 30)
	deadline := time.Now().Add(time.Minute)
	for s.lostByQuota() != "29" { // the first owes nothing yet
		if time.Now().After(deadline) {
			t.Fatalf("%s messages are lost, want 29", s.lostByQuota())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func connected(t *testing.T, s *site, id string) paho.Client {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + s.mqtt).SetClientID(id).SetAutoReconnect(false))
	if err := settled(c.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// burst publishes n messages of a KiB at QoS 0.
func burst(t *testing.T, c paho.Client, n int) {
	t.Helper()
	for range n {
		if err := settled(c.Publish("t", 0, false, strings.Repeat("x", 1<<10))); err != nil {
			t.Fatal(err)
		}
	}
}

func settle(t *testing.T, c paho.Client) {
	t.Helper()
	if err := settled(c.Publish("t", 1, false, "last")); err != nil {
		t.Fatal(err)
	}
}

func (s *site) setQuota(clientID string, bytesPerSecond float64) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	done, err := kadm.NewClient(cl).AlterClientQuotas(s.t.Context(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &clientID}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: bytesPerSecond}},
	}})
	if err != nil || done[0].Err != nil {
		s.t.Fatal(err, done)
	}
}

func (s *site) lostByQuota() string {
	s.t.Helper()
	resp, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(body), `weir_mqtt_qos0_lost_total{reason="quota"} `)
	n, _, _ := strings.Cut(rest, "\n")
	return n
}
