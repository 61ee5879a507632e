package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// secured is a box that weir init has made, running.
type secured struct {
	*site
	dir, password     string
	kafka, mqtt, http string
	pool              *x509.CertPool
}

// freePorts are addresses that nobody listens on now: a certificate and a
// configuration are made for them before the box runs.
func freePorts(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

func initSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{dir: filepath.Join(t.TempDir(), "box")}
	ports := freePorts(t, 3)
	s.kafka, s.mqtt, s.http = ports[0], ports[1], "https://"+ports[2]
	out, errs, code := weir(t, "", "--json", "init", s.dir, "--site", "plant7", "--kafka", s.kafka, "--mqtt", s.mqtt, "--http", ports[2])
	var made initialised
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != exitOK {
		t.Fatalf("weir init: %d %v %s %s", code, err, out, errs)
	}
	s.password = made.Password
	pem, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	s.pool = x509.NewCertPool()
	s.pool.AppendCertsFromPEM(pem)
	s.serve(t)
	return s
}

func (s *secured) serve(t *testing.T) {
	t.Helper()
	s.site = startSite(t, "--config", filepath.Join(s.dir, "weir.yaml"), "--kafka", "SASL_SSL://"+s.kafka, "--mqtt", "mqtts://"+s.mqtt, "--http", s.http)
}

// as runs a command as a user; it must succeed.
func (s *secured) as(user, password string, args ...string) string {
	s.t.Helper()
	out, errs, code := s.try(user, password, args...)
	if code != exitOK {
		s.t.Fatalf("weir %s as %s: exit %d: %s", strings.Join(args, " "), user, code, errs)
	}
	return out
}

func (s *secured) try(user, password string, args ...string) (out, errs string, code int) {
	s.t.Helper()
	login := []string{"--client", filepath.Join(s.dir, "admin.properties"), "-X", "sasl.username=" + user, "-X", "sasl.password=" + password}
	if at := s.address(args); at[0] == "--http" {
		login = append(login, "--http", s.http)
	}
	return weir(s.t, "", append(args, login...)...)
}

func (s *secured) admin(args ...string) string {
	s.t.Helper()
	return s.as("admin", s.password, args...)
}

// addUser returns the password that was made.
func (s *secured) addUser(name string) string {
	s.t.Helper()
	var made struct{ Password string }
	if err := json.Unmarshal([]byte(s.admin("user", "add", name, "--json")), &made); err != nil || len(made.Password) < 26 {
		s.t.Fatalf("weir user add: %v, password %q", err, made.Password)
	}
	return made.Password
}

// publish connects a device and publishes once.
func (s *secured) publish(user, password, topic string, certs ...tls.Certificate) error {
	o := paho.NewClientOptions().AddBroker("ssl://" + s.mqtt).SetClientID("d" + user).SetConnectRetry(false).SetAutoReconnect(false)
	o.SetTLSConfig(&tls.Config{RootCAs: s.pool, Certificates: certs})
	if user != "" {
		o.SetUsername(user).SetPassword(password)
	}
	c := paho.NewClient(o)
	wait := func(token paho.Token) error {
		if !token.WaitTimeout(20 * time.Second) {
			return fmt.Errorf("no answer")
		}
		return token.Error()
	}
	if err := wait(c.Connect()); err != nil {
		return err
	}
	defer c.Disconnect(10)
	lost := wait(c.Publish(topic, 1, false, "x"))
	return lost
}

