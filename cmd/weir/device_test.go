package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"rsc.io/qr"
)

// both is the flags of commands that ask the box by HTTP and by Kafka.
func (s *secured) both(args ...string) []string {
	return append(args, "--http", s.http, "--client", filepath.Join(s.dir, "admin.properties"))
}

// card runs a command of weir device that prints a card.
func (s *secured) card(args ...string) *card {
	s.t.Helper()
	out, errs, code := weir(s.t, "", append([]string{"--json", "device"}, s.both(args...)...)...)
	made := &card{}
	if err := json.Unmarshal([]byte(out), made); err != nil || code != exitOK {
		s.t.Fatalf("weir device %v: %d %v %s %s", args, code, err, out, errs)
	}
	return made
}

// bearer connects and publishes by what a card says, and by nothing else.
func bearer(t *testing.T, made *card, topic string) error {
	t.Helper()
	u, err := url.Parse(made.URI)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if sum := sha256.Sum256(block.Bytes); hex.EncodeToString(sum[:]) != u.Query().Get("ca_sha256") || made.Fingerprint != u.Query().Get("ca_sha256") {
		t.Errorf("%s is not the authority's certificate", u.Query().Get("ca_sha256"))
	}
	s := &secured{pool: x509.NewCertPool()}
	s.pool.AppendCertsFromPEM(text)
	var certs []tls.Certificate
	if made.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(made.Certificate, made.Key)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, pair)
	}
	password, _ := u.User.Password()
	d, err := s.device(u.Host, u.Query().Get("client_id"), u.User.Username(), password, certs...)
	if err != nil {
		return err
	}
	defer d.Disconnect(10)
	return settled(d.Publish(topic, 1, false, "x"))
}

