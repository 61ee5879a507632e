package group_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
)

func join(client string) group.JoinGroup {
	return group.JoinGroup{
		ClientID: client, ClientHost: "/127.0.0.1", ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range", Metadata: []byte(client)}},
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 30 * time.Second,
	}
}

// member is a client of a group as simple as can be: it joins, gives every member
// its own id as the assignment if it leads, and sends heartbeats.
type member struct {
	c  *group.Coordinator
	ev group.JoinGroup
	place

	mu  sync.Mutex
	saw place // a copy for others to look at
}

// place is a member's place in the group.
type place struct {
	id     string
	gen    int32
	got    string // assignment
	joined time.Time
}

func (m *member) look() place {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saw
}

// rejoin joins and syncs until the group is stable.
func (m *member) rejoin(ctx context.Context) error {
	for {
		ev := m.ev
		ev.MemberID = m.id
		j, err := m.c.Join(ctx, "g", ev)
		switch {
		case errors.Is(err, group.ErrUnknownMemberID):
			m.id = ""
			continue
		case errors.Is(err, group.ErrMemberIDRequired):
			m.id = j.MemberID
			continue
		case err != nil:
			return err
		}
		m.id, m.gen = j.MemberID, j.Generation
		assignments := map[string][]byte{}
		for _, o := range j.Members {
			assignments[o.MemberID] = fmt.Appendf(nil, "%s of %d", o.MemberID, len(j.Members))
		}
		s, err := m.c.Sync(ctx, "g", group.SyncGroup{MemberID: m.id, InstanceID: ev.InstanceID, Generation: m.gen, Assignments: assignments})
		if errors.Is(err, group.ErrRebalanceInProgress) {
			continue
		}
		if err == nil {
			m.got, m.joined = string(s.Assignment), time.Now()
			m.mu.Lock()
			m.saw = m.place
			m.mu.Unlock()
		}
		return err
	}
}

// live is a member's life until ctx ends: that is how it is killed.
func (m *member) live(ctx context.Context) error {
	for {
		if err := m.rejoin(ctx); err != nil {
			return err
		}
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(m.ev.SessionTimeout / 3):
			}
			err := m.c.Heartbeat(ctx, "g", group.Heartbeat{MemberID: m.id, InstanceID: m.ev.InstanceID, Generation: m.gen})
			if err != nil {
				if !errors.Is(err, group.ErrRebalanceInProgress) && !errors.Is(err, group.ErrUnknownMemberID) && !errors.Is(err, group.ErrIllegalGeneration) {
					return err
				}
				break
			}
		}
	}
}

func TestKilledMemberIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		c := b.open()
		var members [3]*member
		var kill [3]context.CancelFunc
		ended := make(chan error, 3)
		for i := range members {
			ctx, cancel := context.WithCancel(context.Background())
			members[i], kill[i] = &member{c: c, ev: join(fmt.Sprint("c", i))}, cancel
			members[i].ev.RequireKnownMember = i > 0
			go func() { ended <- members[i].live(ctx) }()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, m := range members {
			m := m.look()
			if m.got != m.id+" of 3" {
				t.Errorf("member %s is assigned %q", m.id, m.got)
			}
		}
		start := time.Now()
		kill[1]()
		<-ended
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, i := range []int{0, 2} {
			m := members[i].look()
			if m.got != m.id+" of 2" {
				t.Errorf("after a kill member %s is assigned %q", m.id, m.got)
			}
			if d := m.joined.Sub(start); d < 7*time.Second || d > 14*time.Second {
				t.Errorf("rebalanced %v after the kill, with a session of 10 s", d)
			}
		}
		if d, _ := c.Describe("g"); d.State != group.Stable || len(d.Members) != 2 {
			t.Error(d)
		}
		// A commit of a member is taken, one of the dead is not.
		commit := func(member *member) error {
			m := member.look()
			_, err := c.Commit("g", group.Commit{MemberID: m.id, Generation: m.gen, Offsets: []group.CommitOffset{{TopicPartition: tp("t", 0), Offset: 1}}})
			return err
		}
		if err := commit(members[0]); err != nil {
			t.Error(err)
		}
		if err := commit(members[1]); !errors.Is(err, group.ErrUnknownMemberID) {
			t.Error(err)
		}
		if _, err := c.DeleteOffsets("g", nil); err != nil {
			t.Error(err)
		}
		if err := c.Delete("g"); !errors.Is(err, group.ErrNonEmptyGroup) {
			t.Error(err)
		}
		for _, i := range []int{0, 2} {
			kill[i]()
			<-ended
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if d, _ := c.Describe("g"); d.State != group.Empty || c.Resident() != 0 {
			t.Error(d, c.Resident())
		}
		b.close()
	})
}

// A member that does not rejoin holds up the others for the rebalance timeout.
func TestRebalanceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		c := b.open()
		ctx := context.Background()
		slow := &member{c: c, ev: join("slow")}
		if err := slow.rejoin(ctx); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		quick := &member{c: c, ev: join("quick")}
		done := make(chan error)
		go func() { done <- quick.rejoin(ctx) }()
		for range 9 {
			time.Sleep(3 * time.Second)
			if err := c.Heartbeat(ctx, "g", group.Heartbeat{MemberID: slow.id, Generation: slow.gen}); !errors.Is(err, group.ErrRebalanceInProgress) {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil || quick.got != quick.id+" of 1" || time.Since(start) != 30*time.Second {
			t.Fatal(err, quick.got, time.Since(start))
		}
		b.close()
	})
}

