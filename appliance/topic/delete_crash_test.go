package topic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// doomed is a topic about to be deleted: of its partitions' records some stand in
// segments and some in the write-ahead log alone, and of the first the log start too.
type doomed struct {
	disk    *crashfs.FS
	catalog *fixedCatalog
	set     *topic.Set
	id      topic.ID
}

var doomedConfigs = map[string]string{"retention.ms": "123456"}

func newDoomed(t *testing.T) doomed {
	t.Helper()
	d := doomed{disk: crashfs.New(), catalog: &fixedCatalog{entries: map[string]topic.Entry{}}}
	var err error
	if d.set, err = openOn(d.disk, d.catalog, 1, time.Now); err != nil {
		t.Fatal(err)
	}
	d.id = create(t, d.set, "t", topic.Spec{Partitions: 2, Configs: doomedConfigs}).ID()
	put := func(n int) {
		for i := range int32(2) {
			v := fmt.Sprintf("%d of %d", n, i)
			if _, err := d.set.Append(context.Background(), record.TopicPartition{Topic: "t", Partition: i}, batch(t, record.None, v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0)
	put(1)
	if err := d.set.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	put(2)
	if _, err := d.set.Topic("t").Partitions()[0].DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	return d
}

// whole checks that the topic is as it was.
func (d doomed) whole(set *topic.Set) error {
	t := set.ByID(d.id)
	if t == nil {
		return errors.New("the topic is not there")
	}
	if !maps.Equal(t.Overrides(), doomedConfigs) || len(t.Partitions()) != 2 {
		return fmt.Errorf("the topic has %d partitions and the configs %v", len(t.Partitions()), t.Overrides())
	}
	for i, p := range t.Partitions() {
		there, err := readAll(set, p)
		if err != nil || len(there) != 2+i || there[2] != fmt.Sprintf("2 of %d", i) {
			return fmt.Errorf("partition %d starts at %d and holds %v, %w", i, p.LogStartOffset(), there, err)
		}
	}
	return nil
}

// after checks what a Delete has left on a disk: the topic as it was, or none, for good.
// Of a Delete that was acknowledged the trash holds the topic as it was.
func (d doomed) after(disk *crashfs.FS, entries map[string]topic.Entry, acknowledged bool) error {
	catalog := &fixedCatalog{entries: maps.Clone(entries)}
	set, err := openOn(disk, catalog, 2, time.Now)
	if err != nil {
		return err
	}
	there, soon := set.ByID(d.id) != nil, disk.Clone(crashfs.CloneConfig{})
	if there && acknowledged {
		err = errors.New("the topic was deleted and is back")
	} else if there {
		err = d.whole(set)
	}
	if err == nil && acknowledged {
		err = d.restored(disk.Clone(crashfs.CloneConfig{}))
	}
	if _, emptied := set.EmptyTrash(0); err == nil {
		err = emptied
	}
	if err = errors.Join(err, set.Close()); err != nil {
		return err
	}
	for when, left := range map[string]*crashfs.FS{"after a power cut at once": soon, "with the trash emptied": disk.Clone(crashfs.CloneConfig{}),
		"with the trash emptied and no catalog": disk.Clone(crashfs.CloneConfig{})} {
		entries := maps.Clone(catalog.entries)
		if strings.HasSuffix(when, "no catalog") {
			clear(entries)
		}
		set, err := openOn(left, &fixedCatalog{entries: entries}, 3, time.Now)
		if err != nil {
			return err
		}
		if again := set.ByID(d.id) != nil; again != there {
			err = fmt.Errorf("%s the topic is there at the next start: %v; it was: %v", when, again, there)
		} else if there {
			err = d.whole(set)
		}
		if err = errors.Join(err, set.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (d doomed) restored(disk *crashfs.FS) error {
	dir, inside, err := inTrash(disk, d.id)
	for _, name := range inside {
		err = errors.Join(err, disk.Rename(dir+"/"+name, "topics/"+name))
	}
	if err != nil {
		return err
	}
	set, err := openOn(disk, &fixedCatalog{entries: map[string]topic.Entry{}}, 3, time.Now)
	if err != nil {
		return err
	}
	if err := errors.Join(d.whole(set), set.Close()); err != nil {
		return fmt.Errorf("restored from the trash: %w", err)
	}
	return nil
}

// Wherever the power goes in a Delete, and whatever the disk keeps: the topic is there,
// with its configs and all its records, or it is gone and stays so.
func TestPowerCutInADelete(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 0))
	cuts := 0
	d := newDoomed(t)
	d.disk.OnOp(nil, func(op crashfs.Op) {
		if t.Failed() {
			return
		}
		for _, o := range crashfs.Outcomes(op, rnd) {
			for range 4 {
				cuts++
				if err := d.after(o.Of(d.disk, op, rnd), d.catalog.entries, false); err != nil {
					t.Errorf("cut after %s, %s: %v", op, o, err)
				}
			}
		}
	})
	err := d.set.Delete("t")
	d.disk.OnOp(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.after(d.disk.Clone(crashfs.CloneConfig{}), d.catalog.entries, true); err != nil {
		t.Errorf("after it: %v", err)
	}
	d.set.Close()
	t.Log(cuts, "cuts")
}

// Whatever operation of a Delete fails: the same, and what is deleted can be restored. A
// disk that has no room for anything but what is acknowledged already stops nothing.
func TestErrorAtEveryOperationOfADelete(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, code := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for at, reached := 0, true; reached && !t.Failed(); at++ {
			d := newDoomed(t)
			n, failed := 0, crashfs.Op{}
			reached = false
			d.disk.OnOp(func(op crashfs.Op) error {
				if n++; n != at+1 || code == syscall.ENOSPC && (!slices.Contains(takesRoom, op.Kind) || strings.HasPrefix(op.Name, "wal/") || strings.HasSuffix(op.Name, ".log")) {
					reached = reached || n > at
					return nil
				}
				reached, failed = true, op
				return code
			}, nil)
			err := d.set.Delete("t")
			d.disk.OnOp(nil, nil)
			acknowledged := err == nil
			for _, keep := range []int{0, 30, 70, 100} {
				disk := d.disk.Clone(crashfs.CloneConfig{Keep: keep, Rand: rnd})
				if err := d.after(disk, d.catalog.entries, acknowledged); err != nil {
					t.Errorf("%v in operation %d, %s, then %d %% kept: %v", code, at, failed, keep, err)
				}
			}
			if code == syscall.ENOSPC && !acknowledged && d.set.Topic("t") == nil {
				t.Errorf("a full disk in operation %d, %s: refused with %q, and the topic is gone", at, failed, err)
			}
			if code == syscall.ENOSPC && d.set.Err() != nil {
				t.Errorf("a full disk in operation %d, %s, stopped the set: %v", at, failed, d.set.Err())
			}
			d.set.Close()
		}
	}
}

var takesRoom = []crashfs.Kind{crashfs.Write, crashfs.Create, crashfs.MkdirAll, crashfs.Rename}

// A folder that could not be moved to the trash is there at the next start, whatever has
// the name by then, and the topic that has it keeps its own.
func TestWhatADeleteLeftIsCollected(t *testing.T) {
	for name, next := range map[string]func(s *topic.Set){
		"at the start":       nil,
		"when it is emptied": func(s *topic.Set) { _, _ = s.EmptyTrash(0) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoomed(t)
			d.disk.OnOp(func(op crashfs.Op) error {
				if op.Kind == crashfs.Rename && op.Name == "topics/t-1" {
					return syscall.ENOSPC
				}
				return nil
			}, nil)
			if err := d.set.Delete("t"); err != nil {
				t.Fatal(err)
			}
			d.disk.OnOp(nil, nil)
			id := create(t, d.set, "t", topic.Spec{Partitions: 1}).ID()
			appendTo(t, d.set, "t", "new")
			if next != nil {
				next(d.set)
			}
			d.set.Close()
			set, err := openOn(d.disk, d.catalog, 2, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			if folders, _ := d.disk.List("topics"); slices.Contains(folders, "t-1") {
				t.Errorf("topics holds %q", folders)
			}
			if got := values(t, set, record.TopicPartition{Topic: "t"}, 0); set.ByID(id) == nil || fmt.Sprint(got) != "[new]" {
				t.Errorf("the new topic holds %q", got)
			}
			_, inside, err := inTrash(d.disk, d.id)
			if next == nil && (err != nil || fmt.Sprint(inside) != "[t-0 t-1 t.topic]") {
				t.Errorf("the trash holds %q, %v", inside, err)
			}
		})
	}
}

// What is acknowledged while the topic is being deleted is in the trash, too.
func TestWhatIsAcknowledgedInADeleteIsKept(t *testing.T) {
	d := newDoomed(t)
	p := d.set.Topic("t").Partitions()[1]
	d.disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Rename && op.Name == "topics/t.topic" {
			if _, err := p.DeleteRecords(1); err != nil {
				t.Error(err)
			}
		}
		return nil
	}, nil)
	err := errors.Join(d.set.Delete("t"), d.set.Checkpoint()) // and the write-ahead log forgets
	d.disk.OnOp(nil, nil)
	left := d.disk.Clone(crashfs.CloneConfig{})
	dir, inside, listed := inTrash(left, d.id)
	if err = errors.Join(err, d.set.Close(), listed); err != nil {
		t.Fatal(err)
	}
	for _, name := range inside {
		if err := left.Rename(dir+"/"+name, "topics/"+name); err != nil {
			t.Fatal(err)
		}
	}
	set, err := openOn(left, &fixedCatalog{entries: map[string]topic.Entry{}}, 2, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if start := set.Topic("t").Partitions()[1].LogStartOffset(); start != 1 {
		t.Errorf("restored, the partition starts at %d", start)
	}
}
