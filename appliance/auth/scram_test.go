package auth_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/auth"
)

// The exchange of RFC 7677, section 3.
func TestSCRAMVectorsOfRFC7677(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, err := auth.SaltPassword(auth.ScramSHA256, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := auth.CredentialOf(auth.ScramSHA256, salted, salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	s := auth.NewSCRAM(auth.ScramSHA256, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	user, first, err := s.First([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), cred)
	if want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; err != nil || user != "user" || string(first) != want {
		t.Fatalf("first: %q %q %v", user, first, err)
	}
	final, err := s.Final([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; err != nil || string(final) != want {
		t.Errorf("final: %q %v", final, err)
	}
}

// librdkafka 2.0.2 (Debian's) puts its own nonce before the whole nonce once more, and
// Kafka takes it.
func TestSCRAMTakesLibrdkafkasNonce(t *testing.T) {
	salt := []byte("0123456789abcdef")
	salted, _ := auth.SaltPassword(auth.ScramSHA256, "pencil", salt, 4096)
	cred, _ := auth.CredentialOf(auth.ScramSHA256, salted, salt, 4096)
	for nonce, want := range map[string]bool{"CCS": true, "CS": true, "C": false, "CX": false, "SC": false} {
		s := auth.NewSCRAM(auth.ScramSHA256, "S")
		if _, _, err := s.First([]byte("n,,n=u,r=C"), cred); err != nil {
			t.Fatal(err)
		}
		_, err := s.Final([]byte("c=biws,r=" + nonce + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))))
		if taken := err != nil && strings.Contains(err.Error(), "password"); taken != want { // the proof is wrong in any case
			t.Errorf("nonce %s: %v", nonce, err)
		}
	}
}

func TestSCRAMFirstMessagesThatAreRefused(t *testing.T) {
	for _, msg := range []string{
		"", "n", "n,", "n,,", "n,,n=u", "n,,r=x,n=u", "n,,n=u,r=", "x,,n=u,r=x", "p=tls-unique,,n=u,r=x", "n,a=other,n=u,r=x",
		"n,,n==41,r=x", "n,,n=u=2c,r=x", "n,,m=ext,n=u,r=x", "n,,n=u,r=x,tokenauth=true", "n,,n=u,r=a b",
	} {
		if _, _, err := auth.NewSCRAM(auth.ScramSHA256, "s").First([]byte(msg), auth.Credential{}); err == nil {
			t.Errorf("%q was taken", msg)
		}
	}
	user, _, err := auth.NewSCRAM(auth.ScramSHA256, "s").First([]byte("y,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=x"), auth.Credential{})
	if err != nil || user != "a,b=c" {
		t.Errorf("escaped name: %q %v", user, err)
	}
}

func TestPlainNeedsTLS(t *testing.T) {
	open := open(t, auth.Options{})
	if _, err := open.Begin(auth.Peer{Host: "h"}, auth.Plain); !errors.Is(err, auth.ErrMechanism) {
		t.Errorf("PLAIN in clear text: %v", err)
	}
	if _, err := open.Begin(auth.Peer{Host: "h", TLS: true}, auth.Plain); err != nil {
		t.Errorf("PLAIN over TLS: %v", err)
	}
	if _, err := open.Begin(auth.Peer{Host: "h", TLS: true}, auth.OAuthBearer); !errors.Is(err, auth.ErrMechanism) {
		t.Errorf("OAUTHBEARER without an issuer: %v", err)
	}
}

// Whether a user exists must not be seen from outside.
func TestUnknownUsersLookLikeKnownOnes(t *testing.T) {
	a := open(t, auth.Options{})
	if err := a.SetPassword("alice", "right"); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, user := range []string{"alice", "nobody"} {
		var salts [2]string
		for i := range salts {
			x, err := a.Begin(auth.Peer{Host: user, TLS: true}, auth.ScramSHA256)
			if err != nil {
				t.Fatal(err)
			}
			answer, s, err := x.Step([]byte("n,,n=" + user + ",r=abc"))
			if err != nil || s != nil {
				t.Fatalf("%s: %v %v", user, s, err)
			}
			fields := strings.Split(string(answer), ",")
			salts[i] = fields[1] + fields[2]
			_, s, err = x.Step([]byte("c=biws," + fields[0] + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))))
			if !errors.Is(err, auth.ErrAuthentication) || s != nil {
				t.Fatalf("%s: wrong proof: %v", user, err)
			}
			texts = append(texts, err.Error())
		}
		if salts[0] != salts[1] || len(salts[0]) != len("s=")+24+len("i=4096") {
			t.Errorf("%s: salts %q and %q", user, salts[0], salts[1])
		}
		if _, err := a.Password(auth.Peer{Host: user, TLS: true}, user, "wrong"); err == nil {
			t.Errorf("%s: wrong password taken", user)
		} else {
			texts = append(texts, err.Error())
		}
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("answers differ: %q and %q", text, texts[0])
		}
	}
}