// A device's life, by what weir device prints.
func TestDevices(t *testing.T) {
	s := initSecured(t)
	s.configured(func(text string) string { return strings.Replace(text, "mqtt:\n", "mqtt:\n  client_id: '%u'\n", 1) }, "--mqtt", "mqtts://"+s.mqtt)
	for _, kind := range [][]string{{"add", "pump-1"}, {"add", "pump-2", "--certificate"}} {
		made := s.card(kind...)
		if made.URLs[0] != "mqtts://"+s.mqtt || strings.Join(made.Publish, " ") != "dev/"+kind[1]+"/#" {
			t.Errorf("%+v", made)
		}
		if err := bearer(t, made, "dev/"+kind[1]+"/t"); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if err := bearer(t, made, "dev/other/t"); err == nil {
			t.Errorf("%v publishes as another", kind)
		}
	}
	if _, errs, code := weir(t, "", s.both("device", "add", "pump-1")...); code != exitFailed || !strings.Contains(errs, "weir device rotate") {
		t.Errorf("again: %d %s", code, errs)
	}
	if out := s.admin("device", "list"); !strings.Contains(out, "pump-1  password") || !strings.Contains(out, "pump-2  certificate") || strings.Contains(out, "admin") {
		t.Errorf("list: %s", out)
	}
	old := s.card("rotate", "pump-1")
	made := s.card("rotate", "pump-1")
	if err := bearer(t, old, "dev/pump-1/t"); err == nil {
		t.Error("the old password is still taken")
	}
	if err := bearer(t, made, "dev/pump-1/t"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	second := s.card("rotate", "pump-2", "--certificate")
	if err := bearer(t, second, "dev/pump-2/t"); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
	s.admin("device", "remove", "pump-1")
	s.admin("device", "remove", "pump-2")
	for _, gone := range []*card{made, second} {
		if err := bearer(t, gone, "dev/"+gone.Device+"/t"); err == nil {
			t.Errorf("%s publishes after it was removed", gone.Device)
		}
	}
	if out := s.admin("acl", "list"); strings.Contains(out, "pump") {
		t.Errorf("rules stay: %s", out)
	}
}

// A device that is removed is cut off, also one whose certificate still holds; others
// notice nothing.
func TestRemovedDevicesAreCutOff(t *testing.T) {
	s := initSecured(t)
	lost, kept := make(chan struct{}), make(chan struct{})
	for name, ended := range map[string]chan struct{}{"pump-1": lost, "pump-2": kept} {
		made := s.card("add", name, "--certificate")
		pair, err := tls.LoadX509KeyPair(made.Certificate, made.Key)
		if err != nil {
			t.Fatal(err)
		}
		o := paho.NewClientOptions().AddBroker("ssl://" + s.mqtt).SetClientID(name).SetConnectRetry(false).SetAutoReconnect(false)
		o.SetTLSConfig(&tls.Config{RootCAs: s.pool, Certificates: []tls.Certificate{pair}})
		o.SetConnectionLostHandler(func(paho.Client, error) { close(ended) })
		d := paho.NewClient(o)
		if err := settled(d.Connect()); err != nil {
			t.Fatal(err)
		}
		defer d.Disconnect(10)
		if err := settled(d.Subscribe("dev/"+name+"/#", 1, func(paho.Client, paho.Message) {})); err != nil {
			t.Fatal(err)
		}
	}
	s.admin("device", "remove", "pump-1")
	select {
	case <-lost:
	case <-time.After(20 * time.Second):
		t.Error("pump-1 is still connected, subscribed to what it may not have")
	}
	select {
	case <-kept:
		t.Error("pump-2 is cut off as well")
	default:
	}
}

// What cannot be is said before anything is made.
func TestDevicesThatCannotBe(t *testing.T) {
	s := initSecured(t)
	s.addUser("alice")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"cannot be a device's name", []string{"add", "a/b"}}, {"cannot be a device's name", []string{"add", "#"}},
		{"no filter for a device", []string{"add", "x", "--publish", "a/#/b"}}, {"no filter for a device", []string{"add", "x", "--subscribe", "a+"}},
		{"has a login or access rules already", []string{"add", "alice"}},
		{"no certificate authority", []string{"add", "x", "--certificate", "--pki", t.TempDir()}},
		{"there is no device 'alice'", []string{"rotate", "alice"}}, {"there is no device 'nobody'", []string{"rotate", "nobody"}},
	} {
		if _, errs, code := weir(t, "", append([]string{"device"}, s.both(c.args...)...)...); code == exitOK || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %d %s", c.args, code, errs)
		}
	}
	if _, errs, code := s.try("admin", s.password, "device", "remove", "alice"); code != exitNotFound {
		t.Errorf("remove a user: %d %s", code, errs)
	}
	if out := s.admin("acl", "list"); strings.Contains(out, "User:x") {
		t.Errorf("something was made: %s", out)
	}
}

// The line that is printed does what it says, in a shell with mosquitto's own client.
func TestDeviceExample(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skip("mosquitto_pub is not installed")
	}
	s := initSecured(t)
	out, errs, code := weir(t, "", s.both("device", "add", "pump-1", "--host", "localhost")...)
	_, line, found := strings.Cut(out, "Try:\n\n  ")
	if code != exitOK || !found {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	line, _, _ = strings.Cut(line, "\n")
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", line, err, text)
	}
	if got := s.admin("consume", "mqtt", "-n", "1"); got != "hi\n" {
		t.Errorf("the log has %q", got)
	}
}

// What is drawn is the code, module by module.
func TestQRCode(t *testing.T) {
	const text = "mqtts://pump-1:SECRET@gateway7.plant.example:8883?client_id=pump-1"
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printQR(&out, text); err != nil {
		t.Fatal(err)
	}
	y := -quiet
	for line := range strings.SplitSeq(strings.Trim(out.String(), "\n"), "\n") {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m")
		x := -quiet
		for _, r := range line {
			if upper, lower := r == '█' || r == '▀', r == '█' || r == '▄'; upper != code.Black(x, y) || lower != code.Black(x, y+1) {
				t.Fatalf("at %d, %d: %c", x, y, r)
			}
			x++
		}
		if x != code.Size+quiet {
			t.Fatalf("a line of %d modules", x+quiet)
		}
		y += 2
	}
	if y < code.Size+quiet {
		t.Errorf("%d lines", y)
	}
	if err := printQR(&out, strings.Repeat("x", 5000)); err == nil {
		t.Error("5,000 bytes are drawn")
	}
}
