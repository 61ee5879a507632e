package group

import (
	"fmt"
	"time"
)

// Limits bounds what clients may ask of the coordinator. A zero field is its default.
type Limits struct {
	// MinSessionTimeout and MaxSessionTimeout are group.min.session.timeout.ms (6 s)
	// and group.max.session.timeout.ms (30 min).
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is group.initial.rebalance.delay.ms: how long the first
	// member of an empty group waits for others (3 s). Negative means not at all.
	InitialRebalanceDelay time.Duration
	// MaxGroups bounds the groups that have members, or requests under way (1,000).
	MaxGroups int
	// MaxMembers is group.max.size: members per group (500).
	MaxMembers int
	// MaxProtocols bounds the assignors that one member offers (32).
	MaxProtocols int
	// MaxSubscriptionBytes bounds the protocol metadata of all members of one group together (1 MiB).
	MaxSubscriptionBytes int
	// MaxRegexBytes bounds the regular expression that one member subscribes by (1,024).
	MaxRegexBytes int
	// MaxAssignmentBytes bounds the assignments of one generation together (1 MiB).
	MaxAssignmentBytes int
	// MaxOffsetMetadataBytes is offset.metadata.max.bytes: the text beside one committed offset (4,096).
	MaxOffsetMetadataBytes int
	// MaxOffsets bounds the committed offsets of all groups together, and the groups
	// that the log knows (100,000).
	MaxOffsets int
	// ConsumerSessionTimeout and ConsumerHeartbeatInterval are of the consumer protocol:
	// group.consumer.session.timeout.ms (45 s) and group.consumer.heartbeat.interval.ms (5 s).
	ConsumerSessionTimeout, ConsumerHeartbeatInterval time.Duration
	// MaxIDBytes bounds group ids and group.instance.ids (255).
	MaxIDBytes int
}

// newMemberJoinTimeout is how long a new member may wait in its first join
// without a sign of life: before KIP-394 clients could leave such members behind.
const newMemberJoinTimeout = 5 * time.Minute

// withDefaults fills in the zero fields.
func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	defTime(&l.MinSessionTimeout, 6*time.Second)
	defTime(&l.MaxSessionTimeout, 30*time.Minute)
	defTime(&l.InitialRebalanceDelay, 3*time.Second)
	defTime(&l.ConsumerSessionTimeout, 45*time.Second)
	defTime(&l.ConsumerHeartbeatInterval, 5*time.Second)
	def(&l.MaxGroups, 1000)
	def(&l.MaxMembers, 500)
	def(&l.MaxProtocols, 32)
	def(&l.MaxSubscriptionBytes, 1<<20)
	def(&l.MaxRegexBytes, 1<<10)
	def(&l.MaxAssignmentBytes, 1<<20)
	def(&l.MaxOffsetMetadataBytes, 4096)
	def(&l.MaxOffsets, 100_000)
	def(&l.MaxIDBytes, 255)
	return l
}

// Validate says what is wrong with the limits, by the names of the config keys.
func (l Limits) Validate() error {
	l = l.withDefaults()
	if l.MinSessionTimeout < 0 || l.MinSessionTimeout > l.MaxSessionTimeout {
		return fmt.Errorf("group: group.min.session.timeout.ms is %v, it must be between 0 and group.max.session.timeout.ms, %v", l.MinSessionTimeout, l.MaxSessionTimeout)
	}
	for _, f := range []struct {
		name string
		v    int
	}{
		{"MaxGroups", l.MaxGroups}, {"group.max.size", l.MaxMembers}, {"MaxProtocols", l.MaxProtocols},
		{"MaxSubscriptionBytes", l.MaxSubscriptionBytes}, {"MaxAssignmentBytes", l.MaxAssignmentBytes}, {"MaxRegexBytes", l.MaxRegexBytes},
		{"offset.metadata.max.bytes", l.MaxOffsetMetadataBytes}, {"MaxOffsets", l.MaxOffsets}, {"MaxIDBytes", l.MaxIDBytes},
	} {
		if f.v < 0 {
			return fmt.Errorf("group: %s is %d, it must not be negative", f.name, f.v)
		}
	}
	return nil
}

func (l *Limits) checkGroupID(id string) error {
	if id == "" || len(id) > l.MaxIDBytes {
		return fmt.Errorf("%w: %d bytes, it must have 1 to %d", ErrInvalidGroupID, len(id), l.MaxIDBytes)
	}
	return nil
}

func (l *Limits) checkJoin(ev *JoinGroup) error {
	switch {
	case ev.SessionTimeout < l.MinSessionTimeout || ev.SessionTimeout > l.MaxSessionTimeout:
		return fmt.Errorf("%w: session.timeout.ms is %v, it must be between %v and %v", ErrInvalidSessionTimeout, ev.SessionTimeout, l.MinSessionTimeout, l.MaxSessionTimeout)
	case len(ev.Protocols) > l.MaxProtocols:
		return fmt.Errorf("%w: %d protocols, at most %d", ErrInvalidRequest, len(ev.Protocols), l.MaxProtocols)
	case len(ev.InstanceID) > l.MaxIDBytes:
		return fmt.Errorf("%w: group.instance.id has %d bytes, at most %d", ErrInvalidRequest, len(ev.InstanceID), l.MaxIDBytes)
	}
	return nil
}
