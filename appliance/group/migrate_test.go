package group_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/group"
)

// The events of traces that are of classic members.

// classic makes a stable classic group, of=a:t-0,t-1;b:t-2, into one of the consumer protocol.
func (p *consumers) classic(arg map[string]string) {
	generation, err := strconv.Atoi(arg["generation"])
	p.check(err)
	v := kmsg.NewGroupMetadataValue()
	protocol, leader := "range", ""
	v.Version, v.ProtocolType, v.Generation, v.Protocol, v.Leader = 3, arg["type"], int32(generation), &protocol, &leader
	for _, of := range strings.Split(arg["of"], ";") {
		id, held, _ := strings.Cut(of, ":")
		m := kmsg.NewGroupMetadataValueMember()
		m.MemberID, m.SessionTimeoutMillis, m.RebalanceTimeoutMillis = id, 10_000, 30_000
		m.Subscription, m.Assignment = subscription(strings.Split(arg["topics"], ","), nil), assigned(p.share(held))
		if id == "junk" {
			m.Subscription = []byte("no subscription")
		}
		v.Members = append(v.Members, m)
	}
	g, err := group.Restore(&p.limits, v.AppendTo(nil), p.now)
	p.check(err)
	c, changes, err := g.Upgrade(p.now, &p.cluster)
	if err != nil {
		fmt.Fprintf(&p.out, "  %s\n", short(err))
		return
	}
	p.g = c
	p.write(changes)
}

func (p *consumers) join(arg map[string]string) {
	_, anew := arg["anew"]
	ev := group.JoinGroup{MemberID: arg["m"], NewMemberID: arg["new"], InstanceID: arg["instance"], ClientID: "c", ClientHost: "/10.0.0.1",
		ProtocolType: "consumer", SessionTimeout: 10 * time.Second, RebalanceTimeout: 30 * time.Second, RequireKnownMember: anew}
	if typ, ok := arg["type"]; ok {
		ev.ProtocolType = typ
	}
	names := "range"
	if ps, ok := arg["protocols"]; ok {
		names = ps
	}
	for name := range strings.SplitSeq(names, ",") {
		ev.Protocols = append(ev.Protocols, group.Protocol{Name: name, Metadata: subscription(strings.Split(arg["topics"], ","), p.share(arg["owned"]))})
	}
	joined, changes, err := p.g.Join(p.now, &ev, &p.cluster)
	p.write(changes)
	if err != nil {
		fmt.Fprintf(&p.out, "  %s %s\n", short(err), joined.MemberID)
		return
	}
	fmt.Fprintf(&p.out, "  joined %s generation=%d %s leader=%q\n", joined.MemberID, joined.Generation, joined.Protocol, joined.Leader)
}

func (p *consumers) sync(what string, arg map[string]string) {
	generation, err := strconv.Atoi(arg["generation"])
	p.check(err)
	if what == "hb" {
		changes, err := p.g.Beat(p.now, &group.Heartbeat{MemberID: arg["m"], InstanceID: arg["instance"], Generation: int32(generation)}, &p.cluster)
		p.write(changes)
		fmt.Fprintf(&p.out, "  %s\n", short(err))
		return
	}
	s, err := p.g.Sync(p.now, &group.SyncGroup{MemberID: arg["m"], InstanceID: arg["instance"], Generation: int32(generation), Protocol: arg["protocol"]}, &p.cluster)
	if err != nil {
		fmt.Fprintf(&p.out, "  %s\n", short(err))
		return
	}
	fmt.Fprintf(&p.out, "  assigned %v by %s\n", sharing(p.t, s.Assignment), s.Protocol)
}

func (p *consumers) downgrade() {
	if !p.g.Classic() {
		p.out.WriteString("  some member speaks the consumer protocol\n")
		return
	}
	g := p.g.Downgrade(p.now, &p.cluster)
	fmt.Fprintf(&p.out, "  classic %s generation=%d\n", g.State(), g.Generation())
	for _, id := range g.MemberIDs() {
		fmt.Fprintf(&p.out, "  %s commits at %d: %s\n", id, g.Generation(), short(g.CheckCommit(p.now, id, "", g.Generation())))
	}
	g.Step(p.now, group.Regroup{})
	fmt.Fprintf(&p.out, "  classic %s\n", g.State())
}

func subscription(topics []string, owned group.Share) []byte {
	v := kmsg.NewConsumerMemberMetadata()
	v.Version, v.Topics = 3, topics
	owned.Topics(func(id group.TopicID, partitions []int32) {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = strings.TrimRight(string(id[:]), "\x00"), partitions
		v.OwnedPartitions = append(v.OwnedPartitions, o)
	})
	return v.AppendTo(nil)
}

func assigned(s group.Share) []byte {
	v := kmsg.NewConsumerMemberAssignment()
	s.Topics(func(id group.TopicID, partitions []int32) {
		o := kmsg.NewConsumerMemberAssignmentTopic()
		o.Topic, o.Partitions = strings.TrimRight(string(id[:]), "\x00"), partitions
		v.Topics = append(v.Topics, o)
	})
	return v.AppendTo(nil)
}

