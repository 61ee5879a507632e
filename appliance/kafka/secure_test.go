package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

// tableOf is a store of users or rules that ends with the test.
type tableOf struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (t *tableOf) All() (map[string][]byte, error) { return t.values, nil }
func (t *tableOf) PutAll(values map[string][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.values == nil {
		t.values = map[string][]byte{}
	}
	for k, v := range values {
		t.values[k] = v
	}
	return nil
}

func (t *tableOf) Delete(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.values, key)
	return nil
}

// authority knows the users admin (who may do everything), alice and bob; the password
// of each is its name.
func authority(t testing.TB, o auth.Options) *auth.Authority {
	t.Helper()
	o.Users, o.Rules = &tableOf{}, &tableOf{}
	o.SuperUsers = append(o.SuperUsers, "User:admin")
	a, err := auth.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"admin", "alice", "bob"} {
		if err := a.SetPassword(user, user); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// identities are certificates of one authority: a server's and a client's.
func identities(t testing.TB) (server *tls.Config, roots *x509.CertPool, client tls.Certificate) {
	t.Helper()
	issue := func(tmpl, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, tls.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = tmpl, key
		}
		tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}, key
	}
	ca, _, caKey := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	_, serverPair, _ := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, ca, caKey)
	_, client, _ = issue(&x509.Certificate{Subject: pkix.Name{CommonName: "pump-1", Organization: []string{"plant"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, caKey)
	roots = x509.NewCertPool()
	roots.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{serverPair}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven}, roots, client
}

// secured serves s behind a protocol and returns the address.
func secured(t testing.TB, s *kafka.Server, sec kafka.Security) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.ServeSecure(l, sec) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

func scram256(user, password string) sasl.Mechanism {
	return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
}

func scram512(user, password string) sasl.Mechanism {
	return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
}

// A client of each mechanism, over TLS, produces and consumes.
func TestSASLOverTLS(t *testing.T) {
	server, roots, _ := identities(t)
	s, topics := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{})})
	create(t, topics, "t", 1)
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLSSL, TLS: server})
	for name, m := range map[string]sasl.Mechanism{
		"PLAIN": plain.Auth{User: "admin", Pass: "admin"}.AsMechanism(), "SCRAM-SHA-256": scram256("admin", "admin"), "SCRAM-SHA-512": scram512("admin", "admin"),
	} {
		cl := newClient(t, addr, kgo.SASL(m), kgo.DialTLSConfig(&tls.Config{RootCAs: roots}), kgo.DefaultProduceTopic("t"),
			kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		// Large enough that a plaintext listener would use sendfile.
		if err := cl.ProduceSync(patience(t), kgo.StringRecord(name+strings.Repeat("x", 20_000))).FirstErr(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := read(t, cl, 1)[0]; len(r.Value) < 20_000 {
			t.Errorf("%s: read %.20q", name, r.Value)
		}
	}
}

// The broker is told to clients under the name they dialled, which the certificate bears.
func TestTLSClientsAreToldTheNameTheyDialled(t *testing.T) {
	server, roots, _ := identities(t)
	s, _ := newBroker(t, kafka.Options{})
	_, port, _ := net.SplitHostPort(secured(t, s, kafka.Security{Protocol: kafka.SSL, TLS: server}))
	cl := newClient(t, net.JoinHostPort("localhost", port), kgo.DialTLSConfig(&tls.Config{RootCAs: roots}))
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(patience(t), cl)
	if err != nil || resp.Brokers[0].Host != "localhost" {
		t.Errorf("brokers %+v, %v", resp, err)
	}
}

func TestWrongPasswordIsToldAndClosed(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{})})
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	for name, m := range map[string]sasl.Mechanism{"password": scram256("alice", "wrong"), "user": scram512("nobody", "x")} {
		cl := newClient(t, addr, kgo.SASL(m), kgo.RetryTimeout(time.Second))
		if err := cl.Ping(patience(t)); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	if st := s.Status(); st.NotLoggedIn == 0 {
		t.Error("the failures were not counted")
	}
}

