package metadata_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
)

func TestClusterIDStays(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	id := s.ClusterID()
	if raw, err := base64.RawURLEncoding.DecodeString(id); err != nil || len(raw) != 16 || id[0] == '-' {
		t.Fatalf("cluster id %q: %v", id, err)
	}
	reopened := reopen(t, s, path)
	if got := reopened.ClusterID(); got != id {
		t.Fatalf("cluster id %q became %q", id, got)
	}
	if other := open(t, storePath(t)); other.ClusterID() == id {
		t.Fatal("two stores have one cluster id")
	}
}

func TestEpochGrows(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	for want := range int32(5) {
		if got, err := s.NextEpoch(); err != nil || got != want {
			t.Fatalf("NextEpoch = %d, %v; want %d", got, err, want)
		}
		s = reopen(t, s, path)
	}
}

func TestTopics(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	created := time.UnixMilli(1_700_000_000_123)
	a := metadata.Topic{Name: "a", ID: [16]byte{1, 2, 3}, Partitions: 3, Created: created}
	b := metadata.Topic{Name: "b", ID: [16]byte{15: 9}, Partitions: 1, Internal: true, Created: created,
		Configs: map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}}
	for _, topic := range []metadata.Topic{b, a} {
		must(t, s.PutTopic(topic))
	}
	wantTopics(t, s, a, b)
	a.Partitions, a.Configs = 4, map[string]string{"x": "y"}
	must(t, s.PutTopic(a))
	s = reopen(t, s, path)
	wantTopics(t, s, a, b)
	if got, ok, err := s.Topic("a"); err != nil || !ok || got.Partitions != 4 || !got.Created.Equal(created) {
		t.Errorf("topic a: %+v, %v, %v", got, ok, err)
	}
	must(t, s.DeleteTopic("b"))
	must(t, s.DeleteTopic("b"))
	if _, ok, err := s.Topic("b"); ok || err != nil {
		t.Errorf("topic b after its delete: %v, %v", ok, err)
	}
	s = reopen(t, s, path)
	wantTopics(t, s, a)
	if err := s.PutTopic(metadata.Topic{Name: "none"}); err == nil {
		t.Fatal("a topic without partitions was accepted")
	}
}

func TestBucket(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	plugins, users := s.Bucket("plugins"), s.Bucket("users")
	if _, ok, err := plugins.Get("x"); ok || err != nil {
		t.Fatalf("Get in a table that does not exist: %v, %v", ok, err)
	}
	if all, err := plugins.All(); len(all) != 0 || err != nil {
		t.Fatalf("All of a table that does not exist: %v, %v", all, err)
	}
	must(t, plugins.Delete("x"))
	must(t, plugins.Put("x", []byte("1")))
	must(t, plugins.PutAll(map[string][]byte{"y": {}, "x": []byte("2")}))
	must(t, users.Put("x", []byte("u")))
	s = reopen(t, s, path)
	plugins, users = s.Bucket("plugins"), s.Bucket("users")
	all, err := plugins.All()
	if err != nil || !reflect.DeepEqual(all, map[string][]byte{"x": []byte("2"), "y": {}}) {
		t.Fatalf("All = %q, %v", all, err)
	}
	if v, ok, err := plugins.Get("y"); len(v) != 0 || !ok || err != nil {
		t.Fatalf("an empty value: %q, %v, %v", v, ok, err)
	}
	must(t, plugins.Delete("x"))
	if v, ok, err := users.Get("x"); string(v) != "u" || !ok || err != nil {
		t.Fatalf("the other table's x: %q, %v, %v", v, ok, err)
	}
	reopen(t, s, path)
}

func TestBucketLimits(t *testing.T) {
	s := open(t, storePath(t))
	b := s.Bucket("b")
	if err := b.Put("", nil); err == nil {
		t.Error("an empty key was accepted")
	}
	if err := b.Put("k", make([]byte, metadata.MaxValueBytes+1)); err == nil {
		t.Error("a value over the limit was accepted")
	}
	must(t, b.Put("k", make([]byte, metadata.MaxValueBytes)))
}

// Of a store that is killed at any moment the file is left as it is: no producer
// id comes twice, whatever copy one starts from.
func TestProducerIDsAreNeverUsedTwice(t *testing.T) {
	path := storePath(t)
	seen := map[int64]bool{}
	for range 3 {
		s := open(t, path)
		for range 1500 {
			id, err := s.NextProducerID()
			must(t, err)
			if seen[id] {
				t.Fatalf("producer id %d given out twice", id)
			}
			seen[id] = true
		}
		path = killed(t, path)
	}
	if !seen[0] {
		t.Error("the first producer id is not 0")
	}
}