func sharing(t testing.TB, assignment []byte) group.Share {
	var v kmsg.ConsumerMemberAssignment
	if err := v.ReadFrom(assignment); err != nil {
		t.Fatal(err)
	}
	var hs []group.Held
	for _, topic := range v.Topics {
		for _, partition := range topic.Partitions {
			hs = append(hs, group.Held{Topic: idOf(topic.Topic), Partition: partition})
		}
	}
	return group.NewShare(hs...)
}

// Classic clients, eager and cooperative, and those of the consumer protocol in one
// group, which come, go and are restored: nobody ever holds what somebody else holds,
// and when all keep still everything is held.
func TestMixedConsumersNeverShareAPartition(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := newConsumers(t)
		p.limits.MaxMembers, p.limits.MaxSubscriptionBytes, p.limits.MaxProtocols, p.limits.MaxSessionTimeout = 10, 10_000, 5, time.Hour
		p.cluster.sizes = map[string]int32{"t": 7, "u": 4}
		sim := &simulation{consumers: p, r: r, held: map[string]group.Share{}, epochs: map[string]int32{}, topics: map[string][]string{}, lost: map[string]bool{}}
		classics := []*classicClient{{sim: sim, id: "eager-1"}, {sim: sim, id: "eager-2"}, {sim: sim, id: "coop-1", cooperative: true}, {sim: sim, id: "coop-2", cooperative: true}}
		for i := range 900 {
			chaos := i < 500
			if n := r.IntN(9); n < len(classics) {
				classics[n].step(chaos)
			} else {
				sim.step(chaos)
			}
		}
		sim.wantAllHeld(seed)
	}
}

// classicClient does as clients of the classic protocol do.
type classicClient struct {
	sim         *simulation
	id          string
	cooperative bool
	topics      []string
	generation  int32 // 0: not joined
	rejoin      bool
	assigned    group.Share
}

func (c *classicClient) step(chaos bool) {
	s := c.sim
	s.now = s.now.Add(10 * time.Millisecond)
	switch n := s.r.IntN(20); {
	case c.generation == 0 && !chaos:
		return
	case c.generation == 0:
		c.topics = [][]string{{"t"}, {"t", "u"}, {"u"}}[s.r.IntN(3)]
		c.join()
	case chaos && n == 0:
		_, changes := s.g.Leave(s.now, []group.Leaving{{MemberID: c.id}})
		s.write(changes)
		c.forget()
	case c.rejoin:
		c.join()
	default:
		changes, err := s.g.Beat(s.now, &group.Heartbeat{MemberID: c.id, Generation: c.generation}, &s.cluster)
		s.write(changes)
		c.heed(err)
	}
}

func (c *classicClient) heed(err error) {
	switch err {
	case nil:
	case group.ErrRebalanceInProgress:
		c.rejoin = true
	case group.ErrUnknownMemberID, group.ErrIllegalGeneration:
		c.forget()
	default:
		c.sim.t.Fatal(err)
	}
}

func (c *classicClient) forget() {
	c.generation, c.rejoin, c.assigned = 0, false, nil
	delete(c.sim.held, c.id)
}

func (c *classicClient) join() {
	s := c.sim
	delete(s.held, c.id) // an eager one lets go of all, a cooperative one by now of what it had to
	var owned group.Share
	if c.cooperative && len(c.assigned) > 0 {
		owned = c.assigned
		s.held[c.id] = owned
	}
	joined, changes, err := s.g.Join(s.now, &group.JoinGroup{MemberID: c.id, ProtocolType: "consumer", SessionTimeout: time.Minute, RebalanceTimeout: time.Minute,
		Protocols: []group.Protocol{{Name: "range", Metadata: subscription(c.topics, owned)}}}, &s.cluster)
	s.check(err)
	s.write(changes)
	c.generation, c.rejoin = joined.Generation, false
	synced, err := s.g.Sync(s.now, &group.SyncGroup{MemberID: c.id, Generation: c.generation}, &s.cluster)
	if err != nil {
		c.heed(err)
		return
	}
	now := sharing(s.t, synced.Assignment)
	for _, h := range owned {
		if !slices.Contains(now, h) {
			c.rejoin = true // it lets go of that, and says so
		}
	}
	c.assigned = now
	if s.held[c.id] = group.NewShare(append(slices.Clone(owned), now...)...); len(s.held[c.id]) == 0 {
		delete(s.held, c.id)
	}
	for _, other := range slices.Sorted(maps.Keys(s.held)) {
		for _, h := range now {
			if other != c.id && slices.Contains(s.held[other], h) {
				s.t.Fatalf("%s and %s both hold %v\n%s", c.id, other, group.Share{h}, s.out.String())
			}
		}
	}
}
