package group

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Epochs of a heartbeat that are none.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	staticLeaveEpoch = -2 // a static member that means to come back
)

// ConsumerGroup is a group of the consumer protocol (KIP-848): a state machine without
// lock, clock or I/O, as [Group] is of the classic one.
//
// Members send what they subscribe to and what they hold, the group decides who is to
// hold what. Three epochs keep them together: the group's grows with every change of
// its members or their topics; the target assignment is computed for one of these; and
// each member reaches the target's on its own, first letting go of what is not its any
// more, then taking what others have let go of. Nobody waits for all.
//
// Each method returns what has to be written to the log before it is answered.
type ConsumerGroup struct {
	limits  *Limits
	epoch   int32
	hash    int64  // of the topics subscribed to, as of epoch
	seen    uint64 // Cluster.Changes that hash is of, 0: of none
	target  int32  // epoch of the target assignment
	members map[string]*consumer
	owners  map[Held]*consumer // who holds, or has yet to let go of, a partition

	now time.Time
	out []Change
}

// consumer is one member.
type consumer struct {
	id, instance, rack   string
	clientID, clientHost string
	topics               []string
	regex                string
	pattern              *regexp.Regexp
	assignor             string
	rebalance            time.Duration

	epoch, previous int32
	state           memberState
	assigned        Share // may be consumed
	revoking        Share // is to be let go of
	target          Share

	session  time.Time // end of the session
	revokeBy time.Time // when what is revoking must have been let go of; zero: nothing is

	classic  *classicMember // nil unless it speaks the classic protocol
	rejoinBy time.Time      // when a classic member must have joined again; zero: it need not
}

// memberState is Kafka's, by its code in the log.
type memberState int8

const (
	memberStable     memberState = 1
	memberUnrevoked  memberState = 2 // has to let go of partitions
	memberUnreleased memberState = 3 // waits for partitions of others
)

// Change is a record to write: of the group, or of one member. Gone is a tombstone.
type Change struct {
	Kind   RecordKind
	Member string
	Gone   bool
}

// ConsumerHeartbeat is what a member says. Nil fields, and a negative Rebalance, have
// not changed since it last said them.
type ConsumerHeartbeat struct {
	MemberID   string
	Epoch      int32
	InstanceID string
	Rack       string
	ClientID   string
	ClientHost string
	Rebalance  time.Duration
	Topics     []string
	Regex      *string
	Assignor   *string
	Owned      Share
	OwnedSaid  bool // Owned is what the member holds, if this is set
}

// full reports whether the member says all that it can say, so that it wants to hear
// all as well.
func (ev *ConsumerHeartbeat) full() bool {
	return ev.Rebalance >= 0 && (ev.Topics != nil || ev.Regex != nil) && ev.OwnedSaid
}

// Beat is the answer to a ConsumerHeartbeat.
type Beat struct {
	MemberID string
	Epoch    int32
	Interval time.Duration // until the next one
	// Assigned is what the member may consume, if Said.
	Assigned Share
	Said     bool
}

// NewConsumerGroup returns an empty group. The limits must outlive it.
func NewConsumerGroup(limits *Limits) *ConsumerGroup {
	return &ConsumerGroup{limits: limits, members: map[string]*consumer{}, owners: map[Held]*consumer{}}
}

// Empty reports whether the group has no members.
func (g *ConsumerGroup) Empty() bool { return len(g.members) == 0 }

// Heartbeat serves ConsumerGroupHeartbeat at a time that does not go back.
func (g *ConsumerGroup) Heartbeat(now time.Time, ev *ConsumerHeartbeat, cluster Cluster) (Beat, []Change, error) {
	g.now, g.out = now, nil
	if ev.Epoch < 0 {
		beat, err := g.leave(ev)
		return beat, g.out, err
	}
	if err := g.check(ev); err != nil {
		return Beat{}, nil, err
	}
	m, joined, err := g.speaker(ev)
	if err != nil {
		return Beat{}, nil, err
	}
	news, subscribed := m.take(ev)
	news = news || m.classic != nil
	m.classic, m.rejoinBy = nil, time.Time{}
	if news || joined {
		g.write(RecordMember, m)
	}
	g.refresh(cluster, joined || subscribed)
	if g.epoch > g.target {
		g.retarget(cluster)
	}
	before := m.assigned
	g.reconcile(m, ev)
	m.session = now.Add(g.limits.ConsumerSessionTimeout)
	beat := Beat{MemberID: m.id, Epoch: m.epoch, Interval: g.limits.ConsumerHeartbeatInterval}
	if ev.Epoch == joinEpoch || ev.full() || !slices.Equal(before, m.assigned) {
		beat.Assigned, beat.Said = m.assigned, true
	}
	return beat, g.out, nil
}

