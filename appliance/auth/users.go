package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Errors of users.
var (
	ErrUnknownUser = errors.New("no such user")
	ErrTooMany     = errors.New("too many")
)

// user is a user as it is in memory. A change makes a new one, so that the sessions
// of the old one know that they have ended.
type user struct {
	name        string
	credentials map[Mechanism]Credential

	mu       sync.Mutex
	gone     bool
	verified []byte // fingerprint of the right password, once it was seen
	sessions map[*Session]func()
}

// watch has end called when the user is changed or deleted; at once if it is so.
func (u *user) watch(s *Session, end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		end()
		return
	}
	if u.sessions == nil {
		u.sessions = map[*Session]func(){}
	}
	u.sessions[s] = end
}

func (u *user) unwatch(s *Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sessions, s)
}

func (u *user) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gone = true
	for _, end := range u.sessions {
		end()
	}
	u.sessions = nil
}

// CredentialInfo is what may be told of a credential.
type CredentialInfo struct {
	Mechanism  Mechanism
	Iterations int
}

// UserInfo is a user with its credentials.
type UserInfo struct {
	Name        string
	Credentials []CredentialInfo
}

// CredentialChange sets or, with a nil Credential, deletes one credential of a user. A
// user begins with its first credential and ends with its last.
type CredentialChange struct {
	User       string
	Mechanism  Mechanism
	Credential *Credential
}

// Users lists the users by name; it is safe for a screen.
func (a *Authority) Users() []UserInfo {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]UserInfo, 0, len(a.users))
	for _, name := range slices.Sorted(maps.Keys(a.users)) {
		info := UserInfo{Name: name}
		for _, m := range slices.Sorted(maps.Keys(a.users[name].credentials)) {
			info.Credentials = append(info.Credentials, CredentialInfo{m, a.users[name].credentials[m].Iterations})
		}
		out = append(out, info)
	}
	return out
}

// Counts is how many users and rules there are.
func (a *Authority) Counts() (users, rules int) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.users), len(a.index.Load().rules)
}

// HasUsers reports whether anybody could log in by a password.
func (a *Authority) HasUsers() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.users) > 0
}

// ChangeCredential makes one change, durably. The sessions of the user end: it has
// to log in with what holds now.
func (a *Authority) ChangeCredential(c CredentialChange) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := checkUserName(c.User); err != nil {
		return err
	}
	if c.Mechanism.hash() == nil {
		return fmt.Errorf("%s: only SCRAM-SHA-256 and SCRAM-SHA-512 have credentials", c.Mechanism)
	}
	a.mu.RLock()
	old, count := a.users[c.User], len(a.users)
	a.mu.RUnlock()
	next := &user{name: c.User, credentials: map[Mechanism]Credential{}}
	if old != nil {
		maps.Copy(next.credentials, old.credentials)
	}
	switch _, known := next.credentials[c.Mechanism]; {
	case c.Credential != nil && old == nil && count >= a.o.MaxUsers:
		return fmt.Errorf("%w users, the limit is %d", ErrTooMany, a.o.MaxUsers)
	case c.Credential != nil:
		next.credentials[c.Mechanism] = *c.Credential
	case !known:
		return fmt.Errorf("%w with a credential of %s: %q", ErrUnknownUser, c.Mechanism, c.User)
	default:
		delete(next.credentials, c.Mechanism)
	}
	if err := a.storeUser(next); err != nil {
		return err
	}
	a.mu.Lock()
	if a.users[c.User] = next; len(next.credentials) == 0 {
		delete(a.users, c.User)
	}
	a.mu.Unlock()
	if old != nil {
		old.end()
	}
	return nil
}

// SetPassword gives a user both kinds of credential, and makes it if need be.
func (a *Authority) SetPassword(name, password string) error {
	for _, m := range []Mechanism{ScramSHA256, ScramSHA512} {
		cred, err := NewCredential(m, password, a.o.Iterations)
		if err != nil {
			return err
		}
		if err := a.ChangeCredential(CredentialChange{User: name, Mechanism: m, Credential: &cred}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Authority) storeUser(u *user) error {
	if len(u.credentials) == 0 {
		return a.o.Users.Delete(u.name)
	}
	value, err := json.Marshal(u.credentials)
	if err != nil {
		return err
	}
	return a.o.Users.PutAll(map[string][]byte{u.name: value})
}

func (a *Authority) loadUsers() error {
	stored, err := a.o.Users.All()
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	for name, value := range stored {
		u := &user{name: name}
		if err := json.Unmarshal(value, &u.credentials); err != nil {
			return fmt.Errorf("user %q cannot be read: %w", name, err)
		}
		a.users[name] = u
	}
	return nil
}

func (a *Authority) user(name string) *user {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.users[name]
}

// decoy is the credential of a user that does not exist: always the same for a name,
// so that a guesser cannot tell. No password fits it.
func (a *Authority) decoy(m Mechanism, name string) Credential {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte(m))
	h.Write([]byte(name))
	salt := h.Sum(nil)[:16]
	return Credential{Salt: salt, StoredKey: make([]byte, m.hash()().Size()), ServerKey: make([]byte, m.hash()().Size()), Iterations: a.o.Iterations}
}