func TestGroupSurvivesRestart(t *testing.T) {
	for _, how := range []string{"close", "crash"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				ctx := context.Background()
				static := &member{c: b.open(), ev: join("static")}
				static.ev.InstanceID = "i"
				if err := static.rejoin(ctx); err != nil {
					t.Fatal(err)
				}
				old, wasAssigned := static.id, static.got
				next := b
				if how == "crash" {
					next = b.crashed()
				}
				b.close()
				static.c = next.open()
				if err := static.c.Heartbeat(ctx, "g", group.Heartbeat{MemberID: old, InstanceID: "i", Generation: static.gen}); err != nil {
					t.Fatal(err)
				}
				// The member restarts too, and nothing is rebalanced.
				gen := static.gen
				static.id = ""
				if err := static.rejoin(ctx); err != nil || static.gen != gen || static.got != wasAssigned {
					t.Fatal(err, static.gen, static.got)
				}
				if err := static.c.Heartbeat(ctx, "g", group.Heartbeat{MemberID: old, InstanceID: "i", Generation: gen}); !errors.Is(err, group.ErrFencedInstanceID) {
					t.Fatal(err)
				}
				// Sessions begin anew at a restart, heard of or not: nobody stays for ever.
				next.close()
				static.c = next.open()
				time.Sleep(11 * time.Second)
				synctest.Wait()
				if d, _ := static.c.Describe("g"); d.State != group.Empty || d.Generation != gen+1 {
					t.Fatal(d)
				}
				next.close()
			})
		})
	}
}

// What waits is let go by its context and by Close.
func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.Limits.InitialRebalanceDelay = time.Hour
		c := b.open()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		for _, ctx := range []context.Context{ctx, context.Background()} {
			go func() {
				ev := join("c")
				ev.RebalanceTimeout = 2 * time.Hour
				_, err := c.Join(ctx, "g", ev)
				done <- err
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		go b.close()
		if err := <-done; !errors.Is(err, group.ErrCoordinatorNotAvailable) {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := c.Commit("g", group.Commit{Generation: -1}); !errors.Is(err, group.ErrCoordinatorNotAvailable) {
			t.Error(err)
		}
		if _, _, err := c.Committed("g", tp("t", 0)); err != nil {
			t.Error("what is known is known after Close too:", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMaxGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.Limits.MaxGroups = 2
		c := b.open()
		ev := join("c")
		ev.RequireKnownMember = true
		for i, want := range []error{group.ErrMemberIDRequired, group.ErrMemberIDRequired, group.ErrGroupMaxSizeReached} {
			if _, err := c.Join(context.Background(), fmt.Sprint("g", i), ev); !errors.Is(err, want) {
				t.Error(i, err)
			}
		}
		ev.MemberID = "made-up"
		if _, err := c.Join(context.Background(), "g9", ev); !errors.Is(err, group.ErrUnknownMemberID) {
			t.Error(err)
		}
		time.Sleep(11 * time.Second) // the ids given out expire, and the groups with them
		synctest.Wait()
		if n := c.Resident(); n != 0 {
			t.Error(n, "groups in memory")
		}
		b.close()
	})
}

func TestOffsetsExpire(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.RetentionCheckInterval = time.Hour
		b.open()
		// The bubble's clock starts in 2000: not set yet, as far as we can tell.
		b.commit("unset", tp("t", 0), 1)
		b.commit("__weir.plugin.p", tp("t", 0), 1)
		b.close()
		time.Sleep(26 * 365 * day) // the box learns the time
		c := b.open()
		b.commit("old", tp("t", 0), 1)
		b.commit("old", tp("t", 1), 1)
		live := &member{c: c, ev: join("live")}
		live.ev.SessionTimeout = 30 * time.Minute
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- live.live(ctx) }()
		synctest.Wait()
		if _, err := c.Commit("g", group.Commit{MemberID: live.look().id, Generation: live.look().gen, Offsets: []group.CommitOffset{{TopicPartition: tp("t", 0), Offset: 1}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * day)
		synctest.Wait()
		b.want("unset", tp("t", 0), 1)
		b.want("old", tp("t", 1), 1)
		b.commit("old", tp("t", 0), 2)
		time.Sleep(2 * day)
		synctest.Wait()
		b.want("unset", tp("t", 0), -1)
		b.want("__weir.plugin.p", tp("t", 0), 1)
		b.want("old", tp("t", 0), 2)
		b.want("old", tp("t", 1), -1)
		b.want("g", tp("t", 0), 1)
		cancel() // the clock of a group starts when its last member goes
		<-ended
		time.Sleep(6 * day)
		synctest.Wait()
		b.want("old", tp("t", 0), -1)
		b.want("g", tp("t", 0), 1)
		time.Sleep(2 * day)
		synctest.Wait()
		b.want("g", tp("t", 0), -1)
		if l, err := c.List(); err != nil || len(l) != 1 {
			t.Error(l)
		}
		b.close()
		b.open()
		if l, err := b.c.List(); err != nil || len(l) != 1 {
			t.Error(l)
		}
		b.close()
	})
}

func TestStatusAndMetrics(t *testing.T) {
	b := newBox(t)
	b.opts.HighWatermark = func(record.TopicPartition) (int64, bool) { return 10, true }
	c := b.open()
	defer b.close()
	b.commit("g", tp("t", 0), 4)
	s := c.Status()
	if len(s.Groups) != 1 || s.Error != "" || len(s.Groups[0].Offsets) != 1 || s.Groups[0].Offsets[0].Lag != 6 || s.Groups[0].State != "Empty" {
		t.Errorf("%+v", s)
	}
	var w metric.Writer
	c.Metrics(&w)
	if len(w.Bytes()) == 0 {
		t.Error("no metrics")
	}
}
