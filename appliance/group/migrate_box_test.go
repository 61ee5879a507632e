package group_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
)

// stableClassic is an open box with a stable classic group g of one member, which has
// t-0 of two partitions and has committed there.
func stableClassic(t *testing.T, policy string) (b *box, member string, generation int32) {
	b = newBox(t)
	b.opts.MigrationPolicy = policy
	b.opts.Cluster = &topicMap{map[string]int32{"t": 2}, 1}
	c := b.open()
	b.commit("g", tp("t", 0), 11)
	joined, err := c.Join(t.Context(), "g", classicJoin(""))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Sync(t.Context(), "g", group.SyncGroup{MemberID: joined.MemberID, Generation: joined.Generation, Assignments: map[string][]byte{
		joined.MemberID: assigned(group.NewShare(group.Held{Topic: idOf("t"), Partition: 0})),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b, joined.MemberID, joined.Generation
}

func classicJoin(member string) group.JoinGroup {
	return group.JoinGroup{MemberID: member, ProtocolType: "consumer", SessionTimeout: 30 * time.Second, RebalanceTimeout: time.Minute,
		Protocols: []group.Protocol{{Name: "range", Metadata: subscription([]string{"t"}, nil)}}}
}

func consumerJoin(member string) group.ConsumerHeartbeat {
	return group.ConsumerHeartbeat{MemberID: member, Rebalance: time.Minute, Topics: []string{"t"}, OwnedSaid: true}
}

// Up and down through the coordinator, with a power cut at each stage: the offsets stay,
// and each protocol's members find themselves again.
func TestGroupMigratesThroughCrashes(t *testing.T) {
	b, member, generation := stableClassic(t, "")
	beat, err := b.c.ConsumerHeartbeat("g", consumerJoin("c"))
	if err != nil || beat.Epoch != generation+1 {
		t.Fatal(beat, err)
	}
	for range 2 { // as it is, and after a power cut
		if err := b.c.Heartbeat(t.Context(), "g", group.Heartbeat{MemberID: member, Generation: generation}); !errors.Is(err, group.ErrRebalanceInProgress) {
			t.Fatalf("the classic member is told %v", err)
		}
		b = b.crashed()
		b.open()
	}
	joined, err := b.c.Join(t.Context(), "g", classicJoin(member))
	if err != nil || joined.Generation != beat.Epoch {
		t.Fatal(joined, err)
	}
	b.want("g", tp("t", 0), 11)
	if _, err := b.c.ConsumerHeartbeat("g", group.ConsumerHeartbeat{MemberID: "c", Epoch: -1, Rebalance: -1}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.c.DescribeConsumers("g"); !errors.Is(err, group.ErrGroupIDNotFound) {
			t.Fatalf("it is still of the consumer protocol: %v", err)
		}
		commit := group.Commit{MemberID: member, Generation: joined.Generation, Offsets: []group.CommitOffset{{TopicPartition: tp("t", 0), Offset: 12, LeaderEpoch: -1}}}
		if each, err := b.c.Commit("g", commit); err != nil || each != nil {
			t.Fatal(each, err)
		}
		b = b.crashed()
		b.open()
	}
	b.want("g", tp("t", 0), 12)
	again, err := b.c.Join(t.Context(), "g", classicJoin(member))
	if err != nil || again.Leader != member || len(again.Members) != 1 {
		t.Fatalf("the member that is left does not lead: %+v, %v", again, err)
	}
	b.close()
}

// A join that waits for others is answered when the group goes over.
func TestMigrationAnswersWhoWaits(t *testing.T) {
	b, member, generation := stableClassic(t, "")
	waited := make(chan error, 1)
	go func() {
		_, err := b.c.Join(t.Context(), "g", classicJoin("")) // it waits for member
		waited <- err
	}()
	for {
		err := b.c.Heartbeat(t.Context(), "g", group.Heartbeat{MemberID: member, Generation: generation})
		if errors.Is(err, group.ErrRebalanceInProgress) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.c.ConsumerHeartbeat("g", consumerJoin("c")); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, group.ErrRebalanceInProgress) {
		t.Errorf("who waited is told %v", err)
	}
	b.close()
}

func TestMigrationPolicy(t *testing.T) {
	for policy, may := range map[string][2]bool{"bidirectional": {true, true}, "upgrade": {true, false}, "downgrade": {false, true}, "disabled": {false, false}} {
		b, _, _ := stableClassic(t, policy)
		_, err := b.c.ConsumerHeartbeat("g", consumerJoin("c"))
		if up := err == nil; up != may[0] || !up && !errors.Is(err, group.ErrGroupIDNotFound) {
			t.Errorf("%s: the group goes up: %v", policy, err)
		}
		// A group that began with the consumer protocol, and has a classic member besides.
		_, err = b.c.ConsumerHeartbeat("h", consumerJoin("c"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.c.Join(t.Context(), "h", classicJoin("m")); err != nil {
			t.Fatalf("%s: a classic member joins: %v", policy, err)
		}
		if _, err := b.c.ConsumerHeartbeat("h", group.ConsumerHeartbeat{MemberID: "c", Epoch: -1, Rebalance: -1}); err != nil {
			t.Fatal(err)
		}
		_, err = b.c.DescribeConsumers("h")
		if down := err != nil; down != may[1] {
			t.Errorf("%s: the group went down: %v, %v", policy, down, err)
		}
		b.close()
	}
	b := newBox(t)
	b.open()
	defer b.close()
	part, err := group.EnsureTopic(b.set)
	if err != nil {
		t.Fatal(err)
	}
	if err := (group.Options{Log: b.set, Partition: part, MigrationPolicy: "sometimes"}).Validate(); err == nil || !strings.Contains(err.Error(), "migration.policy") {
		t.Errorf("a policy that there is not: %v", err)
	}
}
