package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DescribeUserScramCredentials, key 50, version 0 (always flexible, KIP-554): which
// users there are and by which mechanisms they log in. Null users asks for all; one
// that is not there is RESOURCE_NOT_FOUND, one named twice DUPLICATE_RESOURCE.
const describeUserScramCredentialsKey = 50

func init() {
	register(api{key: describeUserScramCredentialsKey, name: "DescribeUserScramCredentials", min: 0, max: 0,
		handle: (*Server).describeUserScramCredentials, needs: "DESCRIBE Cluster"})
}

// scramCodes are the mechanisms by Kafka's ScramMechanism codes.
var scramCodes = map[int8]auth.Mechanism{1: auth.ScramSHA256, 2: auth.ScramSHA512}

func (s *Server) describeUserScramCredentials(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest), kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	if err := r.authorizeCluster(auth.Describe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	known := map[string]auth.UserInfo{}
	for _, u := range s.o.Auth.Users() {
		known[u.Name] = u
		if len(req.Users) == 0 {
			resp.Results = append(resp.Results, scramResult(u.Name, u, nil))
		}
	}
	named := map[string]int{}
	for _, u := range req.Users {
		named[u.Name]++
	}
	for _, want := range req.Users {
		u, ok := known[want.Name]
		var err error
		switch n := named[want.Name]; {
		case n == 0:
			continue // answered already
		case n > 1:
			err = fmt.Errorf("%w: user %q is named twice", kerr.DuplicateResource, want.Name)
		case !ok:
			err = fmt.Errorf("%w: %q", kerr.ResourceNotFound, want.Name)
		}
		named[want.Name] = 0
		resp.Results = append(resp.Results, scramResult(want.Name, u, err))
	}
	return resp
}

func scramResult(name string, u auth.UserInfo, err error) kmsg.DescribeUserSCRAMCredentialsResponseResult {
	result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
	result.User, result.ErrorCode, result.ErrorMessage = name, errorCode(err), errorMessage(err)
	if err != nil {
		return result
	}
	for _, c := range u.Credentials {
		info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
		info.Iterations = int32(c.Iterations)
		for code, m := range scramCodes {
			if m == c.Mechanism {
				info.Mechanism = code
			}
		}
		result.CredentialInfos = append(result.CredentialInfos, info)
	}
	return result
}
