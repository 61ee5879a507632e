package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TokenOptions says which JSON Web Tokens are taken.
type TokenOptions struct {
	// Keys is where the issuer's public keys are, a JWKS (RFC 7517): a file, which is
	// read again when it changes, or an https URL, which is asked again every
	// RefreshInterval and for a key that is not known.
	Keys string
	// Issuer and Audience must be in the token; both are required.
	Issuer, Audience string
	// Claim is the user's name, "sub".
	Claim string
	// GroupsClaim lists the user's groups; "": none does.
	GroupsClaim string
	// Algorithms are the signatures taken, RS256 and ES256. "none" and those with a
	// shared secret never are.
	Algorithms []string
	// Cache, if not nil, keeps the keys of a URL, for a start without a network.
	Cache Table
	Log   *slog.Logger
}

const (
	// RefreshInterval is how often the keys of a URL are asked for.
	RefreshInterval = time.Hour
	retryInterval   = 30 * time.Second // also for tokens that name a key that is not known
	fetchTimeout    = 10 * time.Second
	maxKeysBytes    = 256 << 10
	maxKeys         = 64
	tokenLeeway     = 30 * time.Second // by which clocks may differ
	cacheKey        = "jwks"
)

// signatures are the algorithms that may be configured.
var signatures = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// Tokens verifies tokens. Its methods may be called concurrently.
type Tokens struct {
	o    TokenOptions
	algs []jose.SignatureAlgorithm
	url  string // "": Keys is a file

	mu       sync.Mutex
	keys     []jose.JSONWebKey
	stamp    stamp
	looked   time.Time
	fetching bool
}

// LooksLikeToken tells a JSON Web Token from a password.
func LooksLikeToken(s string) bool { return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2 }

// Check reports options that cannot be.
func (o *TokenOptions) Check() error {
	_, _, err := o.ready()
	return err
}

func (o *TokenOptions) ready() (algs []jose.SignatureAlgorithm, from string, err error) {
	if o.Issuer == "" || o.Audience == "" {
		return nil, "", errors.New("oauth.issuer and oauth.audience are both needed, or any token of the key's owner would be taken")
	}
	names := o.Algorithms
	if len(names) == 0 {
		names = []string{"RS256", "ES256"}
	}
	for _, name := range names {
		if !slices.Contains(signatures, jose.SignatureAlgorithm(name)) {
			return nil, "", fmt.Errorf("oauth.algorithms: %q is not one of %v", name, signatures)
		}
		algs = append(algs, jose.SignatureAlgorithm(name))
	}
	if !strings.Contains(o.Keys, "://") {
		return algs, "", nil
	}
	u, err := url.Parse(o.Keys)
	if err != nil {
		return nil, "", fmt.Errorf("oauth.jwks: %w", err)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return nil, "", fmt.Errorf("oauth.jwks: %s must be an https URL or a file: who changes the answer makes tokens", o.Keys)
	}
	return algs, o.Keys, nil
}

