package appliance_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/group"
)

// Three members of the consumer protocol (KIP-848) share a topic while the broker is
// restarted and killed, and one of them leaves. Nothing is missed; the group, which
// the log knows, goes on with the same members.
func TestConsumerProtocolOverRestarts(t *testing.T) {
	s := newSite(t)
	p := newPool()
	described := func() group.ConsumerDescription {
		d, _ := s.b.Groups().DescribeConsumers("g")
		return d
	}
	var cs []*consumer
	for range 3 {
		cs = append(cs, s.consume(p, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())))
	}
	s.produce(0, 300)
	p.wait(t, 0, 300)
	deadline := time.Now().Add(30 * time.Second)
	for d := described(); len(d.Members) != 3 || d.State != group.Stable; d = described() {
		if time.Now().After(deadline) {
			t.Fatalf("three members do not settle: %+v", d)
		}
		time.Sleep(10 * time.Millisecond)
	}
	before := described()
	for i, kill := range []bool{false, true} {
		s.restart(kill)
		from := 300 * (i + 1)
		s.produce(from, from+300)
		p.wait(t, 0, from+300)
	}
	if after := described(); len(after.Members) != 3 || after.Epoch != before.Epoch {
		t.Errorf("%d members at epoch %d after restarts, had 3 at %d", len(after.Members), after.Epoch, before.Epoch)
	}
	cs[0].close()
	s.produce(900, 1200)
	p.wait(t, 0, 1200)
	if d, err := s.b.Groups().DescribeConsumers("g"); err != nil || len(d.Members) != 2 {
		t.Errorf("after one has left: %+v, %v", d, err)
	}
	for _, c := range cs[1:] {
		c.close()
	}
	if d, err := s.b.Groups().DescribeConsumers("g"); err != nil || d.State != group.Empty {
		t.Errorf("after all have left: %+v, %v", d, err)
	}
	resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(s.ctx(), s.client())
	if err != nil || len(resp.Groups) != 1 || resp.Groups[0].GroupType != "consumer" {
		t.Errorf("ListGroups: %+v, %v", resp, err)
	}
}
