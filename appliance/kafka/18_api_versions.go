package kafka

import (
	"encoding/binary"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions, key 18, versions 0-4: what the broker can do.
//
// The response header is version 0 whatever the request's version: the client does
// not know yet what it may expect. A version that is not known is answered, never
// refused by closing: error 35 in the form of version 0, with key 18's true range
// alone, from which every client picks a version and asks again (KIP-511).
// Observed: sarama fails when that range names a version that is then refused;
// kafka-python asks again in a hot loop; closing instead makes franz-go wait 25 s.
//
// Since version 3 the client says what software it is; a name that breaks KIP-511's
// rule gets INVALID_REQUEST. The feature transaction.version=2 tells clients that each
// transaction has an epoch of its own and that partitions join it by themselves (KIP-890).
// That it can be 0 must not be said before version 4: older Java clients take a least
// level of 0 for an error (KAFKA-17011).
const apiVersionsKey = 18

func init() {
	register(api{key: apiVersionsKey, name: "ApiVersions", needs: open, min: 0, max: 4, handle: (*Server).apiVersions, unsupported: unsupportedApiVersions,
		notes: "unknown versions are answered with error 35 in version 0 form (KIP-511)"})
}

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (s *Server) apiVersions(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ApiVersionsRequest), kmsg.NewPtrApiVersionsResponse()
	if r.version >= 3 {
		if !softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp
		}
		r.conn.software = req.ClientSoftwareName + " " + req.ClientSoftwareVersion
	}
	for _, row := range Table() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = row.Key, row.AdvertisedMin, row.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	if r.version >= 3 {
		resp.FinalizedFeaturesEpoch = 0
		resp.FinalizedFeatures = []kmsg.ApiVersionsResponseFinalizedFeature{{Name: transactionVersion, MaxVersionLevel: 2, MinVersionLevel: 2}}
	}
	if r.version >= 4 {
		resp.SupportedFeatures = []kmsg.ApiVersionsResponseSupportedFeature{{Name: transactionVersion, MinVersion: 0, MaxVersion: 2}}
	}
	return resp
}

const transactionVersion = "transaction.version"

// unsupportedApiVersions is version 0's layout: error, array of (key, min, max).
func unsupportedApiVersions(r *request, _ []byte) (reply, error) {
	b := appendResponseHeader(nil, r.correlationID, apiVersionsKey, false)
	b = binary.BigEndian.AppendUint16(b, uint16(kerr.UnsupportedVersion.Code))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint16(b, apiVersionsKey)
	b = binary.BigEndian.AppendUint16(b, uint16(r.api.min))
	b = binary.BigEndian.AppendUint16(b, uint16(r.api.max))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return &encoded{buf: b}, nil
}
