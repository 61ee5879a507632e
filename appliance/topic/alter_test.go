package topic_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// set makes a change for AlterConfigs that sets one config.
func set(key, value string) func(map[string]string) (map[string]string, error) {
	return func(overrides map[string]string) (map[string]string, error) {
		overrides[key] = value
		return overrides, nil
	}
}

func TestAlterConfigsHoldsAtOnceAndAfterReopening(t *testing.T) {
	b := newBox(t)
	s := b.open()
	held, err := s.Create("t", topic.Spec{Configs: map[string]string{"retention.ms": "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	before, changes, large := held.Overrides(), s.Changes(), batch(t, 0, string(make([]byte, 2000)))
	if _, err := s.Append(context.Background(), tp, large); err != nil {
		t.Fatal(err)
	}
	if err := s.AlterConfigs("t", set("max.message.bytes", "1024")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(context.Background(), tp, large); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("a large batch: %v, want it refused", err)
	}
	if len(before) != 1 || s.Changes() == changes || s.Topic("t") != held {
		t.Errorf("overrides handed out became %v, changes %d", before, s.Changes())
	}
	for range 2 {
		if got := s.Topic("t"); got.Config("max.message.bytes") != "1024" || len(got.Overrides()) != 2 || got.Config("retention.ms") != "1000" {
			t.Errorf("overrides %v", got.Overrides())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = b.open()
	}
	replace := func(map[string]string) (map[string]string, error) {
		return map[string]string{"message.timestamp.type": "LogAppendTime"}, nil
	}
	if err := s.AlterConfigs("t", replace); err != nil {
		t.Fatal(err)
	}
	if got := s.Topic("t"); got.Config("max.message.bytes") != "1048588" || len(got.Overrides()) != 1 {
		t.Errorf("overrides %v", got.Overrides())
	}
	if _, err := s.Append(context.Background(), tp, large); err != nil {
		t.Fatal(err)
	}
	bs, err := s.Fetch(context.Background(), tp, 1, 1<<20)
	if err != nil || record.Batch(bs[:len(large)]).MaxTimestamp() == large.MaxTimestamp() {
		t.Errorf("timestamp %v: the producer's, want the log's", err)
	}
}

// brokenCatalog cannot be written to.
type brokenCatalog struct{ *catalog }

var errBroken = errors.New("catalog is broken")

func (brokenCatalog) PutTopic(topic.Entry) error { return errBroken }

func TestAlterRefusals(t *testing.T) {
	b := newBox(t)
	b.opts.MaxPartitions = 4
	s := b.open()
	s.Create("t", topic.Spec{Partitions: 2})
	s.Create("u", topic.Spec{})
	errChange := errors.New("no change")
	for name, c := range map[string]struct{ got, want error }{
		"unknown topic":     {s.AlterConfigs("none", set("retention.ms", "1")), record.ErrUnknownTopicOrPartition},
		"unknown config":    {s.AlterConfigs("t", set("no.such", "1")), topic.ErrInvalidConfig},
		"bad value":         {s.AlterConfigs("t", set("retention.ms", "soon")), topic.ErrInvalidConfig},
		"change refuses":    {s.AlterConfigs("t", func(map[string]string) (map[string]string, error) { return nil, errChange }), errChange},
		"check only":        {s.CheckAlterConfigs("t", set("retention.ms", "soon")), topic.ErrInvalidConfig},
		"check only, good":  {s.CheckAlterConfigs("t", set("retention.ms", "1")), nil},
		"no such topic":     {s.AddPartitions("none", 2), record.ErrUnknownTopicOrPartition},
		"fewer":             {s.AddPartitions("t", 1), topic.ErrInvalidPartitions},
		"as many":           {s.AddPartitions("t", 2), topic.ErrInvalidPartitions},
		"too many":          {s.AddPartitions("t", 4), topic.ErrInvalidPartitions},
		"negative":          {s.AddPartitions("t", -1), topic.ErrInvalidPartitions},
		"partitions, check": {s.CheckPartitions("t", 3), nil},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if got := s.Topic("t"); len(got.Overrides()) != 0 || len(got.Partitions()) != 2 {
		t.Errorf("refusals left %v and %d partitions", got.Overrides(), len(got.Partitions()))
	}
	if err := s.AddPartitions("t", 3); err != nil { // the most that fits
		t.Error(err)
	}
}

// What the catalog does not take does not come into force.
func TestAlterIsDurableFirst(t *testing.T) {
	c := brokenCatalog{newCatalog()}
	c.entries["t"] = topic.Entry{Name: "t", ID: topic.ID{1}, Partitions: 1}
	disk := crashfs.New()
	s, err := openOn(disk, c, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AlterConfigs("t", set("retention.ms", "1")); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	for range 2 {
		if err := s.AddPartitions("t", 3); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	if got := s.Topic("t"); len(got.Overrides()) != 0 || len(got.Partitions()) != 1 {
		t.Errorf("in force: %v and %d partitions", got.Overrides(), len(got.Partitions()))
	}
	if err := s.Close(); err != nil || disk.OpenFiles() != 0 {
		t.Errorf("close: %v, %d files open", err, disk.OpenFiles())
	}
}

func TestAddPartitions(t *testing.T) {
	b := newBox(t)
	b.opts.MaxPartitions = 3
	s := b.open()
	held, _ := s.Create("t", topic.Spec{})
	old := held.Partitions()
	third := record.TopicPartition{Topic: "t", Partition: 2}
	s.Append(context.Background(), tp, batch(t, 0, "old"))
	if err := s.AddPartitions("t", 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(context.Background(), third, batch(t, 0, "new")); err != nil {
		t.Fatal(err)
	}
	if len(old) != 1 || len(held.Partitions()) != 3 || held.Partitions()[0] != old[0] || s.ByID(held.ID()) != held {
		t.Errorf("partitions %v of the topic held", held.Partitions())
	}
	s = b.open() // without a Close before it: from the write-ahead log
	for _, want := range []struct {
		tp    record.TopicPartition
		value string
	}{{tp, "old"}, {third, "new"}} {
		if got := values(t, s, want.tp, 0); len(got) != 1 || got[0] != want.value {
			t.Errorf("%s holds %q", want.tp, got)
		}
	}
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("t", topic.Spec{Partitions: 3}); err != nil {
		t.Errorf("the partitions added still count: %v", err)
	}
}

// Readers of a topic meet changes of it; for the race detector.
func TestAlterBesideAppends(t *testing.T) {
	s := newBox(t).open()
	held, _ := s.Create("t", topic.Spec{})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			done := newWait()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, p := range held.Partitions() {
					if p.Append(batch(t, 0, "v"), done); <-done != nil || held.Config("segment.bytes") == "" {
						t.Error("an append or a config failed")
					}
				}
			}
		})
	}
	for i := range int32(5) {
		if err := errors.Join(s.AddPartitions("t", i+2), s.AlterConfigs("t", set("segment.bytes", []string{"16384", "65536"}[i%2]))); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

// A power cut in AddPartitions, another in the next try, and a third try: it is as
// before or done, and what a cut left is never in the way.
func TestPowerCutInAddPartitions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newCatalog()
	disk := crashfs.New()
	s, err := openOn(disk, c, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("t", topic.Spec{}); err != nil {
		t.Fatal(err)
	}
	before, after := 0, 0
	var cut func(disk *crashfs.FS, c *catalog, s *topic.Set, depth int)
	cut = func(disk *crashfs.FS, c *catalog, s *topic.Set, depth int) {
		disk.OnOp(nil, func(op crashfs.Op) {
			if depth == 2 || !op.Changes() || t.Failed() {
				return
			}
			left := disk.Clone(crashfs.CloneConfig{Keep: []int{0, 50, 100}[rnd.IntN(3)], Torn: 30, Rand: rnd})
			c2 := &catalog{entries: maps.Clone(c.entries)}
			s2, err := openOn(left, c2, int32(depth+2), time.Now)
			if err != nil {
				t.Errorf("depth %d, cut after %s: %v", depth, op, err)
				return
			}
			switch n := len(s2.Topic("t").Partitions()); n {
			case 1:
				before++
				cut(left, c2, s2, depth+1)
			case 3:
				after++
			default:
				t.Errorf("depth %d, cut after %s: %d partitions", depth, op, n)
			}
			if err := s2.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := s.AddPartitions("t", 3); err != nil {
			t.Errorf("depth %d: %v", depth, err)
		}
		disk.OnOp(nil, nil)
		if _, err := s.Append(context.Background(), record.TopicPartition{Topic: "t", Partition: 2}, batch(t, 0, "v")); err != nil {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
	cut(disk, c, s, 0)
	if err := s.Close(); err != nil || before == 0 {
		t.Errorf("close: %v; %d cuts before, %d after", err, before, after)
	}
}
