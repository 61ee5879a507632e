package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// clientFlags say how a command shows who it is. The file's keys are librdkafka's, so
// that kcat -F takes the same one; those of Java clients for the same things are known too.
type clientFlags struct {
	Client string   `placeholder:"FILE" env:"WEIR_CLIENT" help:"Client properties: security.protocol, sasl.mechanism, sasl.username, sasl.password, ssl.ca.location. weir init writes one."`
	Set    []string `short:"X" sep:"none" placeholder:"KEY=VALUE" help:"One such property; it wins over the file."`
}

// properties are a Kafka client's, by librdkafka's names.
type properties map[string]string

// aliases are other names of the same properties.
var aliases = map[string]string{
	"sasl.mechanisms": "sasl.mechanism", "metadata.broker.list": "bootstrap.servers",
	"ssl.truststore.location": "ssl.ca.location", "ssl.keystore.location": "ssl.certificate.location",
	"ssl.keystore.certificate.chain": "ssl.certificate.pem",
}

// knownProperties are what this client makes use of.
var knownProperties = []string{
	"bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.username", "sasl.password", "sasl.oauthbearer.token",
	"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.endpoint.identification.algorithm",
}

// ignoredProperties are what other clients of the same file may need.
var ignoredProperties = []string{"sasl.jaas.config", "ssl.truststore.type", "ssl.keystore.type", "ssl.certificate.pem"}

func (f clientFlags) properties() (properties, error) {
	p := properties{}
	if f.Client != "" {
		text, err := os.ReadFile(f.Client)
		if err != nil {
			return nil, failf(exitUsage, "cannot read the client properties: %w", err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			if err := p.set(line); err != nil {
				return nil, failf(exitUsage, "%s: line %d: %w", f.Client, n+1, err)
			}
		}
	}
	for _, pair := range f.Set {
		if err := p.set(pair); err != nil {
			return nil, failf(exitUsage, "-X %s: %w", pair, err)
		}
	}
	return p, nil
}

func (p properties) set(pair string) error {
	key, value, ok := strings.Cut(pair, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok {
		return errors.New("want KEY=VALUE")
	}
	if name, alias := aliases[key]; alias {
		key = name
	}
	switch {
	case slices.Contains(ignoredProperties, key):
	case !slices.Contains(knownProperties, key):
		return fmt.Errorf("'%s' is not one of %s", key, strings.Join(knownProperties, ", "))
	default:
		p[key] = value
	}
	return nil
}

// seeds are where to connect: what was given, what the file says, or this machine.
func (p properties) seeds(given []string) []string {
	switch {
	case len(given) > 0:
		return given
	case p["bootstrap.servers"] != "":
		return strings.Split(p["bootstrap.servers"], ",")
	}
	return []string{"127.0.0.1:9092"}
}

// options are the client's for TLS and login.
func (p properties) options() (opts []kgo.Opt, err error) {
	protocol := strings.ToUpper(p["security.protocol"])
	if protocol == "" {
		protocol = "PLAINTEXT"
	}
	switch protocol {
	case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		return nil, fmt.Errorf("security.protocol '%s' is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", protocol)
	}
	if strings.HasSuffix(protocol, "SSL") {
		cfg, err := p.tls()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if !strings.HasPrefix(protocol, "SASL") {
		return opts, nil
	}
	user, password := p["sasl.username"], p["sasl.password"]
	switch m := p["sasl.mechanism"]; m {
	case "SCRAM-SHA-256", "":
		return append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism())), nil
	case "SCRAM-SHA-512":
		return append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism())), nil
	case "PLAIN":
		return append(opts, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism())), nil
	case "OAUTHBEARER":
		return append(opts, kgo.SASL(oauth.Auth{Token: p["sasl.oauthbearer.token"]}.AsMechanism())), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism '%s' is not SCRAM-SHA-256, SCRAM-SHA-512, PLAIN or OAUTHBEARER", m)
	}
}

func (p properties) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := p["ssl.ca.location"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("ssl.ca.location: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ssl.ca.location: %s has no certificate in PEM", file)
		}
	}
	if cert := p["ssl.certificate.location"]; cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, p["ssl.key.location"])
		if err != nil {
			return nil, fmt.Errorf("ssl.certificate.location: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if alg, set := p["ssl.endpoint.identification.algorithm"]; set && (alg == "" || alg == "none") {
		verifyWithoutName(cfg)
	}
	return cfg, nil
}

// verifyWithoutName checks that the server's certificate is from a trusted authority,
// but not that it bears the name dialled.
func verifyWithoutName(cfg *tls.Config) {
	cfg.InsecureSkipVerify = true // replaced by the check below
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		pool := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			pool.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: cfg.RootCAs, Intermediates: pool})
		return err
	}
}

// http is a client of the console with the same identity.
func (p properties) http() (*http.Client, error) {
	cfg, err := p.tls()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg
	return &http.Client{Transport: transport}, nil
}

// authorize puts the login on a request to the console.
func (p properties) authorize(req *http.Request) {
	switch {
	case p["sasl.oauthbearer.token"] != "":
		req.Header.Set("Authorization", "Bearer "+p["sasl.oauthbearer.token"])
	case p["sasl.username"] != "":
		req.SetBasicAuth(p["sasl.username"], p["sasl.password"])
	}
}
