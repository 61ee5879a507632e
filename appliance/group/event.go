package group

import "time"

// Ref names one request that waits for an answer. Every request event gets
// exactly one [Answer] with its Ref, at once or by a later step. Never 0.
type Ref int64

// Event is what happens to a group: a request, the outcome of a [Store], or the
// passing of time.
type Event interface{ event() }

// Protocol is one assignor that a member offers, with the member's own metadata
// for it (for consumers, its subscription). The bytes pass through untouched.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinGroup asks for membership in the next generation.
type JoinGroup struct {
	Ref              Ref
	MemberID         string // "" for a new member
	InstanceID       string // group.instance.id; "" for a dynamic member
	NewMemberID      string // the id that a new member is to have
	ClientID         string
	ClientHost       string
	ProtocolType     string
	Protocols        []Protocol // in order of preference
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
	// RequireKnownMember has a new dynamic member join twice, the second time with
	// the id it was given (KIP-394, JoinGroup v4+).
	RequireKnownMember bool
	// CanSkipAssignment says that the client knows SkipAssignment (KIP-814, v9+).
	CanSkipAssignment bool
}

// SyncGroup asks for the member's assignment; the leader brings everybody's.
type SyncGroup struct {
	Ref          Ref
	MemberID     string
	InstanceID   string
	Generation   int32
	ProtocolType string // "" when the client does not say (before v5)
	Protocol     string // likewise
	Assignments  map[string][]byte
}

// Heartbeat keeps the member's session alive.
type Heartbeat struct {
	Ref        Ref
	MemberID   string
	InstanceID string
	Generation int32
}

// LeaveGroup removes members.
type LeaveGroup struct {
	Ref     Ref
	Members []Leaving
}

// Leaving names a member to remove: by its id, or by its instance id alone.
type Leaving struct{ MemberID, InstanceID string }

// Tick is the passing of time; it is due at [Group.Deadline].
type Tick struct{}

// Stored is the outcome of the Store effect with the same Seq.
type Stored struct {
	Seq int64
	Err error
}

// Regroup has all members join again: the group was of the consumer protocol.
type Regroup struct{}

func (JoinGroup) event()  {}
func (Regroup) event()    {}
func (SyncGroup) event()  {}
func (Heartbeat) event()  {}
func (LeaveGroup) event() {}
func (Tick) event()       {}
func (Stored) event()     {}

// Effect is what the world must do after a step, in order.
type Effect interface{ effect() }

// Answer is the outcome of the request Ref. Join, Sync and Leave are set for
// requests of that kind; Join is set even when Err is ErrMemberIDRequired.
type Answer struct {
	Ref   Ref
	Err   error
	Join  *Joined
	Sync  *Synced
	Leave []error // one per LeaveGroup.Members
}

// Store asks for the group's metadata to be appended to the log, and for a
// [Stored] once that is committed or has failed. A nil Value is a tombstone.
type Store struct {
	Seq   int64
	Value []byte
}

func (Answer) effect() {}
func (Store) effect()  {}

// Joined is a member's place in a generation.
type Joined struct {
	MemberID       string
	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	Members        []JoinedMember // for the leader only
	SkipAssignment bool
}

// JoinedMember is what the leader computes the assignment from.
type JoinedMember struct {
	MemberID, InstanceID string
	Metadata             []byte
}

// Synced is a member's assignment.
type Synced struct {
	ProtocolType string
	Protocol     string
	Assignment   []byte
}