// check refuses what makes no sense, before anything has changed.
func (g *ConsumerGroup) check(ev *ConsumerHeartbeat) error {
	switch {
	case ev.Epoch == joinEpoch && (ev.Rebalance < 0 || ev.Topics == nil && ev.Regex == nil):
		return fmt.Errorf("%w: a member that joins says its rebalance timeout and its subscription", ErrInvalidRequest)
	case ev.Epoch == joinEpoch && (!ev.OwnedSaid || len(ev.Owned) > 0):
		return fmt.Errorf("%w: a member that joins holds no partitions", ErrInvalidRequest)
	case ev.Assignor != nil && *ev.Assignor != "" && assignors[*ev.Assignor] == nil:
		return fmt.Errorf("%w: %q, there are uniform and range", ErrUnsupportedAssignor, *ev.Assignor)
	case len(ev.InstanceID) > g.limits.MaxIDBytes, len(ev.MemberID) > g.limits.MaxIDBytes, len(ev.Rack) > g.limits.MaxIDBytes:
		return fmt.Errorf("%w: an id has at most %d bytes", ErrInvalidRequest, g.limits.MaxIDBytes)
	}
	return g.checkSubscription(ev)
}

func (g *ConsumerGroup) checkSubscription(ev *ConsumerHeartbeat) error {
	n := 0
	for _, m := range g.members {
		if m.id != ev.MemberID {
			n += m.subscriptionBytes()
		}
	}
	for _, topic := range ev.Topics {
		n += len(topic)
	}
	if ev.Regex != nil {
		if len(*ev.Regex) > g.limits.MaxRegexBytes {
			return fmt.Errorf("%w: %d bytes, at most %d (group.max.regex.bytes)", ErrInvalidRegularExpression, len(*ev.Regex), g.limits.MaxRegexBytes)
		}
		n += len(*ev.Regex)
		if _, err := compilePattern(*ev.Regex); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalidRegularExpression, err)
		}
	}
	if n > g.limits.MaxSubscriptionBytes {
		return fmt.Errorf("%w: the subscriptions of all members would take %d bytes, at most %d", ErrInvalidRequest, n, g.limits.MaxSubscriptionBytes)
	}
	return nil
}

func (m *consumer) subscriptionBytes() (n int) {
	if m.classic != nil {
		return subscriptionBytes(m.classic.protocols)
	}
	for _, topic := range m.topics {
		n += len(topic)
	}
	return n + len(m.regex)
}

// compilePattern takes RE2's syntax, as Kafka does; a topic matches as a whole.
func compilePattern(regex string) (*regexp.Regexp, error) {
	if regex == "" {
		return nil, nil
	}
	return regexp.Compile("^(?:" + regex + ")$")
}

// speaker is the member that a heartbeat speaks for, which may be new.
func (g *ConsumerGroup) speaker(ev *ConsumerHeartbeat) (m *consumer, joined bool, err error) {
	m = g.members[ev.MemberID]
	var static *consumer
	if ev.InstanceID != "" {
		static = g.static(ev.InstanceID)
	}
	switch {
	case ev.Epoch == joinEpoch && static != nil && static.id != ev.MemberID:
		if static.classic == nil && static.epoch != staticLeaveEpoch {
			return nil, false, fmt.Errorf("%w: %s is member %s", ErrUnreleasedInstanceID, ev.InstanceID, static.id)
		}
		return g.replace(static, ev), false, nil
	case ev.Epoch == joinEpoch && m == nil:
		if len(g.members) >= g.limits.MaxMembers {
			return nil, false, ErrGroupMaxSizeReached
		}
		m = &consumer{id: ev.MemberID, instance: ev.InstanceID, state: memberStable}
		g.members[m.id] = m
		return m, true, nil
	case ev.Epoch == joinEpoch:
		if m.epoch == staticLeaveEpoch { // it is back
			m.epoch, m.previous = joinEpoch, joinEpoch
		}
		return m, false, nil
	case ev.InstanceID != "" && static == nil, m == nil && static == nil, m != nil && m.classic != nil:
		return nil, false, ErrUnknownMemberID
	case ev.InstanceID != "" && static.id != ev.MemberID:
		return nil, false, ErrFencedInstanceID
	}
	return m, false, m.checkEpoch(ev)
}

func (g *ConsumerGroup) static(instance string) *consumer {
	for _, m := range g.members {
		if m.instance == instance {
			return m
		}
	}
	return nil
}

// replace gives a static member's place to the process that has come for it.
func (g *ConsumerGroup) replace(old *consumer, ev *ConsumerHeartbeat) *consumer {
	m := *old
	m.id, m.epoch, m.previous = ev.MemberID, joinEpoch, joinEpoch
	delete(g.members, old.id)
	g.members[m.id] = &m
	for h, owner := range g.owners {
		if owner == old {
			g.owners[h] = &m
		}
	}
	g.bury(old)
	g.write(RecordMember, &m)
	g.write(RecordTarget, &m)
	g.write(RecordCurrent, &m)
	return &m
}

