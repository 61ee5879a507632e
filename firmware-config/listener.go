package firmwareconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Listener is one address that others can reach.
type Listener struct {
	Key, Flag string // kafka.listen, --kafka
	Scheme    string // PLAINTEXT, mqtts, …
	Address   string // host:port

	MQTT       *MQTTListener // the entry of mqtt.listen; nil: it is another's
	Advertised string        // what clients of Kafka are told to dial; "": what they dialled
}

// Listeners are all addresses that the configuration listens on.
func (c *Config) Listeners() []Listener {
	return slices.Concat(c.KafkaListeners(), c.MQTTListeners(), c.HTTPListeners())
}

// KafkaListeners are those of kafka.listen.
func (c *Config) KafkaListeners() []Listener {
	var out []Listener
	for _, entry := range c.Kafka.Listen {
		l := splitListeners("kafka.listen", "--kafka", "PLAINTEXT", []string{entry.Address})[0]
		l.Advertised = cmp.Or(entry.Advertised, c.Kafka.Advertised)
		out = append(out, l)
	}
	return out
}

// MQTTListeners are those of mqtt.listen.
func (c *Config) MQTTListeners() []Listener {
	var out []Listener
	for i := range c.MQTT.Listen {
		l := splitListeners("mqtt.listen", "--mqtt", "mqtt", []string{c.MQTT.Listen[i].Address})[0]
		l.MQTT = &c.MQTT.Listen[i]
		out = append(out, l)
	}
	return out
}

// HTTPListeners are those of http.listen.
func (c *Config) HTTPListeners() []Listener {
	return splitListeners("http.listen", "--http", "http", c.HTTP.Listen)
}

func splitListeners(key, flag, scheme string, texts []string) []Listener {
	var out []Listener
	for _, text := range texts {
		l := Listener{Key: key, Flag: flag, Scheme: scheme, Address: text}
		if s, address, ok := strings.Cut(text, "://"); ok {
			l.Scheme, l.Address = s, address
		}
		out = append(out, l)
	}
	return out
}

func (l Listener) String() string { return l.Scheme + "://" + l.Address }