// NewTokens reads the keys. A file must be there; a URL is asked in the background.
func NewTokens(o TokenOptions) (t *Tokens, err error) {
	t = &Tokens{}
	if t.algs, t.url, err = o.ready(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if o.Claim == "" {
		o.Claim = "sub"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t.o = o
	if t.url == "" {
		if err := t.readFile(); err != nil {
			return nil, fmt.Errorf("auth: oauth.jwks: %w", err)
		}
		return t, nil
	}
	t.loadCache()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refetch()
	return t, nil
}

// Bearer is whom a token speaks of.
type Bearer struct {
	User    string
	Groups  []string
	Expires time.Time
}

// Verify checks signature, issuer, audience and times, and returns whose the token is. A
// token without an end is not taken.
func (t *Tokens) Verify(token string, now time.Time) (who Bearer, err error) {
	if len(token) > maxSASLBytes {
		return who, errors.New("token is too large")
	}
	parsed, err := jwt.ParseSigned(token, t.algs)
	if err != nil || len(parsed.Headers) != 1 {
		return who, errors.New("not a JWT with a signature that is taken here")
	}
	var claims jwt.Claims
	var all map[string]any
	if err := t.open(parsed, now, &claims, &all); err != nil {
		return who, err
	}
	if claims.Expiry == nil {
		return who, errors.New("token has no end (exp)")
	}
	expected := jwt.Expected{Issuer: t.o.Issuer, AnyAudience: jwt.Audience{t.o.Audience}, Time: now}
	if err := claims.ValidateWithLeeway(expected, tokenLeeway); err != nil {
		return who, err
	}
	who.User, _ = all[t.o.Claim].(string)
	if who.User == "" {
		return who, fmt.Errorf("token has no text in claim %s", t.o.Claim)
	}
	who.Expires = claims.Expiry.Time()
	who.Groups, err = t.groups(all)
	return who, err
}

// maxTokenGroups bounds the groups of a token.
const maxTokenGroups = 64

// groups reads the claim that lists the user's groups.
func (t *Tokens) groups(claims map[string]any) (names []string, err error) {
	claim, ok := claims[t.o.GroupsClaim]
	if t.o.GroupsClaim == "" || !ok {
		return nil, nil
	}
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	if len(list) > maxTokenGroups {
		return nil, fmt.Errorf("token names %d groups in claim %s, the limit is %d", len(list), t.o.GroupsClaim, maxTokenGroups)
	}
	for _, item := range list {
		name, ok := item.(string)
		if !ok || checkUserName(name) != nil {
			return nil, fmt.Errorf("token's claim %s is neither a text nor a list of texts", t.o.GroupsClaim)
		}
		names = append(names, name)
	}
	return names, nil
}

// open finds the key that has signed. Only a key that is meant for the token's own
// algorithm counts, so that one kind of key cannot be used as another.
func (t *Tokens) open(parsed *jwt.JSONWebToken, now time.Time, out ...any) error {
	header := parsed.Headers[0]
	candidates := t.candidates(header.KeyID, now)
	for _, k := range candidates {
		if k.Algorithm != "" && k.Algorithm != header.Algorithm || k.Use != "" && k.Use != "sig" {
			continue
		}
		if parsed.Claims(k.Key, out...) == nil {
			return nil
		}
	}
	if len(candidates) == 0 {
		return errors.New("the token's key is not among those of the issuer")
	}
	return errors.New("the token's signature does not fit")
}

// candidates are the keys of an id, or all where the token names none.
func (t *Tokens) candidates(id string, now time.Time) (found []jose.JSONWebKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(now)
	for _, k := range t.keys {
		if id == "" || k.KeyID == id {
			found = append(found, k)
		}
	}
	if len(found) == 0 && t.url != "" && now.Sub(t.looked) >= retryInterval {
		t.refetch()
	}
	return found
}

// look sees to it that the keys are not old. mu is held.
func (t *Tokens) look(now time.Time) {
	if t.url != "" {
		if now.Sub(t.looked) >= RefreshInterval {
			t.refetch()
		}
		return
	}
	if st, err := os.Stat(t.o.Keys); err == nil && (stamp{st.Size(), st.ModTime()}) != t.stamp {
		if err := t.readFile(); err != nil {
			t.stamp = stamp{st.Size(), st.ModTime()}
			t.o.Log.Error("oauth.jwks: changed file cannot be used, the old keys stay in force", "error", err)
		}
	}
}

func (t *Tokens) readFile() error {
	st, err := os.Stat(t.o.Keys)
	if err != nil {
		return err
	}
	if st.Size() > maxKeysBytes {
		return fmt.Errorf("%s is larger than %d bytes", t.o.Keys, maxKeysBytes)
	}
	body, err := os.ReadFile(t.o.Keys)
	if err != nil {
		return err
	}
	keys, err := parseKeys(body)
	if err != nil {
		return fmt.Errorf("%s: %w", t.o.Keys, err)
	}
	t.keys, t.stamp = keys, stamp{st.Size(), st.ModTime()}
	return nil
}

// refetch asks the URL on a goroutine of its own: nobody waits for it. mu is held.
func (t *Tokens) refetch() {
	if t.fetching {
		return
	}
	t.fetching, t.looked = true, time.Now()
	go func() {
		body, keys, err := fetchKeys(t.url)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.fetching = false
		if err != nil {
			t.looked = time.Now().Add(retryInterval - RefreshInterval)
			t.o.Log.Warn("oauth.jwks: the keys cannot be fetched, those known stay in force", "url", t.url, "error", err)
			return
		}
		t.keys = keys
		if t.o.Cache != nil {
			if err := t.o.Cache.PutAll(map[string][]byte{cacheKey: body}); err != nil {
				t.o.Log.Warn("oauth.jwks: the keys cannot be kept for the next start", "error", err)
			}
		}
	}()
}

func (t *Tokens) loadCache() {
	if t.o.Cache == nil {
		return
	}
	if all, err := t.o.Cache.All(); err == nil && all[cacheKey] != nil {
		t.keys, _ = parseKeys(all[cacheKey])
	}
}

func fetchKeys(from string) (body []byte, keys []jose.JSONWebKey, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the answer is %s", res.Status)
	}
	if body, err = io.ReadAll(io.LimitReader(res.Body, maxKeysBytes)); err != nil {
		return nil, nil, err
	}
	keys, err = parseKeys(body)
	return body, keys, err
}

// parseKeys reads a JWKS. Only public keys are of use; a secret is refused, because
// a file with one is in the wrong hands here.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			continue // of a kind that is not known here
		}
		if !k.Valid() || !k.IsPublic() {
			return nil, errors.New("a key of the JWKS is not a valid public key")
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWKS has no public key")
	}
	return keys, nil
}
