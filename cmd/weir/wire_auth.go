package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// serveConsole has the console listen, with TLS where the configuration says so.
func (b *box) serveConsole(server *console.Server) error {
	var addresses []string
	for _, l := range b.cfg.HTTPListeners() {
		ln, err := listen(l.Flag, l.Address)
		if err != nil {
			return err
		}
		addresses = append(addresses, ln.Addr().String())
		if l.Encrypts() {
			ln = tls.NewListener(ln, b.certs.Browsers("http/1.1"))
		}
		server.Serve(ln)
	}
	b.bound("http", strings.Join(addresses, ","))
	b.log.Info("console started", "http", strings.Join(addresses, ","))
	return nil
}

// certificateWarning is how long before its end an operator is told.
const certificateWarning = 30 * 24 * time.Hour

// fillCertificate warns of a certificate that ends.
func (b *box) fillCertificate(s *console.Snapshot) {
	if b.certs == nil {
		return
	}
	end := b.certs.Expires()
	switch left := time.Until(end); {
	case left < 0:
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: fmt.Sprintf(
			"the TLS certificate ended on %s: clients refuse it; renew it with weir cert server, or set the machine's clock right", end.Format(time.DateOnly))})
	case left < certificateWarning:
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: fmt.Sprintf(
			"the TLS certificate ends on %s: renew it with weir cert server", end.Format(time.DateOnly))})
	}
}

// device is an MQTT client before the access rules. They see MQTT topics as Kafka
// topics named mqtt:NAME, which no Kafka topic can be called: WRITE is to publish,
// READ to subscribe.
type device struct {
	session *auth.Session
	names   map[string]string // with the prefix, by MQTT topic
	quotas  *quota.Quotas
	client  quota.Client // whose quota counts
}

const maxDeviceNames = 256 // kept by a connection

var (
	_ mqtt.Identity = (*device)(nil)
	_ mqtt.Charger  = (*device)(nil)
)

func (d *device) Charged() bool { return d.quotas.Has(quota.ProduceBytes) }

// ChargePublish is Kafka's producer_byte_rate, of the user and the client identifier.
func (d *device) ChargePublish(bytes int, now time.Time) time.Duration {
	return d.quotas.Charge(d.client, quota.ProduceBytes, float64(bytes), now)
}

func (d *device) MayPublish(topic []byte) bool {
	name, ok := d.names[string(topic)]
	if !ok {
		if d.names == nil || len(d.names) >= maxDeviceNames {
			d.names = map[string]string{}
		}
		name = auth.MQTTPrefix + string(topic)
		d.names[name[len(auth.MQTTPrefix):]] = name
	}
	return d.session.Authorize(auth.Write, auth.Topic, name)
}

func (d *device) MaySubscribe(filter string) bool {
	filter = unshared(filter)
	fixed := mqtt.FixedPart(filter)
	if fixed == filter {
		return d.session.Authorize(auth.Read, auth.Topic, auth.MQTTPrefix+filter)
	}
	return d.session.AllowedFilter(auth.Read, auth.Topic, auth.MQTTPrefix+filter, auth.MQTTPrefix+fixed)
}

// MayKeep is MaySubscribe without a trace.
func (d *device) MayKeep(filter string) bool {
	filter = unshared(filter)
	return d.session.MayKeep(auth.Read, auth.Topic, auth.MQTTPrefix+filter, auth.MQTTPrefix+mqtt.FixedPart(filter))
}

// unshared is the filter of a shared subscription.
func unshared(filter string) string {
	if shared, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(shared, "/")
	}
	return filter
}

func (d *device) OnNarrowed(look func()) { d.session.OnNarrowed(look) }

func (d *device) Expired() bool    { return d.session.Lifetime() < 0 }
func (d *device) OnEnd(end func()) { d.session.OnEnd(end) }
func (d *device) Close()           { d.session.Close() }

// identify lets MQTT clients in: by user name and password, where the password may
// be a JSON Web Token, by certificate, or as User:ANONYMOUS.
func (b *box) identify(l mqtt.Login) (mqtt.Identity, error) {
	session, err := b.deviceSession(l)
	if err != nil {
		var failed *auth.LoginError
		if errors.As(err, &failed) {
			return nil, &mqtt.Refusal{Err: err, After: failed.Delay}
		}
		return nil, err
	}
	return b.admit(session, l.ClientID)
}