// What the how-to says, from weir init to users, rules and devices, as it is typed.
func TestInitMakesABoxThatIsSafe(t *testing.T) {
	s := initSecured(t)
	s.admin("topic", "create", "orders")
	alice := s.addUser("alice")
	if _, errs, code := s.try("alice", alice, "produce", "orders", "x"); code != exitFailed || !strings.Contains(errs, "weir acl add") {
		t.Errorf("without a rule: %d %s", code, errs)
	}
	s.admin("acl", "add", "alice", "read", "write", "--topic", "orders")
	s.as("alice", alice, "produce", "orders", "hello")
	if out := s.as("alice", alice, "consume", "orders", "-n", "1"); out != "hello\n" {
		t.Errorf("consume: %q", out)
	}
	if _, errs, code := s.try("alice", "wrong", "topic", "list"); code != exitFailed || !strings.Contains(errs, "unknown user or wrong password") {
		t.Errorf("wrong password: %d %s", code, errs)
	}
	if _, errs, code := weir(t, "", "topic", "list", "--kafka", s.kafka); code != exitUnreachable || !strings.Contains(errs, "TLS or a login") {
		t.Errorf("plain text: %d %s", code, errs)
	}
	for _, out := range []string{s.admin("acl", "list"), s.admin("acl", "delete", "--principal", "alice")} {
		if !strings.Contains(out, "User:alice  ALLOW       WRITE") {
			t.Errorf("rules: %s", out)
		}
	}
	if _, _, code := s.try("alice", alice, "consume", "orders", "-n", "1"); code == exitOK {
		t.Error("alice still reads after the rules are gone")
	}
	s.admin("user", "delete", "alice")
	if out := s.admin("user", "list", "--json"); strings.Contains(out, "alice") || !strings.Contains(out, "admin") {
		t.Errorf("users: %s", out)
	}
	trail := s.admin("consume", "__weir_audit", "--idle", "2s")
	for _, want := range []string{`"kind":"login-failed","principal":"User:alice"`, `"kind":"denied"`, `"kind":"acl-changed"`, `"kind":"user-changed"`, `"kind":"topic-changed"`, `"kind":"login","principal":"User:admin"`} {
		if !strings.Contains(trail, want) {
			t.Errorf("the audit trail has no %s:\n%s", want, trail)
		}
	}
}

// Who has lost every password gets in again with the data folder in hand.
func TestRescue(t *testing.T) {
	s := initSecured(t)
	data := filepath.Join(s.dir, "data")
	if _, errs, code := weir(t, "", "user", "rescue", "admin", "--data", data); code != exitFailed || !strings.Contains(errs, "stop it first") {
		t.Errorf("while it runs: %d %s", code, errs)
	}
	s.stop()
	if _, errs, code := weir(t, "another\n", "user", "rescue", "admin", "--data", data, "--password-stdin"); code != exitOK {
		t.Fatal(errs)
	}
	s.serve(t)
	s.as("admin", "another", "topic", "list")
	if _, _, code := s.try("admin", s.password, "topic", "list"); code == exitOK {
		t.Error("the lost password still works")
	}
	if _, _, code := weir(t, "", "user", "rescue", "admin", "--data", t.TempDir()); code != exitNotFound {
		t.Errorf("a folder that is none of weir's: %d", code)
	}
}

func TestDevicesLogIn(t *testing.T) {
	s := initSecured(t)
	pump := s.addUser("pump-1")
	if err := s.publish("", "", "dev/pump-1/t"); err == nil {
		t.Error("a device without a name was let in")
	}
	if err := s.publish("pump-1", "wrong", "dev/pump-1/t"); err == nil {
		t.Error("a wrong password was taken")
	}
	if err := s.publish("pump-1", pump, "dev/pump-1/t"); err == nil {
		t.Error("published without a rule")
	}
	s.admin("acl", "add", "pump-1", "write", "--mqtt", "dev/pump-1/", "--prefixed")
	if err := s.publish("pump-1", pump, "dev/pump-1/t"); err != nil {
		t.Errorf("with the rule: %v", err)
	}
	if err := s.publish("pump-1", pump, "dev/pump-2/t"); err == nil {
		t.Error("published on another's topic")
	}
	if out := s.admin("consume", "mqtt", "-n", "1"); out != "x\n" {
		t.Errorf("the log has %q", out)
	}
	// And by a certificate, which is the name.
	pki := filepath.Join(s.dir, "pki")
	if _, errs, code := weir(t, "", "cert", "client", "pump-1", "--dir", pki); code != exitOK {
		t.Fatal(errs)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "pump-1.crt"), filepath.Join(pki, "pump-1.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.publish("", "", "dev/pump-1/t", pair); err != nil {
		t.Errorf("by certificate: %v", err)
	}
}

