package group_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
)

// FuzzTable feeds the offsets topic whatever a disk or a foreign producer may put
// there. Nothing may panic, and a snapshot must say the same as what it replaces.
func FuzzTable(f *testing.F) {
	commit := group.EncodeOffsetCommit("g", tp("t", 1), 7, "m", 8)
	f.Add(commit.Key, commit.Value, commit.Key, []byte(nil))
	f.Add([]byte("\x00\x02\x00\x01g"), []byte("\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), commit.Key, commit.Value)
	f.Add([]byte("\x00\x03new"), []byte("value"), []byte{}, []byte{0})
	f.Add(commit.Key, []byte("\x00\x04newer"), commit.Key, commit.Value)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte) {
		a := group.NewTable()
		nilIfEmpty := func(b []byte) []byte {
			if len(b) == 0 {
				return nil
			}
			return b
		}
		_ = a.Apply(record.Record{Offset: 1, Key: key1, Value: nilIfEmpty(value1)})
		_ = a.Apply(record.Record{Offset: 2, Key: key2, Value: nilIfEmpty(value2)})
		b := group.NewTable()
		for i, r := range a.Snapshot() {
			r.Offset = int64(10 + i)
			_ = b.Apply(r)
		}
		if !reflect.DeepEqual(a.State(), b.State()) {
			t.Fatalf("table %v, from its snapshot %v", a.State(), b.State())
		}
	})
}

// FuzzRestore reads group metadata as a disk may give it, and runs the group on.
func FuzzRestore(f *testing.F) {
	limits := &group.Limits{MaxMembers: 10, MaxProtocols: 10, MaxSubscriptionBytes: 1000, MaxAssignmentBytes: 1000, MaxSessionTimeout: time.Hour, MaxIDBytes: 10}
	now := time.UnixMilli(1_800_000_000_000)
	g := group.NewGroup(limits, now)
	f.Add([]byte{})
	for _, e := range append(
		g.Step(now, group.JoinGroup{Ref: 1, NewMemberID: "m", ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range"}}, SessionTimeout: time.Second}),
		g.Step(now, group.SyncGroup{Ref: 2, MemberID: "m", Generation: 1, Assignments: map[string][]byte{"m": {1}}})...) {
		if s, ok := e.(group.Store); ok {
			f.Add(s.Value)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		g, err := group.Restore(limits, value, now)
		if err != nil {
			return
		}
		for i := range 20 {
			at, ok := g.Deadline()
			if !ok {
				return
			}
			for _, e := range g.Step(at, group.Tick{}) {
				if s, ok := e.(group.Store); ok {
					g.Step(at, group.Stored{Seq: s.Seq})
				}
			}
			g.Step(at, group.JoinGroup{Ref: group.Ref(i + 1), NewMemberID: "n", ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range"}}, SessionTimeout: time.Second})
		}
	})
}

// FuzzRestoreConsumers reads what a disk may give of a consumer group, and runs it on.
func FuzzRestoreConsumers(f *testing.F) {
	limits := &group.Limits{MaxMembers: 10, MaxSubscriptionBytes: 1000, MaxRegexBytes: 20, MaxIDBytes: 10, ConsumerSessionTimeout: time.Minute}
	now, topics := time.UnixMilli(1_800_000_000_000), &topicMap{map[string]int32{"t": 3}, 1}
	g := group.NewConsumerGroup(limits)
	var values [][]byte
	var keys [][]byte
	_, changes, err := g.Heartbeat(now, &group.ConsumerHeartbeat{MemberID: "m", InstanceID: "i", OwnedSaid: true, Topics: []string{"t"}}, topics)
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range g.Records("g", changes) {
		keys, values = append(keys, r.Key), append(values, r.Value)
	}
	for i := range values {
		f.Add(i, values[i])
	}
	f.Fuzz(func(t *testing.T, i int, value []byte) {
		records := map[string][]byte{}
		for j := range keys {
			records[string(keys[j])] = values[j]
		}
		records[string(keys[(i&0xff)%len(keys)])] = value
		g, err := group.RestoreConsumers(limits, records, now)
		if err != nil {
			return
		}
		_, changes, err := g.Heartbeat(now, &group.ConsumerHeartbeat{MemberID: "n", OwnedSaid: true, Topics: []string{"t"}}, topics)
		if err != nil {
			t.Fatal(err)
		}
		g.Records("g", changes)
		for range 3 {
			if at, ok := g.Deadline(); ok {
				g.Tick(at)
			}
		}
	})
}