// schemes are what may stand before an address, by key.
var schemes = map[string][]string{
	"kafka.listen": {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"},
	"mqtt.listen":  {"mqtt", "mqtts", "ws", "wss", "unix"},
	"http.listen":  {"http", "https"},
}

func (l Listener) check() error {
	if !slices.Contains(schemes[l.Key], l.Scheme) {
		return fmt.Errorf("'%s' is not one of %s", l.Scheme, strings.Join(schemes[l.Key], ", "))
	}
	if l.Unix() {
		return checkSocket(l.Address)
	}
	return CheckAddress(l.Address)
}

// Unix reports whether Address is the path of a Unix socket.
func (l Listener) Unix() bool { return l.Scheme == "unix" }

// WebSocket reports whether clients speak MQTT in a WebSocket.
func (l Listener) WebSocket() bool { return l.Scheme == "ws" || l.Scheme == "wss" }

// maxSocketPath is what the kernel takes as the path of a Unix socket.
const maxSocketPath = 107

func checkSocket(path string) error {
	if !strings.HasPrefix(path, "/") || len(path) > maxSocketPath {
		return fmt.Errorf("'unix://%s' is not a path such as unix:///run/weir/mqtt.sock, of %d bytes at most", path, maxSocketPath)
	}
	return nil
}

// local reports whether only this machine can reach the listener.
func (l Listener) local() bool { return l.Unix() || IsLoopback(l.Address) }

// Encrypts reports whether the listener speaks TLS.
func (l Listener) Encrypts() bool {
	return l.Scheme == "SSL" || l.Scheme == "SASL_SSL" || l.Scheme == "mqtts" || l.Scheme == "wss" || l.Scheme == "https"
}

// Asks reports whether clients of the listener must say who they are.
func (c *Config) Asks(l Listener) bool {
	certificate := l.Encrypts() && c.TLS.ClientAuth == "required"
	switch l.Key {
	case "kafka.listen":
		return l.Scheme == "SASL_SSL" || l.Scheme == "SASL_PLAINTEXT" || certificate
	case "mqtt.listen":
		return !slices.Contains(c.Takes(l), Anonymous)
	}
	return !IsLoopback(l.Address) && !c.InsecureLAN
}

// Guarded reports whether any client of the log is asked who it is: from then on
// nothing is allowed that no rule allows, and the audit trail is written.
func (c *Config) Guarded() bool {
	return slices.ContainsFunc(slices.Concat(c.KafkaListeners(), c.MQTTListeners()), c.Asks)
}

// AllowsEveryone is allow.everyone.if.no.acl.found with auto resolved.
func (c *Config) AllowsEveryone() bool {
	return c.Auth.AllowEveryone == "true" || c.Auth.AllowEveryone == "auto" && !c.Guarded()
}

// Audits is audit with auto resolved.
func (c *Config) Audits() bool {
	return c.Auth.Audit == "true" || c.Auth.Audit == "auto" && c.Guarded()
}

func (f *field) checkListener(text string) error {
	return splitListeners(f.listener, "", schemes[f.listener][0], []string{text})[0].check()
}

// Exposed lists the listeners (by key and address) that machines other than this
// one can reach without TLS or without saying who they are.
func (c *Config) Exposed() []string {
	var open []string
	for _, l := range c.Listeners() {
		if why := c.exposed(l); why != "" {
			open = append(open, l.Key+" "+l.Address+" is open to the network; "+why)
		}
	}
	return open
}

// exposed says why a listener is not safe to be reached; "" if it is.
func (c *Config) exposed(l Listener) string {
	switch {
	case l.local():
		return ""
	case !l.Encrypts() && !c.Asks(l):
		return "no TLS and no password protects it"
	case !l.Encrypts():
		return "no TLS protects it: whoever is in between can read and alter everything"
	case !c.Asks(l):
		return "no password protects it"
	}
	return ""
}

// checkExposure keeps an appliance that has no credentials off the network
// until someone says that this is meant.
func (c *Config) checkExposure() error {
	var errs []error
	for _, n := range []struct {
		key    string
		number int
	}{{"kafka.listen", len(c.Kafka.Listen)}, {"mqtt.listen", len(c.MQTT.Listen)}, {"http.listen", len(c.HTTP.Listen)}} {
		if n.number == 0 {
			errs = append(errs, fmt.Errorf("%s is empty: give an address such as 127.0.0.1:0", n.key))
		}
	}
	for _, l := range c.Listeners() {
		if err := l.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.Key, err))
			continue
		}
		if why := c.exposed(l); why != "" && !c.InsecureLAN {
			errs = append(errs, fmt.Errorf("%s %s would be open to the network: %s. Run weir init, which makes certificates and a user, "+
				"listen on 127.0.0.1, or accept it with insecure_lan: true (%s, --insecure-lan)", l.Key, l.Address, why, l.Flag))
		}
	}
	return errors.Join(append(errs, c.checkAdvertised(), c.checkTLS(), c.checkAccess())...)
}

func (c *Config) checkTLS() error {
	encrypts := slices.ContainsFunc(c.Listeners(), Listener.Encrypts)
	switch {
	case encrypts && (c.TLS.Cert == "" || c.TLS.Key == ""):
		return errors.New("tls.cert and tls.key must name PEM files for the listeners with TLS: weir init makes them")
	case c.TLS.ClientAuth != "none" && c.TLS.ClientCA == "":
		return fmt.Errorf("tls.client.auth is %s, but tls.client.ca names no authority of client certificates", c.TLS.ClientAuth)
	case c.Auth.OAuth.JWKS != "" && (c.Auth.OAuth.Issuer == "" || c.Auth.OAuth.Audience == ""):
		return errors.New("auth.oauth.jwks needs auth.oauth.issuer and auth.oauth.audience: otherwise every token of that issuer would be taken")
	}
	for _, u := range c.Auth.SuperUsers {
		if kind, name, ok := strings.Cut(u, ":"); !ok || kind == "" || name == "" {
			return fmt.Errorf("auth.super.users: '%s' is not written Type:name, such as User:admin", u)
		}
	}
	return nil
}