// checkEpoch fences a member that has missed something. One whose answer was lost
// still says the epoch before, and holds nothing else than it did.
func (m *consumer) checkEpoch(ev *ConsumerHeartbeat) error {
	switch {
	case ev.Epoch == m.epoch:
		return nil
	case ev.Epoch < m.epoch && ev.Epoch == m.previous && (!ev.OwnedSaid || len(ev.Owned.minus(m.assigned)) == 0):
		return nil
	}
	return fmt.Errorf("%w: member %s is at epoch %d, not %d", ErrFencedMemberEpoch, m.id, m.epoch, ev.Epoch)
}

// take notes what a member says, and reports whether that is something new, and
// another subscription.
func (m *consumer) take(ev *ConsumerHeartbeat) (news, subscribed bool) {
	set := func(field *string, v string) {
		news = news || *field != v
		*field = v
	}
	if ev.Rebalance >= 0 {
		news = news || m.rebalance != ev.Rebalance
		m.rebalance = ev.Rebalance
	}
	if ev.Topics != nil {
		topics := slices.Compact(slices.Sorted(slices.Values(ev.Topics)))
		subscribed = !slices.Equal(m.topics, topics)
		m.topics = topics
	}
	if ev.Regex != nil {
		subscribed = subscribed || m.regex != *ev.Regex
		set(&m.regex, *ev.Regex)
		m.pattern, _ = compilePattern(m.regex) // check has seen that it can be
	}
	if ev.Assignor != nil {
		set(&m.assignor, *ev.Assignor)
	}
	if ev.Rack != "" {
		set(&m.rack, ev.Rack)
	}
	set(&m.clientID, ev.ClientID)
	set(&m.clientHost, ev.ClientHost)
	return news || subscribed, subscribed
}

// leave serves the epochs -1 and -2.
func (g *ConsumerGroup) leave(ev *ConsumerHeartbeat) (Beat, error) {
	m := g.members[ev.MemberID]
	if ev.InstanceID != "" {
		if m = g.static(ev.InstanceID); m != nil && m.id != ev.MemberID {
			return Beat{}, ErrFencedInstanceID
		}
	}
	switch {
	case m == nil:
		return Beat{}, ErrUnknownMemberID
	case ev.Epoch == staticLeaveEpoch && m.instance != "":
		m.epoch, m.previous = staticLeaveEpoch, staticLeaveEpoch
		g.write(RecordCurrent, m)
	case ev.Epoch == leaveEpoch:
		g.remove(m)
	default:
		return Beat{}, fmt.Errorf("%w: member epoch %d", ErrInvalidRequest, ev.Epoch)
	}
	return Beat{MemberID: m.id, Epoch: ev.Epoch}, nil
}

// remove drops a member: what it held is free, and the group has changed.
func (g *ConsumerGroup) remove(m *consumer) {
	delete(g.members, m.id)
	maps.DeleteFunc(g.owners, func(_ Held, owner *consumer) bool { return owner == m })
	g.bury(m)
	g.epoch++
	g.write(RecordGroup, nil)
}

// bury writes the tombstones of a member.
func (g *ConsumerGroup) bury(m *consumer) {
	for _, kind := range []RecordKind{RecordCurrent, RecordTarget, RecordMember} {
		g.out = append(g.out, Change{kind, m.id, true})
	}
}

func (g *ConsumerGroup) write(kind RecordKind, m *consumer) {
	c := Change{Kind: kind}
	if m != nil {
		c.Member = m.id
	}
	if !slices.Contains(g.out, c) {
		g.out = append(g.out, c)
	}
}

// Tick removes who has not been heard of for too long, or has not let go of what it
// had to. It is due at Deadline.
func (g *ConsumerGroup) Tick(now time.Time) []Change {
	g.now, g.out = now, nil
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		late := func(by time.Time) bool { return !by.IsZero() && !by.After(now) }
		if !m.session.After(now) || late(m.revokeBy) || late(m.rejoinBy) {
			g.remove(m)
		}
	}
	return g.out
}

// Deadline is when a Tick is due; ok is false when time changes nothing.
func (g *ConsumerGroup) Deadline() (at time.Time, ok bool) {
	for _, m := range g.members {
		for _, t := range []time.Time{m.session, m.revokeBy, m.rejoinBy} {
			if !t.IsZero() && (!ok || t.Before(at)) {
				at, ok = t, true
			}
		}
	}
	return at, ok
}

// CheckMember decides whether a member may commit or fetch offsets (OffsetCommit and
// OffsetFetch 9). Who is no member may, if there are none, or if it only reads.
func (g *ConsumerGroup) CheckMember(memberID, instanceID string, epoch int32, reads bool) error {
	if memberID == "" && epoch < 0 && (reads || g.Empty()) {
		return nil
	}
	m := g.members[memberID]
	if m == nil && instanceID != "" {
		m = g.static(instanceID)
	}
	switch {
	case m == nil:
		return ErrUnknownMemberID
	case m.epoch != epoch && m.classic != nil:
		return ErrIllegalGeneration
	case m.epoch != epoch:
		return fmt.Errorf("%w: member %s is at epoch %d, not %d", ErrStaleMemberEpoch, m.id, m.epoch, epoch)
	}
	return nil
}
