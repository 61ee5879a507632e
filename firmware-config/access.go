package firmwareconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The ways to say who one is that an entry of mqtt.listen may take.
const (
	ByUser        = "users"
	ByCertificate = "certificates"
	ByToken       = "tokens"
	Anonymous     = "anonymous"
)

// Takes lists the ways in which clients of an MQTT listener may say who they are: what
// its entry says, or all that the configuration has.
func (c *Config) Takes(l Listener) (kinds []string) {
	if l.MQTT == nil {
		return nil
	}
	if len(l.MQTT.Auth) > 0 {
		return l.MQTT.Auth
	}
	certificate := c.ClientAuth(l)
	kinds = append(kinds, ByUser)
	if certificate != "none" {
		kinds = append(kinds, ByCertificate)
	}
	if c.Auth.OAuth.JWKS != "" {
		kinds = append(kinds, ByToken)
	}
	if certificate != "required" && (c.MQTT.Anonymous == "allow" || c.MQTT.Anonymous == "auto" && (l.local() || c.InsecureLAN)) {
		kinds = append(kinds, Anonymous)
	}
	return kinds
}

// ClientAuth is whether clients of a listener show a certificate: none, requested or
// required.
func (c *Config) ClientAuth(l Listener) string {
	switch {
	case !l.Encrypts():
		return "none"
	case l.MQTT == nil:
		return c.TLS.ClientAuth
	case l.MQTT.ClientAuth != clientAuthDefault:
		return l.MQTT.ClientAuth
	case slices.Equal(l.MQTT.Auth, []string{ByCertificate}):
		return "required"
	case slices.Contains(l.MQTT.Auth, ByCertificate) && c.TLS.ClientAuth == "none":
		return "requested"
	}
	return c.TLS.ClientAuth
}

// clientAuthDefault leaves tls.client.auth in force.
const clientAuthDefault = "default"

// checkAccess finds what an entry of mqtt.listen cannot ask for.
func (c *Config) checkAccess() error {
	var errs []error
	for _, l := range c.MQTTListeners() {
		if err := c.checkEntry(l); err != nil {
			errs = append(errs, fmt.Errorf("mqtt.listen %s: %w", l, err))
		}
	}
	return errors.Join(append(errs, c.checkClientID(), c.checkGroups())...)
}

func (c *Config) checkEntry(l Listener) error {
	kinds, auth := l.MQTT.Auth, l.MQTT.ClientAuth
	has := func(kind string) bool { return slices.Contains(kinds, kind) }
	switch {
	case auth != clientAuthDefault && auth != "none" && !l.Encrypts():
		return fmt.Errorf("client.auth %s needs TLS: begin the address with mqtts:// or wss://", auth)
	case c.ClientAuth(l) != "none" && c.TLS.ClientCA == "":
		return errors.New("client certificates need tls.client.ca, the authorities whose certificates are taken")
	case has(ByCertificate) && !l.Encrypts():
		return errors.New("auth certificates needs TLS: begin the address with mqtts:// or wss://")
	case has(ByCertificate) && auth == "none":
		return errors.New("auth takes certificates, but client.auth none never asks for one: leave client.auth out")
	case has(ByToken) && c.Auth.OAuth.JWKS == "":
		return errors.New("auth takes tokens, but auth.oauth.jwks names no keys to check them by")
	case has(Anonymous) && c.ClientAuth(l) == "required":
		return errors.New("auth lets anonymous clients in, but client.auth required makes all of them show a certificate")
	case has(Anonymous) && c.MQTT.Anonymous == "refuse":
		return errors.New("auth lets anonymous clients in, but mqtt.anonymous is refuse")
	}
	for i, kind := range kinds {
		if slices.Contains(kinds[:i], kind) {
			return fmt.Errorf("auth names %s twice", kind)
		}
	}
	return nil
}

// checkGroups: a group that is written twice would have the members of one of them.
func (c *Config) checkGroups() error {
	names := map[string]bool{}
	for i, g := range c.Auth.Groups {
		switch {
		case g.Name == "" || strings.ContainsAny(g.Name, ":*"):
			return fmt.Errorf("auth.groups[%d]: '%s' is no name for a group: it has at least one character, and no : or *", i, g.Name)
		case names[g.Name]:
			return fmt.Errorf("auth.groups[%d]: a group named '%s' exists already", i, g.Name)
		case len(g.Members) > MaxMembers:
			return fmt.Errorf("auth.groups[%d]: %s has %d members, the limit is %d; make a rule for User:* of it", i, g.Name, len(g.Members), MaxMembers)
		case slices.Contains(g.Members, "") || slices.Contains(g.Members, "*"):
			return fmt.Errorf("auth.groups[%d]: a member of %s has no name: rules for everybody are for User:*", i, g.Name)
		}
		names[g.Name] = true
	}
	return nil
}

// MaxMembers bounds the members of one group.
const MaxMembers = 10_000

// UserVariable stands for the user's name in mqtt.client_id.
const UserVariable = "%u"

// checkClientID: an identifier that is bound to nobody's name takes over anybody's session.
func (c *Config) checkClientID() error {
	pattern := c.MQTT.ClientID
	separator, wild := strings.CutSuffix(strings.TrimPrefix(pattern, UserVariable), "*")
	switch {
	case pattern == "*":
		return nil
	case !strings.HasPrefix(pattern, UserVariable), wild && len(separator) != 1, !wild && separator != "", separator == "*", separator == "%":
		return fmt.Errorf("mqtt.client_id '%s' is not * (any), %%u (the user's name) or %%u, one character and *, such as %%u-*", pattern)
	}
	for _, l := range c.MQTTListeners() {
		if !l.local() && slices.Contains(c.Takes(l), Anonymous) {
			return fmt.Errorf("mqtt.client_id binds identifiers to users, but mqtt.listen %s lets clients in that are none: "+
				"take anonymous out of its auth, or set mqtt.anonymous: refuse", l)
		}
	}
	return nil
}

// AllowsClientID reports whether a user may have a client identifier. Behind the
// separator of %u-* there is none more: otherwise a user pump could be taken for pump-1.
func (m *MQTT) AllowsClientID(user, id string) bool {
	separator, wild := strings.CutSuffix(strings.TrimPrefix(m.ClientID, UserVariable), "*")
	switch {
	case m.ClientID == "*":
		return true
	case !wild:
		return id == user
	}
	rest, ok := strings.CutPrefix(id, user+separator)
	return ok && rest != "" && !strings.Contains(rest, separator)
}

// ListenAt puts other addresses in the place of those of kafka.listen; what is advertised
// was said of those, so it goes with them.
func (k *Kafka) ListenAt(addresses []string) {
	listen := make([]KafkaListener, len(addresses))
	for i, address := range addresses {
		if i < len(k.Listen) && k.Listen[i].Address == address {
			listen[i] = k.Listen[i]
		}
		listen[i].Address = address
	}
	k.Listen = listen
}

// ListenAt puts other addresses in the place of those of mqtt.listen; the rest of
// each entry stays.
func (m *MQTT) ListenAt(addresses []string) {
	listen := make([]MQTTListener, len(addresses))
	for i, address := range addresses {
		listen[i].setDefaults()
		if i < len(m.Listen) {
			listen[i] = m.Listen[i]
		}
		listen[i].Address = address
	}
	m.Listen = listen
}