// handshake begins a login by hand.
func handshake(w *wire, version int16, mechanism string) *kmsg.SASLHandshakeResponse {
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Mechanism = mechanism
	return ask[*kmsg.SASLHandshakeResponse](w, version, req)
}

func authenticate(w *wire, version int16, token string) *kmsg.SASLAuthenticateResponse {
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.SASLAuthBytes = []byte(token)
	return ask[*kmsg.SASLAuthenticateResponse](w, version, req)
}

func TestNothingBeforeTheLogin(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{AllowEveryone: true, PlainWithoutTLS: true})})
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	for _, row := range kafka.Table() {
		switch row.Name {
		case "ApiVersions", "SaslHandshake", "SaslAuthenticate":
			continue
		}
		w := dial(t, addr)
		req := kmsg.RequestForKey(row.Key)
		req.SetVersion(row.Max)
		w.write(frameOf(req, 1))
		w.wantClosed()
	}
	w := dial(t, addr)
	ask[*kmsg.ApiVersionsResponse](w, 4, apiVersionsRequest())
	if resp := handshake(w, 1, "PLAIN"); resp.ErrorCode != 0 {
		t.Fatalf("handshake: %d", resp.ErrorCode)
	}
	if resp := authenticate(w, 2, "\x00alice\x00alice"); resp.ErrorCode != 0 {
		t.Fatalf("login: %d %v", resp.ErrorCode, resp.ErrorMessage)
	}
	if resp := metadataOf(w, 9, false); len(resp.Brokers) != 1 {
		t.Errorf("Metadata after the login: %+v", resp)
	}
}

func TestSASLStatesThatCannotBe(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{})})
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	w := dial(t, addr)
	if resp := authenticate(w, 1, "x"); resp.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("token without handshake: %d", resp.ErrorCode)
	}
	w.wantClosed()
	w = dial(t, addr)
	resp := handshake(w, 1, "PLAIN")
	if resp.ErrorCode != kerr.UnsupportedSaslMechanism.Code || !slices.Equal(resp.SupportedMechanisms, []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}) {
		t.Errorf("PLAIN in clear text: %d, offered %v", resp.ErrorCode, resp.SupportedMechanisms)
	}
	w.wantClosed()
	w = dial(t, secured(t, s, kafka.Security{Protocol: kafka.Plaintext}))
	if resp := handshake(w, 1, "SCRAM-SHA-256"); resp.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("handshake where nobody logs in: %d", resp.ErrorCode)
	}
}

// SaslHandshake v0: the tokens come without a request around them.
func TestBareTokens(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{PlainWithoutTLS: true})})
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	bare := func(w *wire, token string) {
		w.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...))
	}
	w := dial(t, addr)
	handshake(w, 0, "PLAIN")
	bare(w, "\x00alice\x00alice")
	if b := w.frame(); len(b) != 0 {
		t.Errorf("answer % x, want an empty one", b)
	}
	if resp := metadataOf(w, 1, false); len(resp.Brokers) != 1 {
		t.Errorf("Metadata after the login: %+v", resp)
	}
	w = dial(t, addr)
	handshake(w, 0, "PLAIN")
	bare(w, "\x00alice\x00wrong")
	w.wantClosed()
}

// KIP-368: a client logs in again on its connection in time, or is cut off.
func TestReauthentication(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_000_000_000, 0)
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	s, _ := newBroker(t, kafka.Options{Auth: authority(t, auth.Options{PlainWithoutTLS: true, MaxReauth: time.Hour, Now: clock})})
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	login := func(w *wire, user string) *kmsg.SASLAuthenticateResponse {
		if resp := handshake(w, 1, "PLAIN"); resp.ErrorCode != 0 {
			t.Fatalf("handshake: %d", resp.ErrorCode)
		}
		return authenticate(w, 2, "\x00"+user+"\x00"+user)
	}
	w, other := dial(t, addr), dial(t, addr)
	if resp := login(w, "alice"); resp.SessionLifetimeMillis != time.Hour.Milliseconds() {
		t.Fatalf("session lifetime %d ms", resp.SessionLifetimeMillis)
	}
	pass(30 * time.Minute)
	if resp := login(w, "alice"); resp.ErrorCode != 0 || resp.SessionLifetimeMillis != time.Hour.Milliseconds() {
		t.Fatalf("again: %d, %d ms", resp.ErrorCode, resp.SessionLifetimeMillis)
	}
	pass(45 * time.Minute)
	metadataOf(w, 9, false) // 75 minutes after the first login
	pass(16 * time.Minute)
	req := kmsg.NewPtrMetadataRequest()
	w.send(req)
	w.wantClosed()
	old := dial(t, addr) // whose version does not tell it
	handshake(old, 1, "PLAIN")
	authenticate(old, 0, "\x00alice\x00alice")
	pass(24 * time.Hour)
	metadataOf(old, 9, false)
	login(other, "alice")
	if resp := login(other, "bob"); resp.ErrorCode != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("alice became bob: %d", resp.ErrorCode)
	}
	other.wantClosed()
}