func TestWhatReturnedSurvivesAKill(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	for i := range 20 {
		name := fmt.Sprint("t", i)
		must(t, s.PutTopic(metadata.Topic{Name: name, Partitions: 1}))
		epoch, err := s.NextEpoch()
		must(t, err)
		left := open(t, killed(t, path))
		topics, err := left.Topics()
		must(t, err)
		if len(topics) != i+1 {
			t.Fatalf("%d topics survived, %d were put", len(topics), i+1)
		}
		if next, err := left.NextEpoch(); err != nil || next <= epoch {
			t.Fatalf("NextEpoch after a kill = %d, %v; %d was given out", next, err, epoch)
		}
		must(t, left.Close())
	}
}

func TestConcurrentUse(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	ids := make(chan int64, 400)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				if err := s.Bucket("b").Put(fmt.Sprint(i, j), []byte("v")); err != nil {
					t.Error(err)
				}
				for range 10 {
					id, err := s.NextProducerID()
					if err != nil {
						t.Error(err)
					}
					ids <- id
				}
				if _, err := s.Topics(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(ids)
	seen := map[int64]bool{}
	for id := range ids {
		seen[id] = true
	}
	if len(seen) != 400 {
		t.Fatalf("%d different producer ids of 400", len(seen))
	}
	s = reopen(t, s, path)
	if all, err := s.Bucket("b").All(); err != nil || len(all) != 40 {
		t.Fatalf("%d entries, %v; want 40", len(all), err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	_, err := metadata.Open(path)
	if !errors.Is(err, metadata.ErrInUse) || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Fatalf("second Open: %v; want ErrInUse and the directory", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	open(t, path)
}

func TestClosedStore(t *testing.T) {
	s := open(t, storePath(t))
	must(t, s.Close())
	_, topicsErr := s.Topics()
	_, epochErr := s.NextEpoch()
	_, idErr := s.NextProducerID()
	for i, err := range []error{topicsErr, epochErr, idErr, s.PutTopic(metadata.Topic{Name: "a", Partitions: 1})} {
		if !errors.Is(err, record.ErrClosed) {
			t.Errorf("call %d: %v, want ErrClosed", i, err)
		}
	}
}

// After a write that failed there is no other: what is on the disk is unknown.
func TestFailedWriteIsTheLast(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	must(t, s.Bucket("b").Put("before", []byte("x")))
	var failures []error
	fail := func(err error) { failures = append(failures, err) }
	s.OnFailure(fail)
	s.LimitSize(1)
	if err := s.Bucket("b").Put("big", make([]byte, metadata.MaxValueBytes)); !errors.Is(err, record.ErrStorage) {
		t.Fatalf("write to a full disk: %v, want ErrStorage", err)
	}
	s.LimitSize(0)
	if _, err := s.NextEpoch(); !errors.Is(err, record.ErrStorage) {
		t.Fatalf("write after a failed one: %v, want ErrStorage", err)
	}
	s.OnFailure(fail) // who comes late is told too
	if len(failures) != 2 || !errors.Is(failures[0], record.ErrStorage) || !errors.Is(failures[1], record.ErrStorage) {
		t.Fatalf("told of %v, want of one failure, twice", failures)
	}
	if _, ok, err := s.Bucket("b").Get("before"); !ok || err != nil {
		t.Fatalf("reads must go on: %v, %v", ok, err)
	}
	s = reopen(t, s, path)
	if _, err := s.NextEpoch(); err != nil {
		t.Fatalf("write after a restart: %v", err)
	}
	if all, err := s.Bucket("b").All(); err != nil || len(all) != 1 {
		t.Fatalf("entries after a restart: %d, %v; want the one that was acked", len(all), err)
	}
}

// A power cut while the store is made the first time leaves no half of it.
func TestLeftoverOfAnUnfinishedCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metadata.db")
	must(t, os.WriteFile(path+".new", []byte("half"), 0o600))
	open(t, path)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("leftover: %v", err)
	}
}

func content(t *testing.T, s *metadata.Store) string {
	t.Helper()
	topics, err := s.Topics()
	must(t, err)
	out := s.ClusterID() + fmt.Sprint(topics)
	for i := range 3 {
		all, err := s.Bucket(fmt.Sprint("part-", i)).All()
		must(t, err)
		out += fmt.Sprint(all)
	}
	return out
}

func storePath(t *testing.T) string { return filepath.Join(t.TempDir(), "data", "metadata.db") }

func open(t *testing.T, path string) *metadata.Store {
	t.Helper()
	s, err := metadata.Open(path)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t *testing.T, s *metadata.Store, path string) *metadata.Store {
	t.Helper()
	must(t, s.Close())
	return open(t, path)
}

// killed copies the file as a process killed now would leave it.
func killed(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	copied := storePath(t)
	must(t, os.Mkdir(filepath.Dir(copied), 0o700))
	must(t, os.WriteFile(copied, data, 0o600))
	return copied
}

func wantTopics(t *testing.T, s *metadata.Store, want ...metadata.Topic) {
	t.Helper()
	got, err := s.Topics()
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("topics\ngot  %+v\nwant %+v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
