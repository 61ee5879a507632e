package topic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

func appendTo(t *testing.T, s *topic.Set, name string, values ...string) {
	t.Helper()
	if _, err := s.Append(context.Background(), record.TopicPartition{Topic: name}, batch(t, record.None, values...)); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *topic.Set, name string, spec topic.Spec) *topic.Topic {
	t.Helper()
	made, err := s.Create(name, spec)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (b *box) list(dir string) []string {
	b.t.Helper()
	names, err := b.fs.List(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

// What is deleted stays in the trash for a day, apart from what comes after it
// under the same name.
func TestDeletedDataGoToTheTrash(t *testing.T) {
	b := newBox(t)
	now := time.UnixMilli(1_700_000_000_000)
	b.opts.Now = func() time.Time { return now }
	s := b.open()
	for i := range 3 {
		old := create(t, s, "t", topic.Spec{Partitions: 2})
		appendTo(t, s, "t", fmt.Sprint("old ", i))
		if err := s.Delete("t"); err != nil {
			t.Fatal(err)
		}
		if got := b.list("topics"); len(got) != 0 {
			t.Errorf("left in topics: %v", got)
		}
		var dir string
		for _, name := range b.list("trash") {
			if strings.HasSuffix(name, old.ID().String()) {
				dir = "trash/" + name
			}
		}
		if got := b.list(dir); !slices.Equal(got, []string{"t-0", "t-1", "t.topic"}) {
			t.Errorf("%s holds %v", dir, got)
		}
	}
	create(t, s, "t", topic.Spec{})
	if got := values(t, s, tp, 0); len(got) != 0 {
		t.Errorf("the new topic holds %q", got)
	}
	appendTo(t, s, "t", "new")
	now = now.Add(23 * time.Hour)
	if n, err := s.EmptyTrash(topic.DefaultTrashRetention); n != 0 || err != nil {
		t.Errorf("%d topics removed after 23 hours, %v", n, err)
	}
	now = now.Add(2 * time.Hour)
	if n, err := s.EmptyTrash(topic.DefaultTrashRetention); n != 3 || err != nil || len(b.list("trash")) != 0 {
		t.Errorf("%d topics removed after 25 hours, %v; left %v", n, err, b.list("trash"))
	}
	s.Close()
	s = b.open()
	if got := values(t, s, tp, 0); fmt.Sprint(got) != "[new]" {
		t.Errorf("the new topic holds %q", got)
	}
}

func TestTrashOfNoTimeRemovesAtOnce(t *testing.T) {
	b := newBox(t)
	b.opts.TrashRetention = -1
	s := b.open()
	create(t, s, "t", topic.Spec{Partitions: 3})
	appendTo(t, s, "t", "v")
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if got := append(b.list("topics"), b.list("trash")...); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// Moved back while nothing runs, a topic is what it was.
func TestTopicIsRestoredFromTheTrash(t *testing.T) {
	b := newBox(t)
	s := b.open()
	was := create(t, s, "t", topic.Spec{Configs: map[string]string{"retention.ms": "123456"}})
	if _, err := s.Append(context.Background(), tp, batch(t, record.None, "a", "b")); err != nil {
		t.Fatal(err) // not checkpointed: Delete must see to it
	}
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	dir := "trash/" + b.list("trash")[0]
	for _, name := range b.list(dir) {
		if err := b.fs.Rename(dir+"/"+name, "topics/"+name); err != nil {
			t.Fatal(err)
		}
	}
	s = b.open()
	again := s.Topic("t")
	if again == nil || again.ID() != was.ID() || again.Config("retention.ms") != "123456" || s.Adopted() != 1 {
		t.Fatalf("the topic is %+v, %d adopted", again, s.Adopted())
	}
	if got := values(t, s, tp, 0); fmt.Sprint(got) != "[a b]" {
		t.Errorf("it holds %q", got)
	}
}

// A power cut right after a delete takes nothing from the trash, neither what the
// write-ahead log alone held.
func TestTrashOutlivesAPowerCut(t *testing.T) {
	disk := crashfs.New()
	b := newBox(t)
	b.fs = disk
	s := b.open()
	create(t, s, "t", topic.Spec{})
	create(t, s, "other", topic.Spec{})
	if _, err := s.Append(context.Background(), tp, batch(t, record.None, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, "other", "checkpointed")
	disk = disk.Clone(crashfs.CloneConfig{})
	b.fs = disk
	dir := "trash/" + b.list("trash")[0]
	for _, name := range b.list(dir) {
		if err := disk.Rename(dir+"/"+name, "topics/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, b.open(), tp, 0); fmt.Sprint(got) != "[a b]" {
		t.Errorf("the restored topic holds %q", got)
	}
}

// forgetful is a box with three topics and a deleted one, closed.
func forgetful(t *testing.T) (b *box, want map[string]topic.ID) {
	b = newBox(t)
	s := b.open()
	want = map[string]topic.ID{}
	for _, name := range []string{"a", "with-dash-3", strings.Repeat("n", 249)} {
		made := create(t, s, name, topic.Spec{Partitions: 3, Configs: map[string]string{"retention.ms": "777000"}, Internal: name == "a"})
		appendTo(t, s, name, "of "+name)
		want[name] = made.ID()
	}
	create(t, s, "gone", topic.Spec{})
	appendTo(t, s, "gone", "x")
	if err := s.Delete("gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.AlterConfigs("with-dash-3", set("segment.bytes", "32768")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddPartitions("with-dash-3", 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b, want
}

func wantTopics(t *testing.T, s *topic.Set, want map[string]topic.ID) {
	t.Helper()
	got := map[string]topic.ID{}
	for _, one := range s.Topics() {
		got[one.Name()] = one.ID()
		if v := values(t, s, record.TopicPartition{Topic: one.Name()}, 0); fmt.Sprint(v) != "[of "+one.Name()+"]" {
			t.Errorf("%.20s holds %.80q", one.Name(), v)
		}
		for _, p := range one.Partitions() {
			if p.Err() != nil {
				t.Errorf("%.30s: %v", p.TopicPartition(), p.Err())
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("topics\ngot  %v\nwant %v", got, want)
	}
}

// A catalog that has forgotten everything is told by the folders, a stale one is
// put right, and in both a deleted topic stays deleted.
func TestTopicsOutliveTheCatalog(t *testing.T) {
	b, want := forgetful(t)
	for name, entries := range map[string]map[string]topic.Entry{
		"empty": {},
		"stale": {"gone": {Name: "gone", ID: topic.ID{1}, Partitions: 1}, "a": b.catalog.entries["a"]},
	} {
		t.Run(name, func(t *testing.T) {
			if e, ok := entries["gone"]; ok {
				id, _ := trashedID(b)
				e.ID = id
				entries["gone"] = e
			}
			b.catalog.entries = entries
			s := b.open()
			wantTopics(t, s, want)
			one := s.Topic("with-dash-3")
			if one.Config("retention.ms") != "777000" || one.Config("segment.bytes") != "32768" || len(one.Partitions()) != 5 || !s.Topic("a").Internal() {
				t.Errorf("with-dash-3: %v, %d partitions", one.Overrides(), len(one.Partitions()))
			}
			if len(b.catalog.entries) != len(want) {
				t.Errorf("the catalog was told %d topics, want %d", len(b.catalog.entries), len(want))
			}
			s.Close()
			if s = b.open(); s.Adopted() != 0 {
				t.Errorf("%d topics adopted at the next start", s.Adopted())
			}
			s.Close()
		})
	}
}

func trashedID(b *box) (id topic.ID, ok bool) {
	for _, name := range b.list("trash") {
		_, text, _ := strings.Cut(name, "-")
		return topic.ParseID(text)
	}
	return id, false
}

// With the identity gone too, partition.metadata still tells name, id and partitions.
func TestTopicsOutliveTheirIdentities(t *testing.T) {
	for what, damage := range map[string]func(b *box, file string) error{
		"missing": func(b *box, file string) error { return b.fs.Remove(file) },
		"damaged": func(b *box, file string) error {
			f, err := b.fs.Open(file)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 60)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(what, func(t *testing.T) {
			b, want := forgetful(t)
			for name := range want {
				if err := damage(b, "topics/"+name+".topic"); err != nil {
					t.Fatal(err)
				}
			}
			whole := maps.Clone(b.catalog.entries)
			s := b.open() // the catalog knows: they are written anew
			wantTopics(t, s, want)
			s.Close()
			for name := range want {
				if err := damage(b, "topics/"+name+".topic"); err != nil {
					t.Fatal(err)
				}
			}
			b.catalog.entries = map[string]topic.Entry{}
			s = b.open()
			wantTopics(t, s, want)
			for name, e := range whole {
				if got := len(s.Topic(name).Partitions()); got != int(e.Partitions) {
					t.Errorf("%.20s has %d partitions of %d", name, got, e.Partitions)
				}
			}
		})
	}
}

// The log tells the greatest epoch and producer id that it holds, also those that
// are in the write-ahead log alone, and goes on with the epoch it is given.
func TestRaiseIsToldWhatTheLogHolds(t *testing.T) {
	b := newBox(t)
	b.epoch = 40
	s := b.open()
	create(t, s, "t", topic.Spec{})
	for i, id := range []int64{17, 4711, 3} {
		one := batch(t, record.None, fmt.Sprint(i))
		one.SetProducer(id, 0, 0)
		if _, err := s.Append(context.Background(), tp, one); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()
	b.epoch = -1 // the metadata was lost
	told := 0
	b.opts.Raise = func(epoch int32, producerID int64) (int32, error) {
		if told++; epoch != 41 || producerID != 4711 {
			t.Errorf("told epoch %d and producer id %d", epoch, producerID)
		}
		return epoch + 1, nil
	}
	s = b.open()
	p, err := s.Partition(tp)
	if err != nil || told != 1 || p.LeaderEpoch() != 42 {
		t.Errorf("told %d times, epoch %d, %v", told, p.LeaderEpoch(), err)
	}
}

// Of several topics made at once each gets its own answer.
func TestCreateAll(t *testing.T) {
	b := newBox(t)
	b.opts.MaxPartitions = 10
	s := b.open()
	create(t, s, "there", topic.Spec{})
	topics, errs := s.CreateAll([]topic.New{
		{Name: "a", Spec: topic.Spec{Partitions: 4}}, {Name: "there"}, {Name: "b/c"},
		{Name: "many", Spec: topic.Spec{Partitions: 6}}, {Name: "b", Spec: topic.Spec{Partitions: 5}},
		{Name: "odd", Spec: topic.Spec{Configs: map[string]string{"x": "y"}}},
	})
	for i, want := range []error{nil, topic.ErrExists, topic.ErrInvalidName, topic.ErrInvalidPartitions, nil, topic.ErrInvalidConfig} {
		if !errors.Is(errs[i], want) || (topics[i] == nil) != (want != nil) {
			t.Errorf("topic %d: %v, %v; want %v", i, topics[i], errs[i], want)
		}
	}
	s.Close()
	b.catalog.entries = map[string]topic.Entry{}
	s = b.open()
	if n := len(s.Topics()); n != 3 || s.Adopted() != 3 {
		t.Errorf("%d topics after a start without a catalog, %d adopted", n, s.Adopted())
	}
}

func FuzzIdentity(f *testing.F) {
	good, err := topic.EncodeIdentity(topic.Entry{Name: "t", ID: topic.ID{1}, Partitions: 3, Configs: map[string]string{"retention.ms": "5"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("weir topic 1 crc32c=00000000\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := topic.DecodeIdentity(b)
		if err != nil {
			return
		}
		if again, err := topic.EncodeIdentity(e); err != nil || len(again) == 0 || e.Partitions < 1 || topic.CheckName(e.Name) != nil {
			t.Fatalf("%q reads as %+v, %v", b, e, err)
		}
	})
}

// roomy is a disk that says how much room it has.
type roomy struct {
	*crashfs.FS
	free atomic.Int64
}

func (d *roomy) Free() (free, total int64, err error) { return d.free.Load(), 1 << 40, nil }

// The trash goes by itself: after its time, and before that when the disk is full.
func TestTrashIsEmptiedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &roomy{FS: crashfs.New()}
		disk.free.Store(1 << 39)
		b := newBox(t)
		b.fs = disk
		s := b.open()
		defer s.Close()
		left := func(what string, want int) {
			t.Helper()
			if got := b.list("trash"); len(got) != want {
				t.Errorf("%s the trash holds %v", what, got)
			}
		}
		discard := func(name string) {
			create(t, s, name, topic.Spec{})
			if err := s.Delete(name); err != nil {
				t.Fatal(err)
			}
		}
		discard("a")
		time.Sleep(23 * time.Hour)
		left("after 23 hours", 1)
		time.Sleep(time.Hour + 2*time.Minute)
		left("after a day", 0)
		discard("b")
		time.Sleep(2 * time.Minute)
		left("with room on the disk", 1)
		disk.free.Store(1 << 20)
		time.Sleep(2 * time.Minute)
		left("with the disk full", 0)
	})
}