func TestConsoleAsksForALogin(t *testing.T) {
	s := initSecured(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}}}
	get := func(path, user, password string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, s.http+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("WWW-Authenticate")
	}
	bob := s.addUser("bob")
	for _, c := range []struct {
		path, user, password string
		want                 int
	}{
		{"/healthz", "", "", 200}, {"/readyz", "", "", 200},
		{"/", "", "", 401}, {"/v1/status", "", "", 401}, {"/metrics", "", "", 401}, {"/v1/config", "", "", 401},
		{"/v1/status", "admin", "wrong", 401}, {"/v1/status", "bob", bob, 403}, {"/v1/status", "admin", s.password, 200},
	} {
		code, asks := get(c.path, c.user, c.password)
		if code != c.want || (code == 401) != (asks != "") {
			t.Errorf("GET %s as %q: %d, asks %q, want %d", c.path, c.user, code, asks, c.want)
		}
	}
	s.admin("acl", "add", "bob", "describe", "--cluster")
	s.as("bob", bob, "status")
	if _, errs, code := s.try("bob", bob, "clock", "confirm"); code == exitOK || !strings.Contains(errs, "ALTER") {
		t.Errorf("bob changes something: %d %s", code, errs)
	}
	if _, errs, code := weir(t, "", "status", "--http", s.http, "--client", filepath.Join(s.dir, "admin.properties"), "-X", "sasl.username=", "-X", "sasl.password="); code != exitFailed || !strings.Contains(errs, "--client") {
		t.Errorf("status without a login: %d %s", code, errs)
	}
}