func TestPasswordsAndTheirSessions(t *testing.T) {
	store := &table{}
	a := open(t, auth.Options{Users: store})
	peer := auth.Peer{Host: "h", TLS: true}
	s := session(t, a, "alice", "h")
	ended := make(chan bool, 1)
	s.OnEnd(func() { ended <- true })
	for name, value := range store.values {
		if strings.Contains(string(value)+name, clearText) {
			t.Error("the store has the password in clear text")
		}
	}
	if err := a.SetPassword("alice", "other"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("a session outlives the password it was made with")
	}
	if _, err := a.Password(peer, "alice", clearText); err == nil {
		t.Error("the old password still works")
	}
	again := open(t, auth.Options{Users: store})
	if _, err := again.Password(peer, "alice", "other"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	for _, m := range []auth.Mechanism{auth.ScramSHA256, auth.ScramSHA512} {
		if err := again.ChangeCredential(auth.CredentialChange{User: "alice", Mechanism: m}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := again.Password(peer, "alice", "other"); err == nil || again.HasUsers() || len(store.values) != 0 {
		t.Errorf("a deleted user: %v, users %v", err, again.Users())
	}
	if err := again.ChangeCredential(auth.CredentialChange{User: "alice", Mechanism: auth.ScramSHA256}); !errors.Is(err, auth.ErrUnknownUser) {
		t.Errorf("deleting twice: %v", err)
	}
}

// A change that could not be stored has not happened.
func TestChangeThatIsNotDurableDoesNotHold(t *testing.T) {
	users, rules := &table{}, &table{}
	a := open(t, auth.Options{Users: users, Rules: rules})
	users.err, rules.err = errors.New("disk"), errors.New("disk")
	if err := a.SetPassword("alice", "pw"); err == nil || a.HasUsers() {
		t.Errorf("user: %v", err)
	}
	if err := a.AddRules([]auth.Rule{rule(auth.Allow, "User:a", auth.Read, auth.Literal, "t")}); err == nil {
		t.Error("rule: no error")
	}
	if a.Anonymous(auth.Peer{}).Allowed(auth.Read, auth.Topic, "t") {
		t.Error("a rule holds that is not stored")
	}
}

func TestLoginExpires(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a := open(t, auth.Options{MaxReauth: time.Hour, Now: func() time.Time { return now }})
	s := session(t, a, "alice", "h")
	if left := s.Lifetime(); left != time.Hour {
		t.Errorf("lifetime %v", left)
	}
	if now = now.Add(time.Hour); s.Lifetime() >= 0 {
		t.Errorf("an hour later: %v", s.Lifetime())
	}
	device, err := a.Password(auth.Peer{Host: "h", Via: auth.ViaMQTT}, "alice", clearText)
	if err != nil || device.Lifetime() != 0 {
		t.Errorf("a device's login, which cannot be renewed in time: %v, %v", device.Lifetime(), err)
	}
	if left := a.Anonymous(auth.Peer{}).Lifetime(); left != 0 {
		t.Errorf("anonymous lifetime %v", left)
	}
}

// Answers to failures come slower and slower; those of other addresses do not.
func TestFailuresAreHeldBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a := open(t, auth.Options{Now: func() time.Time { return now }})
	fail := func(host string) time.Duration {
		_, err := a.Password(auth.Peer{Host: host, TLS: true}, "u", "p")
		var login *auth.LoginError
		if !errors.As(err, &login) {
			t.Fatalf("%v", err)
		}
		return login.Delay
	}
	first := fail("a")
	for range 10 {
		fail("a")
	}
	if worst := fail("a"); worst != 5*time.Second || first != 100*time.Millisecond || fail("b") != first {
		t.Errorf("first %v, last %v", first, worst)
	}
	if now = now.Add(2 * time.Minute); fail("a") != first {
		t.Error("failures are never forgotten")
	}
}

func FuzzSCRAM(f *testing.F) {
	f.Add("n,,n=user,r=abc", "c=biws,r=abcS,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Add("y,a=x,n=x,r=1,e=2", ",p=")
	cred := auth.Credential{Salt: []byte("salt"), StoredKey: make([]byte, 32), ServerKey: make([]byte, 32), Iterations: 4096}
	f.Fuzz(func(t *testing.T, first, final string) {
		s := auth.NewSCRAM(auth.ScramSHA256, "S")
		if _, _, err := s.First([]byte(first), cred); err != nil {
			return
		}
		if _, err := s.Final([]byte(final)); err == nil {
			t.Errorf("%q and %q log in", first, final)
		}
	})
}

// Any message of any mechanism ends in a challenge or an error, never in a session.
func FuzzExchange(f *testing.F) {
	f.Add(uint8(0), []byte("\x00alice\x00wrong"), []byte(""))
	f.Add(uint8(1), []byte("n,,n=alice,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add(uint8(2), []byte("n,a=x,\x01auth=Bearer e.e.e\x01\x01"), []byte("\x01"))
	a := open(f, auth.Options{})
	if err := a.SetPassword("alice", "a password that the fuzzer does not know"); err != nil {
		f.Fatal(err)
	}
	mechanisms := []auth.Mechanism{auth.Plain, auth.ScramSHA256, auth.ScramSHA512}
	f.Fuzz(func(t *testing.T, m uint8, one, two []byte) {
		x, err := a.Begin(auth.Peer{Host: "h", TLS: true}, mechanisms[int(m)%len(mechanisms)])
		if err != nil {
			t.Fatal(err)
		}
		for _, msg := range [][]byte{one, two} {
			if _, s, err := x.Step(msg); s != nil {
				t.Fatalf("%q logs in", msg)
			} else if err != nil {
				return
			}
		}
	})
}
