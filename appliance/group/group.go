package group

import (
	"fmt"
	"slices"
	"time"
)

// State is where a group stands between two generations.
type State int8

const (
	// Empty has no members; it may have committed offsets.
	Empty State = iota
	// PreparingRebalance waits for all members to join.
	PreparingRebalance
	// CompletingRebalance waits for the leader's assignment.
	CompletingRebalance
	// Stable has an assignment.
	Stable
	// Dead is being deleted.
	Dead
	// Assigning and Reconciling are of the consumer protocol: a target assignment is to
	// be computed, members are on their way to it.
	Assigning
	Reconciling
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"}

// String is Kafka's name for the state.
func (s State) String() string { return stateNames[s] }

// Group is one consumer group: a state machine without lock, clock or I/O.
type Group struct {
	limits *Limits

	state        State
	since        time.Time // of entering the state
	protocolType string
	protocol     string // the one selected for this generation
	generation   int32
	leader       string    // member id, "" when there is none
	members      []*member // in order of arrival
	pending      []pendingMember

	// joinDeadline ends PreparingRebalance, syncDeadline CompletingRebalance.
	joinDeadline, syncDeadline time.Time
	// The first rebalance of an empty group does not end when all have joined but after a
	// delay, renewed while members arrive, up to the rebalance timeout.
	initial          bool
	initialGrew      bool
	initialRemaining time.Duration

	storeSeq int64 // of the newest Store
	storing  bool  // and whether it is under way

	now time.Time // of this step
	out []Effect
}

// member is one consumer. join and sync are its parked requests, 0 when none.
type member struct {
	id, instance         string
	clientID, clientHost string
	session, rebalance   time.Duration
	protocols            []Protocol
	assignment           []byte
	join, sync           Ref
	replaced             *replacement
	canSkip              bool
	fresh                bool // has not completed a rebalance yet
	synced               bool // has asked for its assignment in this generation
	deadline             time.Time
}

// pendingMember was told an id by ErrMemberIDRequired and has not come back yet.
type pendingMember struct {
	id       string
	deadline time.Time
}

// replacement is a static member's join that waits for its new id to be stored.
type replacement struct{ oldLeader string }

// NewGroup returns an empty group. The limits must outlive it.
func NewGroup(limits *Limits, now time.Time) *Group {
	return &Group{limits: limits, since: now}
}

// Step applies an event at a time and returns what follows from it. Times must
// not go backwards. The effects are valid until the next Step.
func (g *Group) Step(now time.Time, ev Event) []Effect {
	g.now, g.out = now, nil
	switch ev := ev.(type) {
	case JoinGroup:
		g.onJoin(&ev)
	case SyncGroup:
		g.onSync(&ev)
	case Heartbeat:
		g.answer(Answer{Ref: ev.Ref, Err: g.onHeartbeat(&ev)})
	case LeaveGroup:
		g.onLeave(&ev)
	case Tick:
		g.onTick()
	case Stored:
		g.onStored(&ev)
	case Regroup:
		g.rebalance()
	default:
		panic(fmt.Sprintf("group: internal error: event %T", ev))
	}
	return g.out
}

// State is the group's state.
func (g *Group) State() State { return g.state }

// Generation counts completed rebalances.
func (g *Group) Generation() int32 { return g.generation }

// Disposable reports whether the log knows all there is to know of the group.
func (g *Group) Disposable() bool {
	return g.state == Empty && len(g.pending) == 0 && !g.storing
}

// Deadline is when a Tick is due; ok is false when time changes nothing.
func (g *Group) Deadline() (at time.Time, ok bool) {
	first := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for i := range g.pending {
		first(g.pending[i].deadline)
	}
	for _, m := range g.members {
		if m.expires() {
			first(m.deadline)
		}
	}
	switch g.state {
	case PreparingRebalance:
		first(g.joinDeadline)
	case CompletingRebalance:
		// When all have synced, what is missing is the outcome of a Store.
		if slices.ContainsFunc(g.members, func(m *member) bool { return !m.synced }) {
			first(g.syncDeadline)
		}
	}
	return at, ok
}

// expires: a member whose request is parked here is alive. Only a new one is not
// trusted for ever.
func (m *member) expires() bool { return m.join == 0 && m.sync == 0 || m.fresh }

// touch renews the member's session.
func (g *Group) touch(m *member) { m.deadline = g.now.Add(m.session) }

func (g *Group) answer(a Answer) { g.out = append(g.out, a) }

func (g *Group) become(s State) { g.state, g.since = s, g.now }

func (g *Group) member(id string) *member {
	if i := slices.IndexFunc(g.members, func(m *member) bool { return m.id == id }); i >= 0 {
		return g.members[i]
	}
	return nil
}

func (g *Group) staticMember(instance string) *member {
	if i := slices.IndexFunc(g.members, func(m *member) bool { return instance != "" && m.instance == instance }); i >= 0 {
		return g.members[i]
	}
	return nil
}

// current finds the member that a request speaks for (KIP-345: an instance id
// that somebody else bears now fences the old process).
func (g *Group) current(id, instance string) (*member, error) {
	if g.state == Dead {
		return nil, ErrCoordinatorNotAvailable
	}
	if instance != "" {
		switch m := g.staticMember(instance); {
		case m == nil:
			return nil, ErrUnknownMemberID
		case m.id != id:
			return nil, ErrFencedInstanceID
		default:
			return m, nil
		}
	}
	if m := g.member(id); m != nil {
		return m, nil
	}
	return nil, ErrUnknownMemberID
}

func (m *member) protocol(name string) (metadata []byte, ok bool) {
	for i := range m.protocols {
		if m.protocols[i].Name == name {
			return m.protocols[i].Metadata, true
		}
	}
	return nil, false
}

// offers reports whether the member already offers exactly these protocols.
func (m *member) offers(ps []Protocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// Kill makes an empty group Dead: every request is refused from then on.
func (g *Group) Kill() error {
	switch {
	case g.state == Dead:
		return ErrCoordinatorNotAvailable
	case g.state != Empty || len(g.pending) > 0:
		return ErrNonEmptyGroup
	}
	g.state = Dead
	return nil
}

// CheckCommit decides whether a member may commit offsets, and renews its
// session. A commit without member and generation comes from a consumer that
// assigns partitions to itself: that is for groups without members.
func (g *Group) CheckCommit(now time.Time, memberID, instanceID string, generation int32) error {
	g.now = now
	if g.state == Dead {
		return ErrCoordinatorNotAvailable
	}
	if generation < 0 && memberID == "" && instanceID == "" {
		if g.state == Empty {
			return nil
		}
		return ErrUnknownMemberID
	}
	m, err := g.current(memberID, instanceID)
	switch {
	case err != nil:
		return err
	case generation != g.generation:
		return ErrIllegalGeneration
	case g.state == CompletingRebalance:
		return ErrRebalanceInProgress
	}
	g.touch(m)
	return nil
}
