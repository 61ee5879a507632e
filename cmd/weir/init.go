package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/metadata"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// initCmd makes an appliance that may be reached from the network: certificates, an
// administrator with a password of its own, and a configuration that demands both.
type initCmd struct {
	Dir        string   `arg:"" optional:"" default:"." help:"Folder for weir.yaml, pki and data (${default})."`
	Site       string   `placeholder:"NAME" help:"Name of this site (the host's name)."`
	Host       []string `placeholder:"NAME" help:"Further name or address under which clients reach this machine; for the certificate."`
	Advertised string   `placeholder:"HOST:PORT" help:"What Kafka clients are told to dial, where a NAT or a tunnel stands between; the host goes into the certificate."`
	Admin      string   `default:"admin" placeholder:"USER" help:"The administrator (${default})."`
	Kafka      string   `default:"0.0.0.0:9093" placeholder:"HOST:PORT" help:"Kafka listener, TLS and login (${default})."`
	MQTT       string   `name:"mqtt" default:"0.0.0.0:8883" placeholder:"HOST:PORT" help:"MQTT listener, TLS and login (${default})."`
	HTTP       string   `name:"http" default:"0.0.0.0:8443" placeholder:"HOST:PORT" help:"Console and admin listener, TLS and login (${default})."`
}

// initialised is what init has made, for --json and for the text.
type initialised struct {
	Config   string   `json:"config"`
	Admin    string   `json:"admin"`
	Password string   `json:"password"`
	Client   string   `json:"client_properties"`
	Env      string   `json:"environment"`
	CA       string   `json:"ca"`
	Names    []string `json:"certificate_names"`
}

func (c *initCmd) Run(s *session) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	for _, name := range []string{"weir.yaml", "pki", "admin.properties", "admin.env"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return failf(exitUsage, "%s exists already: init changes nothing that is there; choose another folder, or remove it", filepath.Join(dir, name))
		}
	}
	if c.Site == "" {
		if c.Site, err = siteName(&firmwareconfig.Config{}); err != nil {
			return err
		}
	}
	if c.Advertised != "" {
		if err := firmwareconfig.CheckDialable(c.Advertised); err != nil {
			return failf(exitUsage, "--advertised: %w", err)
		}
		host, _, _ := net.SplitHostPort(c.Advertised) // checked
		c.Host = append(c.Host, host)
	}
	done := initialised{
		Config: filepath.Join(dir, "weir.yaml"), Admin: c.Admin, Password: rand.Text(), Client: filepath.Join(dir, "admin.properties"),
		Env: filepath.Join(dir, "admin.env"), CA: filepath.Join(dir, "pki", caCertFile), Names: ownNames(c.Host),
	}
	if err := c.make(dir, &done); err != nil {
		return err
	}
	return s.show(done, func(w io.Writer) { c.explain(w, &done) })
}