// The server's certificate is replaced while the box runs.
func TestCertificateIsRenewedWithoutARestart(t *testing.T) {
	s := initSecured(t)
	serial := func(address string) string {
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: s.pool, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	addresses := []string{s.kafka, s.mqtt, strings.TrimPrefix(s.http, "https://")}
	old := serial(s.kafka)
	if _, errs, code := weir(t, "", "cert", "server", "--dir", filepath.Join(s.dir, "pki")); code != exitOK {
		t.Fatal(errs)
	}
	deadline := time.Now().Add(time.Minute)
	for _, address := range addresses {
		for serial(address) == old { // files are looked at once a second
			if time.Now().After(deadline) {
				t.Fatalf("%s still shows the old certificate", address)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	s.admin("topic", "list")
}

func TestInitChangesNothingThatIsThere(t *testing.T) {
	dir := t.TempDir()
	if _, errs, code := weir(t, "", "init", dir); code != exitOK {
		t.Fatal(errs)
	}
	before, err := os.ReadFile(filepath.Join(dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, errs, code := weir(t, "", "init", dir); code != exitUsage || !strings.Contains(errs, "exists already") {
		t.Errorf("again: %d %s", code, errs)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "weir.yaml"))
	if !bytes.Equal(before, after) {
		t.Error("the configuration was changed")
	}
	for _, secret := range []string{"admin.properties", "admin.env", "pki/ca.key", "pki/server.key"} {
		if st, err := os.Stat(filepath.Join(dir, secret)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", secret, err, st.Mode())
		}
	}
	cfg, err := firmwareconfig.Load(filepath.Join(dir, "weir.yaml"))
	if err != nil || cfg.InsecureLAN || len(cfg.Exposed()) > 0 || cfg.AllowsEveryone() || !cfg.Audits() {
		t.Errorf("configuration: %v, exposed %v", err, cfg.Exposed())
	}
}

func TestClientPropertiesThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.properties")
	if err := os.WriteFile(file, []byte("# c\nsecurity.protocol = SASL_SSL\nsasl.mechanisms=SCRAM-SHA-512\nsasl.jaas.config=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := clientFlags{Client: file}.properties()
	if err != nil || p["sasl.mechanism"] != "SCRAM-SHA-512" || len(p) != 2 {
		t.Errorf("%v %v", p, err)
	}
	for args, want := range map[string]string{
		"ssl.cipher=x":          "is not one of",
		"security.protocol=X":   "is not PLAINTEXT",
		"security.protocol":     "want KEY=VALUE",
		"ssl.ca.location=/none": "ssl.ca.location",
	} {
		_, errs, code := weir(t, "", "topic", "list", "--client", file, "-X", args)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("-X %s: %d %s", args, code, errs)
		}
	}
}

// A token of the site's issuer is a login everywhere.
func TestTokensLogIn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(audience string) string {
		text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: "plant", Audience: jwt.Audience{audience}, Subject: "pump-9", Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	s := initSecured(t)
	s.stop()
	file := filepath.Join(s.dir, "weir.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(s.dir, "jwks.json")
	config = fmt.Appendf(config, "  oauth: {jwks: %q, issuer: plant, audience: weir}\n", keys)
	if err := errors.Join(os.WriteFile(keys, jwks, 0o600), os.WriteFile(file, config, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	s.admin("topic", "create", "orders")
	s.admin("acl", "add", "pump-9", "write", "--topic", "orders")
	s.admin("acl", "add", "pump-9", "write", "--mqtt", "dev/")
	s.admin("acl", "add", "pump-9", "describe", "--cluster")
	bearer := func(token string, args ...string) (string, int) {
		args = append(args, "--client", filepath.Join(s.dir, "admin.properties"), "-X", "sasl.mechanism=OAUTHBEARER", "-X", "sasl.oauthbearer.token="+token)
		_, errs, code := weir(t, "", args...)
		return errs, code
	}
	if errs, code := bearer(token("weir"), "produce", "orders", "x"); code != exitOK {
		t.Errorf("Kafka: %s", errs)
	}
	if errs, code := bearer(token("other"), "produce", "orders", "x"); code != exitFailed || !strings.Contains(errs, "aud") {
		t.Errorf("a token for somebody else: %d %s", code, errs)
	}
	if errs, code := bearer(token("weir"), "status", "--http", s.http); code != exitOK {
		t.Errorf("HTTP: %s", errs)
	}
	if err := s.publish("any", token("weir"), "dev/"); err != nil {
		t.Errorf("MQTT: %v", err)
	}
	if err := s.publish("any", token("other"), "dev/"); err == nil {
		t.Error("MQTT: a token for somebody else was taken")
	}
}

// Behind a port forwarding: what is advertised, and a way in for the machine itself.
func TestInitAdvertises(t *testing.T) {
	dir := t.TempDir()
	if _, errs, code := weir(t, "", "init", dir, "--advertised", "plant7"); code != exitUsage || !strings.Contains(errs, "host:port") {
		t.Errorf("no port: %d %s", code, errs)
	}
	out, errs, code := weir(t, "", "init", dir, "--advertised", "plant7.example:19093")
	if code != exitOK || !strings.Contains(out, "plant7.example") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	cfg, err := firmwareconfig.Load(filepath.Join(dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l := cfg.KafkaListeners()
	if len(l) != 2 || l[0].Advertised != "plant7.example:19093" || l[1].Advertised != "" || !firmwareconfig.IsLoopback(l[1].Address) {
		t.Fatalf("listeners %+v", l)
	}
	if client, err := os.ReadFile(filepath.Join(dir, "admin.properties")); err != nil || !strings.Contains(string(client), l[1].Address) {
		t.Errorf("the administrator's client: %v %s", err, client)
	}
}
