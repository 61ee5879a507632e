package compat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
)

// A rolling upgrade to the consumer protocol (KIP-848) and back: of three members one
// after another is restarted with the other protocol. Every record is read, and nothing
// is read again that was committed before a member was changed.
func TestGroupMigratesByMembers(t *testing.T) {
	t.Parallel()
	config := "kafka: {group.consumer.session.timeout: 6s, group.consumer.heartbeat.interval: 500ms}\n"
	newest := compat.JavaVersions[len(compat.JavaVersions)-1]
	for name, drivers := range map[string]func(t *testing.T) (classic, consumer compat.Driver){
		"librdkafka": func(t *testing.T) (classic, consumer compat.Driver) {
			return compat.Python(t, "confluent"), compat.Python(t, "confluent")
		},
		"java": func(t *testing.T) (classic, consumer compat.Driver) {
			return compat.Java(t, compat.JavaVersions[0], "Client"), compat.Java(t, newest, "Client")
		},
		"franz-go to librdkafka": func(t *testing.T) (classic, consumer compat.Driver) {
			return compat.Go(t, "franz-go"), compat.Python(t, "confluent")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWeir(t, config)
			classic, consumer := drivers(t)
			r := &rolling{checked: &checked{s: s}, topic: "roll", seen: &collector{lines: map[string]int{}}}
			makeTopic(t, s, r.topic, groupPartitions)
			r.produced = newRounds(t, s, r.topic)
			for range 3 {
				r.members = append(r.members, r.start(t, classic))
			}
			r.round(t)
			for i := range r.members {
				r.change(t, i, consumer, "GROUP_PROTOCOL=consumer")
			}
			r.wantType(t, "consumer")
			for i := range r.members {
				r.change(t, i, classic)
			}
			r.wantType(t, "classic")
			for _, m := range r.members {
				m.leave(t)
			}
			r.wantCommitted(t)
		})
	}
}

// rolling is a group whose members are changed one by one.
type rolling struct {
	*checked
	topic    string
	seen     *collector
	produced *rounds
	members  []*member
	started  int
}

func (r *rolling) start(t *testing.T, d compat.Driver, env ...string) *member {
	t.Helper()
	r.started++
	return start(t, d, append([]string{"BOOTSTRAP=" + r.s.Addresses().Kafka}, env...), r.seen, r.started, "consume", "rolling", r.topic)
}

// change restarts a member with another client, when all that was read is committed.
func (r *rolling) change(t *testing.T, i int, d compat.Driver, env ...string) {
	t.Helper()
	r.wantCommitted(t)
	committed := r.produced.n
	r.members[i].leave(t)
	r.members[i] = r.start(t, d, env...)
	r.round(t)
	poll(t, "records of the new member", func() bool { // it takes part
		if r.seen.readBy(r.started) {
			return true
		}
		r.round(t)
		return false
	})
	for _, line := range r.seen.again() {
		n := 0
		if _, err := fmt.Sscanf(line, "record-%d", &n); err != nil || n < committed {
			t.Errorf("%s was read again, although %d records were committed before member %d was changed", line, committed, i)
		}
	}
}

func (r *rolling) round(t *testing.T) {
	t.Helper()
	r.produced.round(t)
	r.seen.wait(t, r.produced.n)
}

func (r *rolling) wantCommitted(t *testing.T) {
	t.Helper()
	poll(t, "commits of all that was read", func() bool {
		out, err := r.s.Command(t.Context(), "group", "describe", "rolling", "--json", "--kafka", r.s.Addresses().Kafka)
		if err != nil {
			t.Fatal(err)
		}
		var left struct {
			Lag     int64
			Offsets []any
		}
		return json.Unmarshal(out, &left) == nil && left.Lag == 0 && len(left.Offsets) == groupPartitions
	})
}

// wantType waits for the protocol that the broker says the group is of.
func (r *rolling) wantType(t *testing.T, want string) {
	t.Helper()
	admin := newAdmin(t, r.s)
	poll(t, "a group of the "+want+" protocol", func() bool {
		groups, err := admin.ListGroupsByType(t.Context(), []string{want})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(groups.Groups(), " "), "rolling")
	})
}
