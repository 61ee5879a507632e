package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/auth"
)

var b64 = base64.RawURLEncoding.EncodeToString

// issuer signs tokens by its own few lines, so that the library under test is not its
// own witness.
type issuer struct {
	key *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key, ec}
}

func (i *issuer) jwks(kid string) []byte {
	x, y := i.ec.X.FillBytes(make([]byte, 32)), i.ec.Y.FillBytes(make([]byte, 32))
	out, _ := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": b64(i.key.N.Bytes()), "e": b64(big.NewInt(int64(i.key.E)).Bytes())},
		{"kty": "EC", "kid": kid + "-ec", "crv": "P-256", "x": b64(x), "y": b64(y)},
		{"kty": "unknown"},
	}})
	return out
}

type claims map[string]any

func (i *issuer) sign(header map[string]string, c claims) string {
	h, _ := json.Marshal(header)
	body, _ := json.Marshal(c)
	text := b64(h) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	switch header["alg"] {
	case "RS256":
		sig, _ = rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	case "ES256":
		r, s, _ := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "HS256": // the public key as a secret: the classic confusion
		der, _ := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
		m := hmac.New(sha256.New, der)
		m.Write([]byte(text))
		sig = m.Sum(nil)
	}
	return text + "." + b64(sig)
}