// admit lets a client in by an identifier that its user may have.
func (b *box) admit(session *auth.Session, clientID string) (mqtt.Identity, error) {
	principal := session.Principal()
	if principal != auth.Anonymous && !b.cfg.MQTT.AllowsClientID(principal.Name(), clientID) {
		session.Close()
		session.Report(auth.Event{Kind: auth.Denied, Operation: "CONNECT", Resource: "CLIENT_ID", Name: clientID, Detail: "mqtt.client_id is " + b.cfg.MQTT.ClientID})
		want := strings.Replace(b.cfg.MQTT.ClientID, firmwareconfig.UserVariable, principal.Name(), 1)
		return nil, &packet.Error{Reason: packet.ClientIDNotValid, Text: fmt.Sprintf("client identifier %.64q is not the user's: it must be %q (mqtt.client_id)", clientID, want)}
	}
	session.Call(clientID)
	return &device{session: session, quotas: b.quotas.Load(), client: quota.Client{User: principal.Name(), ID: clientID}}, nil
}

// exchange begins an MQTT 5 enhanced authentication by one of the SCRAM mechanisms.
func (b *box) exchange(l mqtt.Login, method string) (mqtt.Exchange, error) {
	m := auth.Mechanism(method)
	if m != auth.ScramSHA256 && m != auth.ScramSHA512 {
		return nil, fmt.Errorf("not offered; there are %s and %s", auth.ScramSHA256, auth.ScramSHA512)
	}
	if !l.Takes.Has(mqtt.Users) {
		return nil, errors.New("this listener takes no users (mqtt.listen, auth)")
	}
	x, err := b.broker.Auth().Begin(auth.Peer{Host: hostOf(l.Remote), TLS: l.TLS != nil, Via: auth.ViaMQTT}, m)
	if err != nil {
		return nil, err
	}
	return deviceExchange{x, b, l.ClientID}, nil
}

type deviceExchange struct {
	*auth.Exchange
	b        *box
	clientID string
}

// Step implements mqtt.Exchange.
func (x deviceExchange) Step(data []byte) ([]byte, mqtt.Identity, error) {
	answer, session, err := x.Exchange.Step(data)
	var failed *auth.LoginError
	switch {
	case errors.As(err, &failed):
		return nil, nil, &mqtt.Refusal{Err: err, After: failed.Delay}
	case err != nil:
		return nil, nil, err
	case session == nil:
		return answer, nil, nil
	}
	who, err := x.b.admit(session, x.clientID)
	return answer, who, err
}

func (b *box) deviceSession(l mqtt.Login) (*auth.Session, error) {
	a := b.broker.Auth()
	peer := auth.Peer{Host: hostOf(l.Remote), TLS: l.TLS != nil, Via: auth.ViaMQTT}
	tokens := l.HasUser && l.Takes.Has(mqtt.Tokens) && b.cfg.Auth.OAuth.JWKS != ""
	password := l.HasUser && l.Takes.Has(mqtt.Users) && (a.HasUsers() || tokens)
	certificate := l.TLS != nil && len(l.TLS.PeerCertificates) > 0
	switch {
	case (tokens || password) && !b.takesPasswords(peer):
		return nil, errors.New("passwords are taken over TLS only (auth.plain_without_tls)")
	case tokens && (!password || auth.LooksLikeToken(string(l.Password))):
		return a.Token(peer, string(l.Password))
	case password:
		return a.Password(peer, l.UserName, string(l.Password))
	case l.Takes.Has(mqtt.Certificates) && certificate:
		return a.Certificate(peer, l.TLS.PeerCertificates[0])
	case l.Takes.Has(mqtt.Anonymous):
		return a.Anonymous(peer), nil
	}
	return nil, fmt.Errorf("this listener wants %s (mqtt.listen, auth; mqtt.anonymous)", wanted(l.Takes))
}

// wanted says how a client may say who it is.
func wanted(takes mqtt.Kinds) string {
	var ways []string
	for _, way := range []struct {
		kind mqtt.Kinds
		text string
	}{{mqtt.Users, "a user name and password"}, {mqtt.Tokens, "a token as the password"}, {mqtt.Certificates, "a client certificate"}} {
		if takes.Has(way.kind) {
			ways = append(ways, way.text)
		}
	}
	return strings.Join(ways, " or ")
}

// takesPasswords reports whether a connection is safe enough to send a password over.
func (b *box) takesPasswords(p auth.Peer) bool {
	ip := net.ParseIP(p.Host)
	return p.TLS || ip != nil && ip.IsLoopback() || b.cfg.Auth.PlainWithoutTLS || b.cfg.InsecureLAN
}

func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return a.String()
}