// A deleted user is cut off at once, also where its connection waits for data.
func TestDeletedUserIsCutOff(t *testing.T) {
	a := authority(t, auth.Options{PlainWithoutTLS: true, AllowEveryone: true})
	s, topics := newBroker(t, kafka.Options{Auth: a})
	create(t, topics, "t", 1)
	w := dial(t, secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext}))
	handshake(w, 1, "PLAIN")
	authenticate(w, 2, "\x00alice\x00alice")
	fetch := fetchOf("t", 0, 0)
	fetch.MaxWaitMillis, fetch.MinBytes = 30_000, 1
	fetch.SetVersion(12)
	w.write(frameOf(fetch, 9))
	for _, m := range []auth.Mechanism{auth.ScramSHA256, auth.ScramSHA512} {
		if err := a.ChangeCredential(auth.CredentialChange{User: "alice", Mechanism: m}); err != nil {
			t.Fatal(err)
		}
	}
	w.wantClosed()
}

func TestClientCertificateIsThePrincipal(t *testing.T) {
	server, roots, client := identities(t)
	names, err := auth.ParseNameRules("RULE:^CN=(.*?),.*$/$1/L, DEFAULT")
	if err != nil {
		t.Fatal(err)
	}
	a := authority(t, auth.Options{Names: names})
	if err := a.AddRules([]auth.Rule{{Type: auth.Topic, Name: "t", Pattern: auth.Literal, Principal: "User:pump-1", Host: "*", Operation: auth.Write, Permission: auth.Allow}}); err != nil {
		t.Fatal(err)
	}
	s, topics := newBroker(t, kafka.Options{Auth: a})
	create(t, topics, "t", 1)
	addr := secured(t, s, kafka.Security{Protocol: kafka.SSL, TLS: server})
	produce := func(certs ...tls.Certificate) error {
		cl := newClient(t, addr, kgo.DialTLSConfig(&tls.Config{RootCAs: roots, Certificates: certs}), kgo.DefaultProduceTopic("t"), kgo.RecordRetries(0))
		return cl.ProduceSync(patience(t), kgo.StringRecord("x")).FirstErr()
	}
	if err := produce(client); err != nil {
		t.Errorf("with the certificate: %v", err)
	}
	if err := produce(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("without: %v", err)
	}
	_, _, stranger := identities(t)
	if err := produce(stranger); err == nil {
		t.Error("the certificate of a foreign authority was taken")
	}
}

// fill gives every part of a request a value, so that there is something to be refused.
func fill(v reflect.Value, id topic.ID) {
	switch v.Kind() {
	case reflect.Array:
		v.Set(reflect.ValueOf(id))
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.String || v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), id)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Type().Field(i); {
			case f.Name == "Version", f.Name == "UnknownTags", !f.IsExported(), f.Name == "Assignment", f.Name == "ReplicaAssignment", f.Name == "MemberID":
			case f.Name == "ResourceType":
				v.Field(i).SetInt(2)
			default:
				fill(v.Field(i), id)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), id)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(false)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(0)
	}
}

// refusedIn looks for a code of authorization anywhere in a response.
func refusedIn(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && refusedIn(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				switch int16(v.Field(i).Int()) {
				case kerr.TopicAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code, kerr.TransactionalIDAuthorizationFailed.Code:
					return true
				}
			}
			if v.Type().Field(i).IsExported() && refusedIn(v.Field(i)) {
				return true
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if refusedIn(v.Index(i)) {
				return true
			}
		}
	}
	return false
}

