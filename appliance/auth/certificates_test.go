package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/auth"
)

// selfSigned writes a certificate and its key.
func selfSigned(t testing.TB, dir string, serial int64, subject pkix.Name) (certFile, keyFile string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, cert
}

// shown is the serial number of the certificate that a server shows.
func shown(t *testing.T, cfg *tls.Config) int64 {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		c := tls.Server(server, cfg)
		_ = c.Handshake()
		_ = c.Close()
	}()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificatesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := selfSigned(t, dir, 1, pkix.Name{CommonName: "a"})
	certs, err := auth.LoadCertificates(auth.TLSOptions{Cert: certFile, Key: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	cfg := certs.Server()
	if n := shown(t, cfg); n != 1 {
		t.Fatalf("serial %d", n)
	}
	later := func(name string, by time.Duration) {
		if err := os.Chtimes(name, time.Now().Add(by), time.Now().Add(by)); err != nil {
			t.Fatal(err)
		}
	}
	// Half of it is new: the old one stays.
	oldKey, _ := os.ReadFile(keyFile)
	selfSigned(t, dir, 2, pkix.Name{CommonName: "a"})
	newKey, _ := os.ReadFile(keyFile)
	if err := os.WriteFile(keyFile, oldKey, 0o600); err != nil {
		t.Fatal(err)
	}
	later(certFile, time.Second)
	certs.Look()
	if n := shown(t, cfg); n != 1 {
		t.Errorf("with a key that does not fit: serial %d", n)
	}
	// Then the other half comes.
	if err := os.WriteFile(keyFile, newKey, 0o600); err != nil {
		t.Fatal(err)
	}
	later(keyFile, 2*time.Second)
	certs.Look()
	if n := shown(t, cfg); n != 2 {
		t.Errorf("after both are new: serial %d", n)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	certs.Look()
	if n := shown(t, cfg); n != 2 {
		t.Errorf("after the file is gone: serial %d", n)
	}
}

func TestTLSBefore12IsRefused(t *testing.T) {
	certFile, keyFile, _ := selfSigned(t, t.TempDir(), 1, pkix.Name{CommonName: "a"})
	certs, err := auth.LoadCertificates(auth.TLSOptions{Cert: certFile, Key: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		_ = tls.Server(server, certs.Server()).Handshake()
		_ = server.Close()
	}()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := c.Handshake(); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}

func TestCertificateFilesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := selfSigned(t, dir, 1, pkix.Name{CommonName: "a"})
	for name, o := range map[string]auth.TLSOptions{
		"nothing":       {},
		"no file":       {Cert: filepath.Join(dir, "x"), Key: keyFile},
		"key as cert":   {Cert: keyFile, Key: keyFile},
		"CA is no PEM":  {Cert: certFile, Key: keyFile, ClientCA: keyFile},
		"auth sans CA":  {Cert: certFile, Key: keyFile, ClientAuth: auth.ClientAuthRequired},
		"CA is missing": {Cert: certFile, Key: keyFile, ClientCA: filepath.Join(dir, "x")},
	} {
		if _, err := auth.LoadCertificates(o); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// The examples of Kafka's documentation, and what else rules may say.
func TestNameRules(t *testing.T) {
	const subject = "CN=serviceuser,OU=ServiceUsers,O=Unknown,L=Unknown,ST=Unknown,C=Unknown"
	for _, c := range []struct{ rules, subject, want string }{
		{"", subject, subject},
		{"DEFAULT", subject, subject},
		{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", subject, "serviceuser"},
		{"RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L", subject, "serviceuser@serviceusers"},
		{"RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U", subject, "SERVICEUSER"},
		{"RULE:^CN=nobody,.*$/x/, DEFAULT", subject, subject},
		{"RULE:CN=service/x/,RULE:^CN=([^,]+).*$/$1/", subject, "serviceuser"}, // the whole subject must match
		{`RULE:^CN=(a\/b),.*$/$1/`, "CN=a/b,O=x", "a/b"},
		{"RULE:^CN=([^,]+).*$/$1x/", subject, "serviceuserx"},
	} {
		n, err := auth.ParseNameRules(c.rules)
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		if got, err := n.Name(c.subject); err != nil || got != c.want {
			t.Errorf("%s: %q %v, want %q", c.rules, got, err, c.want)
		}
	}
	for _, bad := range []string{"X", "RULE:a", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "DEFAULT DEFAULT"} {
		if _, err := auth.ParseNameRules(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	n, err := auth.ParseNameRules("RULE:^CN=nobody$/x/")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := n.Name(subject); err == nil {
		t.Errorf("a subject that no rule fits is %q", name)
	}
}

func TestSubjectIsInItsOwnOrder(t *testing.T) {
	_, _, cert := selfSigned(t, t.TempDir(), 1, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 3}, Value: "pump, 1"}, {Type: []int{2, 5, 4, 11}, Value: "a"}, {Type: []int{2, 5, 4, 10}, Value: "plant"}}})
	if name, err := (auth.NameRules{}).Apply(cert); err != nil || !strings.HasSuffix(name, `CN=pump\, 1`) || !strings.HasPrefix(name, "O=plant,OU=a") {
		t.Errorf("%q %v", name, err)
	}
}

// A subject is bytes from outside.
func FuzzSubject(f *testing.F) {
	_, _, cert := selfSigned(f, f.TempDir(), 1, pkix.Name{CommonName: "pump", Organization: []string{"plant"}})
	f.Add(cert.RawSubject, "RULE:^CN=([^,]+).*$/$1/L,DEFAULT")
	f.Add([]byte{0x30, 0}, "DEFAULT")
	f.Fuzz(func(t *testing.T, subject []byte, rules string) {
		n, err := auth.ParseNameRules(rules)
		if err != nil {
			return
		}
		name, err := n.Apply(&x509.Certificate{RawSubject: subject})
		if err == nil && (name == "" || strings.ContainsAny(name, "\x00\n")) {
			t.Errorf("subject % x is user %q", subject, name)
		}
	})
}

func TestEndOfTheCertificate(t *testing.T) {
	certFile, keyFile, cert := selfSigned(t, t.TempDir(), 1, pkix.Name{CommonName: "a"})
	certs, err := auth.LoadCertificates(auth.TLSOptions{Cert: certFile, Key: keyFile})
	if err != nil || !certs.Expires().Equal(cert.NotAfter) {
		t.Errorf("ends %v, want %v: %v", certs.Expires(), cert.NotAfter, err)
	}
}
