package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// AlterUserScramCredentials, key 51, version 0 (always flexible, KIP-554): makes, changes
// and deletes the users' credentials. The client salts the password itself, so that it
// never travels. All that a user's old credentials have logged in is cut off.
//
// A user named twice with the same mechanism is refused, both times. The answer has one
// result for each user, the first error of it if there is one.
const alterUserScramCredentialsKey = 51

func init() {
	register(api{key: alterUserScramCredentialsKey, name: "AlterUserScramCredentials", min: 0, max: 0,
		handle: (*Server).alterUserScramCredentials, needs: "ALTER Cluster"})
}

// scramChange is a deletion or, with a salted password, an upsertion.
type scramChange struct {
	user         string
	mechanism    int8
	iterations   int
	salt, salted []byte
	upsert       bool
}

func (s *Server) alterUserScramCredentials(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.AlterUserSCRAMCredentialsRequest), kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	var changes []scramChange
	for _, d := range req.Deletions {
		changes = append(changes, scramChange{user: d.Name, mechanism: d.Mechanism})
	}
	for _, u := range req.Upsertions {
		changes = append(changes, scramChange{u.Name, u.Mechanism, int(u.Iterations), u.Salt, u.SaltedPassword, true})
	}
	type one struct {
		user      string
		mechanism int8
	}
	named := map[one]int{}
	for _, c := range changes {
		named[one{c.user, c.mechanism}]++
	}
	refused := r.authorizeCluster(auth.Alter)
	at := map[string]int{} // of the user's result
	for _, c := range changes {
		err := refused
		if err == nil && named[one{c.user, c.mechanism}] > 1 {
			err = fmt.Errorf("%w: user %q is named twice", kerr.DuplicateResource, c.user)
		}
		if err == nil {
			err = s.changeScram(r, c)
		}
		i, known := at[c.user]
		if !known {
			i, at[c.user] = len(resp.Results), len(resp.Results)
			result := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
			result.User = c.user
			resp.Results = append(resp.Results, result)
		}
		if result := &resp.Results[i]; err != nil && result.ErrorCode == 0 {
			result.ErrorCode, result.ErrorMessage = errorCode(err), errorMessage(err)
		}
	}
	return resp
}

func (s *Server) changeScram(r *request, c scramChange) error {
	mechanism, ok := scramCodes[c.mechanism]
	if !ok {
		return fmt.Errorf("%w: SCRAM mechanism %d", kerr.UnsupportedSaslMechanism, c.mechanism)
	}
	change, op := auth.CredentialChange{User: c.user, Mechanism: mechanism}, auth.Delete
	if c.upsert {
		cred, err := auth.CredentialOf(mechanism, c.salted, c.salt, c.iterations)
		if err != nil {
			return fmt.Errorf("%w: %w", kerr.UnacceptableCredential, err)
		}
		change.Credential, op = &cred, auth.Alter
	}
	err := s.o.Auth.ChangeCredential(change)
	switch {
	case errors.Is(err, auth.ErrUnknownUser):
		return fmt.Errorf("%w: %w", kerr.ResourceNotFound, err)
	case errors.Is(err, auth.ErrTooMany), errors.Is(err, auth.ErrUserName):
		return fmt.Errorf("%w: %w", kerr.UnacceptableCredential, err)
	case err != nil:
		return err
	}
	s.o.Log.Info("user changed", "user", c.user, "mechanism", string(mechanism), "deleted", !c.upsert, "by", string(r.conn.login.session.Principal()))
	r.audit(auth.UserChanged, op, auth.User, c.user, string(mechanism))
	return nil
}