// make writes everything; the configuration, which makes it count, comes last.
func (c *initCmd) make(dir string, done *initialised) error {
	pki := filepath.Join(dir, "pki")
	if err := os.MkdirAll(pki, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(pki, c.Site)
	if err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	cert, key, err := ca.server(done.Names)
	if err != nil {
		return fmt.Errorf("make the server's certificate: %w", err)
	}
	err = errors.Join(writeSecret(filepath.Join(pki, serverKeyFile), key), writePublic(filepath.Join(pki, serverCertFile), cert))
	if err != nil {
		return fmt.Errorf("write the server's certificate: %w", err)
	}
	if err := makeAdmin(filepath.Join(dir, "data"), c.Admin, done.Password); err != nil {
		return fmt.Errorf("make user %s: %w", c.Admin, err)
	}
	if err := writeSecret(done.Client, []byte(c.clientProperties(done))); err != nil {
		return err
	}
	if err := writeSecret(done.Env, []byte(c.environment(done))); err != nil {
		return err
	}
	config := c.configuration(dir)
	if _, err := firmwareconfig.Parse([]byte(config)); err != nil {
		return fmt.Errorf("internal error: the configuration made is not valid: %w", err)
	}
	return writePublic(done.Config, []byte(config))
}

// makeAdmin puts the first user into the data folder of a box that does not run.
func makeAdmin(data, name, password string) (err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	store, err := metadata.Open(filepath.Join(data, appliance.MetadataFile))
	if err != nil {
		if errors.Is(err, metadata.ErrInUse) {
			return fmt.Errorf("an appliance runs on %s: stop it first, or use weir user add", data)
		}
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	a, err := auth.Open(auth.Options{Users: appliance.UserTable(store), Rules: appliance.RuleTable(store)})
	if err != nil {
		return err
	}
	return a.SetPassword(name, password)
}

func (c *initCmd) clientProperties(done *initialised) string {
	return fmt.Sprintf(`# The administrator's login, for weir --client, kcat -F and other clients of librdkafka.
bootstrap.servers=%s
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-256
sasl.username=%s
sasl.password=%s
ssl.ca.location=%s
`, c.kafkaLocal(), done.Admin, done.Password, done.CA)
}

func (c *initCmd) environment(done *initialised) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	return fmt.Sprintf("export WEIR_CLIENT=%s\nexport WEIR_HTTP=%s\n", quote(done.Client), quote("https://"+local(c.HTTP)))
}

// local is how a program on this machine reaches a listener.
func local(address string) string {
	if firmwareconfig.IsLoopback(address) {
		return address
	}
	return "localhost" + address[strings.LastIndex(address, ":"):]
}

func (c *initCmd) configuration(dir string) string {
	q := strconv.Quote
	pki := filepath.Join(dir, "pki")
	return fmt.Sprintf(`# Made by weir init. docs/configuration.md has every key, docs/security.md says how to go on.
site: %s
data:
  dir: %s
kafka:
  listen: %s
mqtt:
  listen: %s
http:
  listen: %s
tls:
  cert: %s
  key: %s
  client.ca: %s
  client.auth: requested
  principal.mapping.rules: ["RULE:^CN=([^,+]+).*$/$1/", DEFAULT]
auth:
  super.users: [%s]
`, q(c.Site), q(filepath.Join(dir, "data")), c.kafkaListen(), q("mqtts://"+c.MQTT), q("https://"+c.HTTP),
		q(filepath.Join(pki, serverCertFile)), q(filepath.Join(pki, serverKeyFile)), q(filepath.Join(pki, caCertFile)), q("User:"+c.Admin))
}

// kafkaListen is the entry of kafka.listen.
func (c *initCmd) kafkaListen() string {
	address := strconv.Quote("SASL_SSL://" + c.Kafka)
	if c.Advertised == "" {
		return address
	}
	return fmt.Sprintf("[{address: %s, advertised: %s}, %s]", address, strconv.Quote(c.Advertised), strconv.Quote("SASL_SSL://"+c.inside()))
}

// inside is a listener of this machine's own programs, which need not reach what is
// advertised to others.
func (c *initCmd) inside() string {
	if strings.HasSuffix(c.Kafka, ":9092") {
		return "127.0.0.1:9094"
	}
	return "127.0.0.1:9092"
}

// kafkaLocal is how a program on this machine reaches Kafka.
func (c *initCmd) kafkaLocal() string {
	if c.Advertised != "" {
		return c.inside()
	}
	return local(c.Kafka)
}

func (c *initCmd) explain(w io.Writer, done *initialised) {
	fmt.Fprintf(w, `%s made: TLS and a login on every listener.

  administrator  %s
  password       %s   (kept in %s; shown here once)
  authority      %s   (clients need it to trust this machine)
  certificate    for %s

Next:

  weir serve --config %s

and in another terminal:

  . %s
  weir topic create orders
  weir produce orders hello
  weir user add alice && weir acl add alice read write --topic orders
`, done.Config, done.Admin, done.Password, filepath.Base(done.Client), done.CA, describeNames(done.Names), done.Config, done.Env)
}