func TestTokens(t *testing.T) {
	i, stranger := newIssuer(t), newIssuer(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, i.jwks("k1"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenOptions{Keys: file, Issuer: "https://id.example", Audience: "weir"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	good := func() claims {
		return claims{"iss": "https://id.example", "aud": []string{"weir", "x"}, "sub": "alice", "exp": now.Unix() + 600, "nbf": now.Unix() - 600}
	}
	with := func(key string, value any) claims {
		c := good()
		if c[key] = value; value == nil {
			delete(c, key)
		}
		return c
	}
	rs := map[string]string{"alg": "RS256", "kid": "k1"}
	for name, c := range map[string]struct {
		token string
		want  string // part of the error; "": taken
	}{
		"RS256":               {i.sign(rs, good()), ""},
		"ES256":               {i.sign(map[string]string{"alg": "ES256", "kid": "k1-ec"}, good()), ""},
		"no key id":           {i.sign(map[string]string{"alg": "RS256"}, good()), ""},
		"one audience":        {i.sign(rs, with("aud", "weir")), ""},
		"clocks differ a bit": {i.sign(rs, with("exp", now.Unix()-10)), ""},
		"foreign key":         {stranger.sign(rs, good()), "signature"},
		"unknown key id":      {i.sign(map[string]string{"alg": "RS256", "kid": "k2"}, good()), "not among"},
		"none":                {i.sign(map[string]string{"alg": "none"}, good()), "not a JWT"},
		"public key as HMAC":  {i.sign(map[string]string{"alg": "HS256", "kid": "k1"}, good()), "not a JWT"},
		"EC key used as RSA":  {i.sign(map[string]string{"alg": "RS256", "kid": "k1-ec"}, good()), "signature"},
		"expired":             {i.sign(rs, with("exp", now.Unix()-31)), "expired"},
		"no end":              {i.sign(rs, with("exp", nil)), "no end"},
		"not yet":             {i.sign(rs, with("nbf", now.Unix()+60)), "not valid yet"},
		"issuer":              {i.sign(rs, with("iss", "https://other.example")), "iss"},
		"no issuer":           {i.sign(rs, with("iss", nil)), "iss"},
		"audience":            {i.sign(rs, with("aud", "other")), "aud"},
		"no audience":         {i.sign(rs, with("aud", nil)), "aud"},
		"no name":             {i.sign(rs, with("sub", nil)), "claim sub"},
		"name is a number":    {i.sign(rs, with("sub", 7)), ""},
		"altered":             {strings.Replace(i.sign(rs, good()), ".", ".e", 1), "JWT"},
		"empty":               {"", "not a JWT"},
		"dots":                {"..", "not a JWT"},
		"huge":                {strings.Repeat("x", 1<<20), "too large"},
	} {
		user, err := tokens.Verify(c.token, now)
		switch {
		case name == "name is a number" || name == "altered": // refused one way or another
			if err == nil {
				t.Errorf("%s: taken as %q", name, user.User)
			}
		case c.want == "" && (err != nil || user.User != "alice"):
			t.Errorf("%s: %q, %v", name, user.User, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// The file is changed: the new key counts, the old one does not.
	if err := os.WriteFile(file, stranger.jwks("k1-new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(stranger.sign(map[string]string{"alg": "RS256", "kid": "k1-new"}, good()), now); err != nil {
		t.Errorf("after the keys have changed: %v", err)
	}
	if _, err := tokens.Verify(i.sign(rs, good()), now); err == nil {
		t.Error("a key that was withdrawn still counts")
	}
	// A file that makes no sense leaves the keys that were good.
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(stranger.sign(map[string]string{"alg": "RS256", "kid": "k1-new"}, good()), now); err != nil {
		t.Errorf("after the file was damaged: %v", err)
	}
}

// OAUTHBEARER as clients send it, and how long it holds.
func TestOAuthBearer(t *testing.T) {
	i := newIssuer(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, i.jwks("k1"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenOptions{Keys: file, Issuer: "iss", Audience: "weir", Claim: "client"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	a := open(t, auth.Options{Tokens: tokens, MaxReauth: time.Hour, Now: func() time.Time { return now }})
	token := i.sign(map[string]string{"alg": "RS256"}, claims{"iss": "iss", "aud": "weir", "client": "pump", "exp": now.Unix() + 600})
	for msg, taken := range map[string]bool{
		"n,,\x01auth=Bearer " + token + "\x01\x01":           true,
		"n,a=x,\x01auth=bearer " + token + "\x01k=v\x01\x01": true,
		"n,,\x01auth=Basic " + token + "\x01\x01":            false,
		"auth=Bearer " + token:                               false,
		"n,,\x01\x01":                                        false,
	} {
		x, err := a.Begin(auth.Peer{Host: "h"}, auth.OAuthBearer)
		if err != nil {
			t.Fatal(err)
		}
		_, s, err := x.Step([]byte(msg))
		if (s != nil) != taken {
			t.Errorf("%.40q: %v %v", msg, s, err)
		}
		if s != nil && (s.Principal() != "User:pump" || s.Lifetime() != 10*time.Minute) {
			t.Errorf("%s for %v", s.Principal(), s.Lifetime())
		}
	}
}

// The keys of a URL are fetched, kept, and used at a start without a network.
func TestKeysOfAURL(t *testing.T) {
	i := newIssuer(t)
	asked := make(chan bool, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(i.jwks("k1"))
		asked <- true
	}))
	cache := &lockedTable{}
	o := auth.TokenOptions{Keys: server.URL, Issuer: "iss", Audience: "weir", Cache: cache}
	tokens, err := auth.NewTokens(o)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token := i.sign(map[string]string{"alg": "RS256", "kid": "k1"}, claims{"iss": "iss", "aud": "weir", "sub": "a", "exp": now.Unix() + 600})
	<-asked
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err = tokens.Verify(token, now); err == nil && cache.len() == 1 || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	again, err := auth.NewTokens(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Verify(token, now); err != nil {
		t.Errorf("without the network: %v", err)
	}
}

func TestTokenOptionsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		name := filepath.Join(dir, b64([]byte(text))[:min(20, len(b64([]byte(text))))])
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, o := range map[string]auth.TokenOptions{
		"no issuer":       {Keys: "k", Audience: "a"},
		"no audience":     {Keys: "k", Issuer: "i"},
		"no file":         {Keys: filepath.Join(dir, "none"), Issuer: "i", Audience: "a"},
		"http":            {Keys: "http://id.example/keys", Issuer: "i", Audience: "a"},
		"none":            {Keys: "k", Issuer: "i", Audience: "a", Algorithms: []string{"none"}},
		"HMAC":            {Keys: "k", Issuer: "i", Audience: "a", Algorithms: []string{"HS256"}},
		"no keys":         {Keys: write(`{"keys":[]}`), Issuer: "i", Audience: "a"},
		"a secret":        {Keys: write(`{"keys":[{"kty":"oct","k":"AAAA"}]}`), Issuer: "i", Audience: "a"},
		"not JSON at all": {Keys: write(`keys`), Issuer: "i", Audience: "a"},
	} {
		if _, err := auth.NewTokens(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzToken(f *testing.F) {
	i := newIssuer(f)
	file := filepath.Join(f.TempDir(), "jwks.json")
	if err := os.WriteFile(file, i.jwks("k1"), 0o600); err != nil {
		f.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenOptions{Keys: file, Issuer: "iss", Audience: "weir"})
	if err != nil {
		f.Fatal(err)
	}
	stranger := newIssuer(f)
	now := time.Unix(1_700_000_000, 0)
	c := claims{"iss": "iss", "aud": "weir", "sub": "a", "exp": now.Unix() + 600}
	f.Add(stranger.sign(map[string]string{"alg": "RS256", "kid": "k1"}, c))
	f.Add(stranger.sign(map[string]string{"alg": "none"}, c))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if name, err := tokens.Verify(token, now); err == nil {
			t.Errorf("%q logs %s in", token, name.User)
		}
	})
}
