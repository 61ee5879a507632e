package firmwareconfig_test

import (
	"slices"
	"strings"
	"testing"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

const tlsFiles = "tls: {cert: c, key: k, client.ca: ca}\n"

// An entry of mqtt.listen is an address, or an address with what it asks for.
func TestListenersAskForWhatTheySay(t *testing.T) {
	cfg, err := firmwareconfig.Parse([]byte(tlsFiles + `mqtt:
  listen:
    - 127.0.0.1:1883
    - {address: "mqtts://0.0.0.0:8883", auth: [users, certificates], max_connections: 5}
    - {address: "mqtts://0.0.0.0:8884", auth: certificates}
    - {address: "mqtts://0.0.0.0:8885", auth: [users], client.auth: required}
    - {address: "unix:///run/weir.sock", auth: anonymous}
    - mqtts://0.0.0.0:8886
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ takes, certificate string }{
		{"users anonymous", "none"}, {"users certificates", "requested"}, {"certificates", "required"},
		{"users", "required"}, {"anonymous", "none"}, {"users", "none"},
	}
	for i, l := range cfg.MQTTListeners() {
		takes, certificate := strings.Join(cfg.Takes(l), " "), cfg.ClientAuth(l)
		if takes != want[i].takes || certificate != want[i].certificate {
			t.Errorf("%s: takes %s, certificate %s; want %+v", l, takes, certificate, want[i])
		}
		if cfg.Asks(l) == slices.Contains(cfg.Takes(l), "anonymous") {
			t.Errorf("%s: asks %v", l, cfg.Asks(l))
		}
	}
	if again, err := firmwareconfig.Parse(cfg.YAML()); err != nil || len(firmwareconfig.Changed(&cfg, &again)) > 0 {
		t.Errorf("printed and read again: %v, %v", err, firmwareconfig.Changed(&cfg, &again))
	}
	cfg.MQTT.ListenAt([]string{"127.0.0.1:0", "mqtts://127.0.0.1:0"})
	if l := cfg.MQTTListeners(); len(l) != 2 || l[1].Address != "127.0.0.1:0" || l[1].MQTT.MaxConnections != 5 {
		t.Errorf("other addresses: %v", l)
	}
}

// What cannot be asked for together is an error that names both.
func TestListenersThatContradictThemselves(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`mqtt: {listen: [{address: "127.0.0.1:1883", auth: certificates}]}`, "begin the address with mqtts://"},
		{`mqtt: {listen: [{address: "127.0.0.1:1883", client.auth: required}]}`, "client.auth required needs TLS"},
		{`mqtt: {listen: [{address: "mqtts://127.0.0.1:1883", auth: certificates, client.auth: none}]}`, "leave client.auth out"},
		{`mqtt: {listen: [{address: "mqtts://127.0.0.1:1883", auth: [anonymous], client.auth: required}]}`, "show a certificate"},
		{`mqtt: {listen: [{address: "127.0.0.1:1883", auth: [tokens]}]}`, "auth.oauth.jwks"},
		{`mqtt: {anonymous: refuse, listen: [{address: "127.0.0.1:1883", auth: [anonymous]}]}`, "mqtt.anonymous is refuse"},
		{`mqtt: {listen: [{address: "127.0.0.1:1883", auth: [users, users]}]}`, "users twice"},
		{`mqtt: {listen: [{address: "127.0.0.1:1883", auth: [passwords]}]}`, "'passwords' is not one of users"},
		{`mqtt: {listen: [{adress: "127.0.0.1:1883"}]}`, "did you mean 'address'"},
		{`mqtt: {listen: [{auth: users}]}`, "is not an address"},
		{`mqtt: {listen: [{address: "mqtts://0.0.0.0:1883", auth: [users, anonymous]}]}`, "no password protects it"},
		{`mqtt: {client_id: "%u"}` + "\ninsecure_lan: true\n" + `mqtt: {}`, "already set"},
		{"insecure_lan: true\n" + `mqtt: {client_id: "%u", listen: "0.0.0.0:1883"}`, "lets clients in that are none"},
		{`mqtt: {client_id: "%c"}`, "mqtt.client_id"}, {`mqtt: {client_id: "%u*"}`, "mqtt.client_id"}, {`mqtt: {client_id: "x-*"}`, "mqtt.client_id"},
		{`mqtt: {client_id: "%u--*"}`, "mqtt.client_id"}, {`mqtt: {client_id: ""}`, "mqtt.client_id"},
		{`auth: {groups: [{name: a}, {name: a}]}`, "exists already"}, {`auth: {groups: [{members: [x]}]}`, "no name for a group"},
		{`auth: {groups: [{name: "a:b"}]}`, "no name for a group"}, {`auth: {groups: [{name: a, members: ["*"]}]}`, "User:*"},
	} {
		if _, err := firmwareconfig.Parse([]byte(tlsFiles + c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n%v\nwant %q", c.text, err, c.want)
		}
	}
	if _, err := firmwareconfig.Parse([]byte("tls: {cert: c, key: k}\n" + `mqtt: {listen: [{address: "mqtts://127.0.0.1:1883", auth: certificates}]}`)); err == nil || !strings.Contains(err.Error(), "tls.client.ca") {
		t.Errorf("certificates of nobody's: %v", err)
	}
}

// No user may have what is another's.
func TestClientIdentifiersAreBound(t *testing.T) {
	for _, c := range []struct {
		pattern, user, id string
		want              bool
	}{
		{"*", "pump", "anything", true}, {"*", "pump", "", true},
		{"%u", "pump", "pump", true}, {"%u", "pump", "pump1", false}, {"%u", "pump", "", false}, {"%u", "pump", "%u", false},
		{"%u-*", "pump", "pump-1", true}, {"%u-*", "pump", "pump", false}, {"%u-*", "pump", "pump-", false}, {"%u-*", "pump", "pumpx-1", false},
		{"%u-*", "pump", "pump-1-a", false}, {"%u-*", "pump-1", "pump-1-a", true}, {"%u-*", "pump-1", "pump-1", false},
	} {
		m := firmwareconfig.MQTT{ClientID: c.pattern}
		if got := m.AllowsClientID(c.user, c.id); got != c.want {
			t.Errorf("%s: user %s as %s: %v", c.pattern, c.user, c.id, got)
		}
	}
}
