package auth

// SCRAM is the server's side of an exchange under a nonce that a test knows.
type SCRAM struct{ s scram }

// NewSCRAM makes one.
func NewSCRAM(m Mechanism, nonce string) *SCRAM { return &SCRAM{scram{mechanism: m, nonce: nonce}} }

// First takes the client's first message.
func (s *SCRAM) First(msg []byte, c Credential) (user string, answer []byte, err error) {
	if err := s.s.parseFirst(msg); err != nil {
		return s.s.user, nil, err
	}
	return s.s.user, s.s.server(c), nil
}

// Final takes its last.
func (s *SCRAM) Final(msg []byte) ([]byte, error) { return s.s.final(msg) }

// Name applies rules to a subject.
func (n NameRules) Name(subject string) (string, error) { return n.name(subject) }

// CheckPassword reports whether a credential is of the password.
func (c *Credential) CheckPassword(m Mechanism, password string) bool { return c.matches(m, password) }

// Look has the files looked at now, however short the time since the last look.
func (c *Certificates) Look() {
	c.mu.Lock()
	c.looked = c.looked.Add(-lookInterval)
	c.mu.Unlock()
}

// SaltPassword is what a client sends of a password.
var SaltPassword = saltPassword
