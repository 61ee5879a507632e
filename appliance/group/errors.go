package group

import "errors"

// Errors of the group protocol, each Kafka's error of the same name.
var (
	// ErrCoordinatorNotAvailable is returned while a group is being deleted, when
	// the log cannot be written, and after Close. Clients try again.
	ErrCoordinatorNotAvailable = errors.New("coordinator not available")
	// ErrUnknownMemberID is returned to a member that the group does not have: it must join anew.
	ErrUnknownMemberID = errors.New("unknown member id")
	// ErrMemberIDRequired is returned by Join with the id to join again with (KIP-394).
	ErrMemberIDRequired = errors.New("member id required")
	// ErrFencedInstanceID is returned to a static member whose group.instance.id another process has taken over (KIP-345).
	ErrFencedInstanceID = errors.New("fenced instance id")
	// ErrIllegalGeneration is returned to a member that speaks of another generation than the current one.
	ErrIllegalGeneration = errors.New("illegal generation")
	// ErrRebalanceInProgress tells a member to join again.
	ErrRebalanceInProgress = errors.New("rebalance in progress")
	// ErrInconsistentGroupProtocol is returned to a member that shares no protocol with the others.
	ErrInconsistentGroupProtocol = errors.New("inconsistent group protocol")
	// ErrInvalidSessionTimeout is returned for a session timeout outside group.min.session.timeout.ms and group.max.session.timeout.ms.
	ErrInvalidSessionTimeout = errors.New("invalid session timeout")
	// ErrInvalidGroupID is returned for an empty or over-long group id.
	ErrInvalidGroupID = errors.New("invalid group id")
	// ErrInvalidRequest is returned for a request over one of the Limits that has no error of its own.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrGroupMaxSizeReached is returned when a group, or the number of groups, is at its limit.
	ErrGroupMaxSizeReached = errors.New("group has reached its maximum size")
	// ErrNonEmptyGroup is returned for the deletion of a group that has members.
	ErrNonEmptyGroup = errors.New("group is not empty")
	// ErrGroupIDNotFound is returned for the deletion of a group that does not exist.
	ErrGroupIDNotFound = errors.New("group id not found")
	// ErrGroupSubscribedToTopic is returned for the deletion of an offset that a live group uses.
	ErrGroupSubscribedToTopic = errors.New("group is subscribed to the topic")
	// ErrOffsetMetadataTooLarge is returned for commit metadata over offset.metadata.max.bytes.
	ErrOffsetMetadataTooLarge = errors.New("offset metadata too large")
	// ErrFencedMemberEpoch is returned to a member of the consumer protocol that has missed something: it must join anew.
	ErrFencedMemberEpoch = errors.New("fenced member epoch")
	// ErrStaleMemberEpoch is returned for offsets of a member that is at another epoch by now.
	ErrStaleMemberEpoch = errors.New("stale member epoch")
	// ErrUnreleasedInstanceID is returned to a new member whose group.instance.id another one has that has not left.
	ErrUnreleasedInstanceID = errors.New("unreleased instance id")
	// ErrUnsupportedAssignor is returned for a server-side assignor that there is not.
	ErrUnsupportedAssignor = errors.New("unsupported assignor")
	// ErrInvalidRegularExpression is returned for a subscription that is not RE2's syntax.
	ErrInvalidRegularExpression = errors.New("invalid regular expression")
	// ErrInvalidCommitOffsetSize is returned for a commit that does not fit into one batch.
	ErrInvalidCommitOffsetSize = errors.New("invalid commit offset size")
)
