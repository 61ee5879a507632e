package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// configured stops the box, adds to its configuration and starts it again.
func (s *secured) configured(change func(text string) string, flags ...string) {
	s.t.Helper()
	s.stop()
	file := filepath.Join(s.dir, "weir.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(change(string(text))), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.site = startSite(s.t, append([]string{"--config", file, "--kafka", "SASL_SSL://" + s.kafka, "--http", s.http}, flags...)...)
}

// certificate issues a client certificate.
func (s *secured) certificate(name string) tls.Certificate {
	s.t.Helper()
	pki := filepath.Join(s.dir, "pki")
	if _, errs, code := weir(s.t, "", "cert", "client", name, "--dir", pki); code != exitOK {
		s.t.Fatal(errs)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, name+".crt"), filepath.Join(pki, name+".key"))
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

// device is a real MQTT client that logs in as a user, or by a certificate.
func (s *secured) device(address, id, user, password string, certs ...tls.Certificate) (paho.Client, error) {
	o := paho.NewClientOptions().AddBroker("ssl://" + address).SetClientID(id).SetConnectRetry(false).SetAutoReconnect(false).SetProtocolVersion(4)
	o.SetTLSConfig(&tls.Config{RootCAs: s.pool, Certificates: certs})
	if user != "" {
		o.SetUsername(user).SetPassword(password)
	}
	c := paho.NewClient(o)
	return c, settled(c.Connect())
}

func settled(token paho.Token) error {
	if !token.WaitTimeout(20 * time.Second) {
		return errors.New("no answer")
	}
	return token.Error()
}

// Each listener lets in whom its entry says.
func TestListenersTakeWhatTheySay(t *testing.T) {
	s := initSecured(t)
	pump := s.addUser("pump-1")
	s.admin("acl", "add", "*", "publish", "--mqtt", "dev/%u/#")
	ports := freePorts(t, 3)
	entries := fmt.Sprintf(`mqtt:
  listen:
    - 127.0.0.1:0
    - {address: "mqtts://%s", auth: [users], client.auth: none}
    - {address: "mqtts://%s", auth: [certificates]}
    - {address: "mqtts://%s", auth: [users], client.auth: required}
http:`, ports[0], ports[1], ports[2])
	s.configured(func(text string) string {
		before, rest, _ := strings.Cut(text, "mqtt:\n")
		_, after, _ := strings.Cut(rest, "http:")
		return before + entries + after
	}, "--mqtt", "mqtts://"+ports[0], "--mqtt", "mqtts://"+ports[1], "--mqtt", "mqtts://"+ports[2])
	pair := s.certificate("pump-1")
	for _, c := range []struct {
		what           string
		port           string
		user, password string
		certs          []tls.Certificate
		in             bool
	}{
		{"users: a user", ports[0], "pump-1", pump, nil, true},
		{"users: a certificate", ports[0], "", "", []tls.Certificate{pair}, false},
		{"users: nobody", ports[0], "", "", nil, false},
		{"certificates: a user", ports[1], "pump-1", pump, nil, false},
		{"certificates: a certificate", ports[1], "", "", []tls.Certificate{pair}, true},
		{"certificates: a certificate, and a user name that nobody asks for", ports[1], "x", "y", []tls.Certificate{pair}, true},
		{"both: a user", ports[2], "pump-1", pump, nil, false},
		{"both: a certificate", ports[2], "", "", []tls.Certificate{pair}, false},
		{"both: both", ports[2], "pump-1", pump, []tls.Certificate{pair}, true},
	} {
		d, err := s.device(c.port, "d", c.user, c.password, c.certs...)
		if (err == nil) != c.in {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil {
			continue
		}
		if err := settled(d.Publish("dev/pump-1/t", 1, false, "x")); err != nil {
			t.Errorf("%s: publish: %v", c.what, err)
		}
		d.Disconnect(10)
	}
}

// A client identifier belongs to a user, and rules go by it.
func TestClientIdentifiersBelongToUsers(t *testing.T) {
	s := initSecured(t)
	pump, tank := s.addUser("pump-1"), s.addUser("tank")
	s.configured(func(text string) string { return strings.Replace(text, "mqtt:\n", "mqtt:\n  client_id: '%u'\n", 1) }, "--mqtt", "mqtts://"+s.mqtt)
	s.admin("acl", "add", "*", "publish", "subscribe", "--mqtt", "dev/%c/#")
	if out := s.admin("acl", "list", "--mqtt", "dev/%c/#"); !strings.Contains(out, "mqtt:dev/%c/#") {
		t.Errorf("rules: %s", out)
	}
	if _, err := s.device(s.mqtt, "pump-1", "tank", tank); err == nil || !strings.Contains(err.Error(), "identifier rejected") {
		t.Errorf("tank calls itself pump-1: %v", err)
	}
	d, err := s.device(s.mqtt, "pump-1", "pump-1", pump)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Disconnect(10)
	got := make(chan string, 1)
	if err := settled(d.Subscribe("dev/pump-1/#", 1, func(_ paho.Client, m paho.Message) { got <- m.Topic() })); err != nil {
		t.Error(err)
	}
	token := d.Subscribe("dev/+/up", 1, nil)
	if err := settled(token); err != nil || token.(*paho.SubscribeToken).Result()["dev/+/up"] != 0x80 {
		t.Errorf("all devices: %v %v", err, token.(*paho.SubscribeToken).Result())
	}
	if err := settled(d.Publish("dev/pump-1/up", 1, false, "x")); err != nil {
		t.Error(err)
	}
	select {
	case topic := <-got:
		if topic != "dev/pump-1/up" {
			t.Error(topic)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing came")
	}
	if err := settled(d.Publish("dev/tank/up", 1, false, "x")); err == nil && d.IsConnectionOpen() {
		t.Error("published as another")
	}
	if out := s.admin("consume", "__weir_audit", "--idle", "2s"); !strings.Contains(out, `"resource":"CLIENT_ID","name":"pump-1"`) {
		t.Errorf("the audit trail does not say who called itself what:\n%s", out)
	}
	if _, errs, code := s.try("admin", s.password, "acl", "add", "*", "publish", "--mqtt", "dev/x-%c"); code != exitFailed || !strings.Contains(errs, "whole level") {
		t.Errorf("%d %s", code, errs)
	}
}
