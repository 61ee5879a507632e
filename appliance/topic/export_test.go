package topic

// The identity of a topic beside its folders, for tests and fuzzing.
var (
	EncodeIdentity = encodeIdentity
	DecodeIdentity = decodeIdentity
	ParseID        = parseID
)
