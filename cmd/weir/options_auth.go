package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// This file maps the file's keys about security to the parts' Options.

func kafkaListeners(cfg *firmwareconfig.Config) (out []appliance.Listener) {
	for _, l := range cfg.KafkaListeners() {
		out = append(out, appliance.Listener{Address: l.Address, Protocol: kafka.Protocol(l.Scheme), Advertised: l.Advertised})
	}
	return out
}

func mqttListeners(cfg *firmwareconfig.Config) (out []bridge.Listener) {
	for _, l := range cfg.MQTTListeners() {
		m := l.MQTT
		out = append(out, bridge.Listener{
			Addr: l.Address, Unix: l.Unix(), WebSocket: l.WebSocket(),
			MQTT: mqtt.Listener{
				Name: l.String(), Takes: kindsOf(cfg.Takes(l)), MaxConnections: m.MaxConnections, MaxConnectionRate: m.MaxConnectionRate,
				MaxPublishRate: m.MaxPublishRate, MaxPublishBytes: int(m.MaxPublishBytes),
			},
		})
	}
	return out
}

func kindsOf(names []string) (kinds mqtt.Kinds) {
	for _, name := range names {
		kinds |= map[string]mqtt.Kinds{
			firmwareconfig.ByUser: mqtt.Users, firmwareconfig.ByCertificate: mqtt.Certificates,
			firmwareconfig.ByToken: mqtt.Tokens, firmwareconfig.Anonymous: mqtt.Anonymous,
		}[name]
	}
	return kinds
}

// encrypt gives the listeners that encrypt their identity.
func encrypt(cfg *firmwareconfig.Config, out []bridge.Listener, certs *auth.Certificates) {
	for i, l := range cfg.MQTTListeners() {
		if l.Encrypts() {
			out[i].TLS = certs.ServerFor(auth.ClientAuth(cfg.ClientAuth(l)))
		}
	}
}

// authOptions has been checked by checkAuth.
func authOptions(cfg *firmwareconfig.Config) *auth.Options {
	a := &cfg.Auth
	o := auth.Options{
		AllowEveryone: cfg.AllowsEveryone(), PlainWithoutTLS: a.PlainWithoutTLS, Iterations: a.Iterations, MaxReauth: time.Duration(a.MaxReauth),
		MaxUsers: a.MaxUsers, MaxRules: a.MaxRules, FailureDelay: time.Duration(a.FailureDelay), MaxFailureDelay: time.Duration(a.MaxFailureDelay),
		MaxFailedAddresses: a.MaxFailedFrom, MaxRememberedAnswers: a.MaxRemembered,
	}
	o.Names, _ = nameRules(cfg)
	for _, p := range a.SuperUsers {
		o.SuperUsers = append(o.SuperUsers, auth.Principal(p))
	}
	for _, g := range a.Groups {
		for _, member := range g.Members {
			if o.Groups == nil {
				o.Groups = map[auth.Principal][]auth.Principal{}
			}
			user := auth.UserPrincipal(member)
			o.Groups[user] = append(o.Groups[user], auth.GroupPrincipal(g.Name))
		}
	}
	for _, m := range a.Mechanisms {
		o.Mechanisms = append(o.Mechanisms, auth.Mechanism(m))
	}
	return &o
}

func nameRules(cfg *firmwareconfig.Config) (auth.NameRules, error) {
	rules, err := auth.ParseNameRules(strings.Join(cfg.TLS.Names, ","))
	if err != nil {
		return rules, fmt.Errorf("tls.principal.mapping.rules: %w", err)
	}
	return rules, nil
}

// tokenOptions is nil where no tokens are taken.
func tokenOptions(cfg *firmwareconfig.Config) *auth.TokenOptions {
	o := &cfg.Auth.OAuth
	if o.JWKS == "" {
		return nil
	}
	return &auth.TokenOptions{Keys: o.JWKS, Issuer: o.Issuer, Audience: o.Audience, Claim: o.Claim, GroupsClaim: o.Groups, Algorithms: o.Algorithms}
}

// checkAuth finds what only package auth can know.
func checkAuth(cfg *firmwareconfig.Config) error {
	if _, err := nameRules(cfg); err != nil {
		return err
	}
	for _, m := range cfg.Auth.Mechanisms {
		switch auth.Mechanism(m) {
		case auth.Plain, auth.ScramSHA256, auth.ScramSHA512, auth.OAuthBearer:
		default:
			return fmt.Errorf("auth.sasl.enabled.mechanisms: '%s' is not PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", m)
		}
	}
	if t := tokenOptions(cfg); t != nil {
		return t.Check()
	}
	return nil
}

// certificates loads the server's identity; nil if no listener encrypts.
func certificates(cfg *firmwareconfig.Config, log *slog.Logger) (*auth.Certificates, error) {
	for _, l := range cfg.Listeners() {
		if l.Encrypts() {
			return auth.LoadCertificates(auth.TLSOptions{
				Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, ClientCA: cfg.TLS.ClientCA, ClientAuth: auth.ClientAuth(cfg.TLS.ClientAuth), Log: log,
			})
		}
	}
	return nil, nil
}
