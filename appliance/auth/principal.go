package auth

import (
	"errors"
	"fmt"
	"strings"
)

// Principal is who a client is, written as Kafka writes it: "User:alice".
type Principal string

// Anonymous is a client that nobody has asked who it is.
const Anonymous Principal = "User:ANONYMOUS"

// UserPrincipal is the principal of a user.
func UserPrincipal(name string) Principal { return "User:" + Principal(name) }

// GroupPrincipal is a group of users, which rules may be for.
func GroupPrincipal(name string) Principal { return "Group:" + Principal(name) }

// Name is the principal without its type.
func (p Principal) Name() string {
	_, name, _ := strings.Cut(string(p), ":")
	return name
}

// Check reports why a principal cannot be one.
func (p Principal) Check() error {
	kind, name, ok := strings.Cut(string(p), ":")
	if !ok || kind == "" || name == "" {
		return fmt.Errorf("principal %q is not written Type:name, such as User:alice", string(p))
	}
	return nil
}

// maxUserName bounds a user's name in bytes.
const maxUserName = 256

// ErrUserName is returned for a name that no user can have.
var ErrUserName = errors.New("a user's name has 1 to 256 bytes and no control characters")

// checkUserName keeps names out that could not be told apart on a screen.
func checkUserName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }
	if name == "" || len(name) > maxUserName || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%w: %.64q", ErrUserName, name)
	}
	return nil
}