// Whatever API there is, a client without any right gets nothing of it.
func TestEveryAPIIsAuthorized(t *testing.T) {
	topics := openTopics(t)
	id := create(t, topics, "x", 1).ID()
	s, _ := newBroker(t, kafka.Options{Topics: topics, Auth: authority(t, auth.Options{}), Groups: group.Unavailable()})
	hides := map[string]string{"ListGroups": "leaves groups out", "ListTransactions": "leaves transactions out"}
	for _, row := range kafka.Table() {
		if row.Needs == "" {
			t.Errorf("%s does not say what it needs", row.Name)
		}
		if row.Needs == "–" || hides[row.Name] != "" {
			continue
		}
		for v := row.Min; v <= row.Max; v++ {
			w := pipe(t, s)
			req := kmsg.RequestForKey(row.Key)
			fill(reflect.ValueOf(req).Elem(), id)
			if p, ok := req.(*kmsg.ProduceRequest); ok {
				p.Acks, p.TransactionID = -1, nil
			}
			switch req := req.(type) { // which name a topic either way, not both
			case *kmsg.MetadataRequest:
				if req.Topics[0].Topic = nil; v < 12 {
					req.Topics[0].Topic, req.Topics[0].TopicID = kmsg.StringPtr("x"), topic.ID{}
				}
			case *kmsg.DeleteTopicsRequest:
				req.Topics[0].Topic = nil
			}
			if _, ok := req.(*kmsg.DescribeLogDirsRequest); ok && v < 3 { // which has no place for the code
				continue
			}
			req.SetVersion(v)
			resp := ask[kmsg.Response](w, v, req)
			if !refusedIn(reflect.ValueOf(resp)) {
				t.Errorf("%s v%d answers a client without any right: %+v", row.Name, v, resp)
			}
		}
	}
}

// What a client may not see is not there.
func TestMetadataHidesTopics(t *testing.T) {
	a := authority(t, auth.Options{})
	if err := a.AddRules([]auth.Rule{{Type: auth.Topic, Name: "seen", Pattern: auth.Literal, Principal: auth.Anonymous, Host: "*", Operation: auth.Read, Permission: auth.Allow}}); err != nil {
		t.Fatal(err)
	}
	s, topics := newBroker(t, kafka.Options{Auth: a})
	create(t, topics, "seen", 1)
	create(t, topics, "hidden", 1)
	w := pipe(t, s)
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	all := ask[*kmsg.MetadataResponse](w, 9, req)
	if len(all.Topics) != 1 || *all.Topics[0].Topic != "seen" || all.Topics[0].AuthorizedOperations != 1<<auth.Read|1<<auth.Describe {
		t.Errorf("all topics: %+v", all.Topics)
	}
	named := metadataOf(w, 9, true, "hidden", "made", "seen")
	for i, want := range []int16{29, 29, 0} {
		if got := named.Topics[i].ErrorCode; got != want {
			t.Errorf("topic %s: %d, want %d", *named.Topics[i].Topic, got, want)
		}
	}
	see := auth.Rule{Type: auth.Topic, Name: "made", Pattern: auth.Literal, Principal: auth.Anonymous, Host: "*", Operation: auth.Describe, Permission: auth.Allow}
	if err := a.AddRules([]auth.Rule{see}); err != nil {
		t.Fatal(err)
	}
	if got := metadataOf(w, 9, true, "made").Topics[0].ErrorCode; got != 29 {
		t.Errorf("a topic that may be seen but not made: %d", got)
	}
	if topics.Topic("made") != nil {
		t.Error("a topic was created by a client that may not")
	}
	see.Operation = auth.Create
	if err := a.AddRules([]auth.Rule{see}); err != nil {
		t.Fatal(err)
	}
	if got := metadataOf(w, 9, true, "made").Topics[0].ErrorCode; got != 0 {
		t.Errorf("a topic that may be made: %d", got)
	}
}

