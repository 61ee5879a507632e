package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// Mechanism is a SASL mechanism.
type Mechanism string

// The mechanisms.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
	OAuthBearer Mechanism = "OAUTHBEARER"
)

// Iterations of SCRAM's key derivation.
const (
	MinIterations     = 4096
	MaxIterations     = 16384
	DefaultIterations = 4096
)

// maxSASLBytes bounds one message of a client that is not authenticated yet.
const maxSASLBytes = 16 << 10

func (m Mechanism) hash() func() hash.Hash {
	switch m {
	case ScramSHA256:
		return sha256.New
	case ScramSHA512:
		return sha512.New
	}
	return nil
}

// Credential is what the server knows of a password (RFC 5802, section 3): enough
// to check a proof, not enough to make one.
type Credential struct {
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"storedKey"`
	ServerKey  []byte `json:"serverKey"`
	Iterations int    `json:"iterations"`
}

// NewCredential makes the credential of a password, under a salt of its own.
func NewCredential(m Mechanism, password string, iterations int) (Credential, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := saltPassword(m, password, salt, iterations)
	if err != nil {
		return Credential{}, err
	}
	return CredentialOf(m, salted, salt, iterations)
}

// CredentialOf makes the credential of a password that somebody else has salted.
func CredentialOf(m Mechanism, salted, salt []byte, iterations int) (Credential, error) {
	h := m.hash()
	switch {
	case h == nil:
		return Credential{}, fmt.Errorf("%s is not SCRAM-SHA-256 or SCRAM-SHA-512", m)
	case len(salted) != h().Size():
		return Credential{}, fmt.Errorf("salted password of %d bytes, %s makes %d", len(salted), m, h().Size())
	case len(salt) == 0 || len(salt) > 1024:
		return Credential{}, fmt.Errorf("salt of %d bytes, it has 1 to 1024", len(salt))
	}
	stored := h()
	stored.Write(mac(h, salted, "Client Key"))
	return Credential{Salt: bytes.Clone(salt), StoredKey: stored.Sum(nil), ServerKey: mac(h, salted, "Server Key"), Iterations: iterations},
		CheckIterations(iterations)
}

// CheckIterations reports a number of iterations that is too small to protect a
// password, or so great that logging in would be an attack on this box.
func CheckIterations(n int) error {
	if n < MinIterations || n > MaxIterations {
		return fmt.Errorf("%d iterations, they are %d to %d", n, MinIterations, MaxIterations)
	}
	return nil
}

func saltPassword(m Mechanism, password string, salt []byte, iterations int) ([]byte, error) {
	h := m.hash()
	if h == nil {
		return nil, fmt.Errorf("%s is not SCRAM-SHA-256 or SCRAM-SHA-512", m)
	}
	return pbkdf2.Key(h, password, salt, iterations, h().Size())
}

// matches reports whether the password is the one the credential was made of.
func (c *Credential) matches(m Mechanism, password string) bool {
	salted, err := saltPassword(m, password, c.Salt, c.Iterations)
	if err != nil {
		return false
	}
	stored := m.hash()()
	stored.Write(mac(m.hash(), salted, "Client Key"))
	return subtle.ConstantTimeCompare(stored.Sum(nil), c.StoredKey) == 1
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// errSCRAM is a message that does not follow RFC 5802.
var errSCRAM = errors.New("malformed SCRAM message")

// scram is the server's side of one SCRAM exchange. It is a pure state machine:
// first takes the client's first message, final its last.
type scram struct {
	mechanism Mechanism
	nonce     string // the server's part
	gs2       string // the client's GS2 header, which it must repeat
	user      string
	first     string // client-first-message-bare
	challenge string // server-first-message
	cred      Credential
}

// parseFirst reads the client's first message and says whose credential is wanted.
func (s *scram) parseFirst(msg []byte) error {
	head, bare, ok := cutGS2(string(msg))
	if !ok {
		return errSCRAM
	}
	flag, authzid, _ := strings.Cut(strings.TrimSuffix(head, ","), ",")
	if strings.HasPrefix(flag, "p=") {
		return fmt.Errorf("%w: channel binding is not offered", errSCRAM)
	}
	user, rest, ok := strings.Cut(bare, ",")
	name, isName := strings.CutPrefix(user, "n=")
	nonce, isNonce := strings.CutPrefix(rest, "r=")
	nonce, extensions, _ := strings.Cut(nonce, ",")
	if (flag != "n" && flag != "y") || !ok || !isName || !isNonce || !printable(nonce) {
		return errSCRAM
	}
	for ext := range strings.SplitSeq(extensions, ",") {
		if strings.HasPrefix(ext, "tokenauth=") {
			return fmt.Errorf("%w: delegation tokens are not offered", errSCRAM)
		}
	}
	if s.user, ok = unescapeName(name); !ok {
		return errSCRAM
	}
	if authzid != "" && authzid != "a="+name {
		return fmt.Errorf("%w: a user can only be authorized as itself", errSCRAM)
	}
	s.gs2, s.first = head, bare
	s.challenge = "r=" + nonce + s.nonce
	return nil
}

// server is the server-first-message.
func (s *scram) server(c Credential) []byte {
	s.cred = c
	s.challenge += fmt.Sprintf(",s=%s,i=%d", base64.StdEncoding.EncodeToString(c.Salt), c.Iterations)
	return []byte(s.challenge)
}

// final takes the client's proof and returns the server's signature.
func (s *scram) final(msg []byte) ([]byte, error) {
	text := string(msg)
	at := strings.LastIndex(text, ",p=")
	if at < 0 {
		return nil, errSCRAM
	}
	bare, proofText := text[:at], text[at+len(",p="):]
	binding, rest, ok := strings.Cut(bare, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	want, _, _ := strings.Cut(s.challenge, ",")
	proof, err := base64.StdEncoding.DecodeString(proofText)
	want = strings.TrimPrefix(want, "r=")
	// RFC 5802 wants the nonce repeated as it was; librdkafka before 2.10 puts its own
	// part before it once more. The server's part is there, and the proof covers it all.
	if !ok || err != nil || !strings.HasPrefix(nonce, "r=") || !strings.HasSuffix(nonce, want) || binding != "c="+base64.StdEncoding.EncodeToString([]byte(s.gs2)) {
		return nil, errSCRAM
	}
	h := s.mechanism.hash()
	message := s.first + "," + s.challenge + "," + bare
	clientKey := mac(h, s.cred.StoredKey, message)
	if len(proof) != len(clientKey) {
		return nil, errSCRAM
	}
	subtle.XORBytes(clientKey, clientKey, proof)
	stored := h()
	stored.Write(clientKey)
	if subtle.ConstantTimeCompare(stored.Sum(nil), s.cred.StoredKey) != 1 {
		return nil, errWrongPassword
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(h, s.cred.ServerKey, message))), nil
}

// cutGS2 parts the GS2 header, with its last comma, from the rest (RFC 5801).
func cutGS2(msg string) (head, rest string, ok bool) {
	flag := strings.IndexByte(msg, ',')
	if flag < 0 {
		return "", "", false
	}
	authzid := strings.IndexByte(msg[flag+1:], ',')
	if authzid < 0 {
		return "", "", false
	}
	at := flag + 1 + authzid + 1
	return msg[:at], msg[at:], true
}

// unescapeName reads a saslname: =2C is a comma and =3D an equals sign.
func unescapeName(name string) (string, bool) {
	out := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	return out, strings.Count(name, "=") == strings.Count(name, "=2C")+strings.Count(name, "=3D")
}

// printable is what a nonce is made of.
func printable(s string) bool {
	return s != "" && len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == ',' })
}

// newNonce is a nonce that nobody has had before.
func newNonce() string { return rand.Text() }