// Kafka's own administration of rules and users, by franz-go's client.
func TestAdministerRulesAndUsers(t *testing.T) {
	a := authority(t, auth.Options{})
	s, topics := newBroker(t, kafka.Options{Auth: a})
	create(t, topics, "t", 1)
	addr := secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext})
	ctx := patience(t)
	admin := kadm.NewClient(newClient(t, addr, kgo.SASL(scram256("admin", "admin"))))
	alice := newClient(t, addr, kgo.SASL(scram256("alice", "alice")), kgo.DefaultProduceTopic("t"), kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	if err := alice.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("without a rule: %v", err)
	}
	allow := kadm.NewACLs().Topics("t").Allow("User:alice").Operations(kadm.OpWrite, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
	made, err := admin.CreateACLs(ctx, allow)
	if err != nil || len(made) != 2 || made[0].Err != nil {
		t.Fatalf("create: %+v, %v", made, err)
	}
	if err := alice.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
		t.Fatalf("with the rule: %v", err)
	}
	if _, err := kadm.NewClient(alice).CreateACLs(ctx, allow); err == nil {
		if r, _ := kadm.NewClient(alice).CreateACLs(ctx, allow); !errors.Is(r[0].Err, kerr.ClusterAuthorizationFailed) {
			t.Errorf("alice makes rules: %+v", r)
		}
	}
	found, err := admin.DescribeACLs(ctx, kadm.NewACLs().Topics("t").Allow().AllowHosts().Deny().DenyHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternMatch))
	if err != nil || len(found) != 2 && len(found[0].Described) != 2 {
		t.Fatalf("describe: %+v, %v", found, err)
	}
	deleted, err := admin.DeleteACLs(ctx, kadm.NewACLs().Topics("t").Allow("User:alice").AllowHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternAny))
	if err != nil || len(deleted) != 1 || len(deleted[0].Deleted) != 2 {
		t.Fatalf("delete: %+v, %v", deleted, err)
	}
	if err := alice.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("after the rule is gone: %v", err)
	}
	altered, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "carol", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "secret"}})
	if err != nil || altered["carol"].Err != nil {
		t.Fatalf("add user: %+v, %v", altered, err)
	}
	carol := newClient(t, addr, kgo.SASL(scram512("carol", "secret")))
	if err := carol.Ping(ctx); err != nil {
		t.Errorf("new user: %v", err)
	}
	users, err := admin.DescribeUserSCRAMs(ctx)
	if err != nil || len(users) != 4 || len(users["carol"].CredInfos) != 1 || users["carol"].CredInfos[0].Iterations != 4096 {
		t.Errorf("users: %+v, %v", users, err)
	}
	altered, err = admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "carol", Mechanism: kadm.ScramSha256}}, []kadm.UpsertSCRAM{
		{User: "dave", Mechanism: kadm.ScramSha256, Iterations: 4096, SaltedPassword: []byte("short"), Salt: []byte("salt")}})
	if err != nil || !errors.Is(altered["carol"].Err, kerr.ResourceNotFound) || !errors.Is(altered["dave"].Err, kerr.UnacceptableCredential) {
		t.Errorf("changes that cannot be: %+v, %v", altered, err)
	}
}

// A listener with TLS lets go of who never ends the handshake.
func TestTLSHandshakeHasATimeLimit(t *testing.T) {
	server, _, _ := identities(t)
	s, _ := newBroker(t, kafka.Options{HandshakeTimeout: 50 * time.Millisecond})
	nc, err := net.Dial("tcp", secured(t, s, kafka.Security{Protocol: kafka.SSL, TLS: server}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want the end", err)
	}
}

// A client that asks ApiVersions for ever is not logged in.
func TestLoginHasATimeLimit(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{HandshakeTimeout: 20 * time.Millisecond, Auth: authority(t, auth.Options{})})
	nc, err := net.Dial("tcp", secured(t, s, kafka.Security{Protocol: kafka.SASLPlaintext}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := nc.Write(frameOf(apiVersionsRequest(), 1)); err != nil {
				return
			}
		}
	}()
	if _, err := io.Copy(io.Discard, nc); ctx.Err() != nil {
		t.Errorf("still connected after a minute: %v", err)
	}
}
