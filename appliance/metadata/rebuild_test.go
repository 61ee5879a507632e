package metadata_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

var (
	damageSeed = flag.Uint64("damage.seed", 1, "seed of the damage that is tried")
	damageFull = flag.Bool("damage.full", false, "flip every byte and cut at every byte, not a sample")
)

const propertiesName = "meta.properties"

// A file that is no store is kept beside the new one, byte for byte.
func TestOtherFilesAreSetAside(t *testing.T) {
	for what, write := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"text":    func(path string) error { return os.WriteFile(path, []byte("topics: []\n"), 0o600) },
		"zeros":   func(path string) error { return os.WriteFile(path, make([]byte, 65536), 0o600) },
		"a bbolt": otherBolt,
	} {
		path := filepath.Join(t.TempDir(), "metadata.db")
		must(t, write(path))
		was, err := os.ReadFile(path)
		must(t, err)
		s := open(t, path)
		r, now := s.Recovery()
		if r == nil || !now || r.From != metadata.FromFolders || !r.Pending || r.Reason == "" || r.Count != 1 {
			t.Fatalf("%s: recovery %+v, %v", what, r, now)
		}
		if kept, err := os.ReadFile(filepath.Join(filepath.Dir(path), r.Kept)); err != nil || !bytes.Equal(kept, was) {
			t.Errorf("%s: the file was not kept: %v", what, err)
		}
		must(t, s.Rebuilt())
		s = reopen(t, s, path)
		if r, now := s.Recovery(); r == nil || now || r.Pending {
			t.Errorf("%s: recovery at the next start: %+v, %v", what, r, now)
		}
	}
}

// otherBolt makes a valid bbolt file that is no store.
func otherBolt(path string) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("x"))
		return err
	})
}

// A store of a later version is whole: nobody touches it.
func TestNewerFormatIsRefused(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	must(t, s.SetFormat("2"))
	must(t, s.Close())
	_, err := metadata.Open(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "newer") {
		t.Fatalf("open of a newer format: %v", err)
	}
	if kept, _ := filepath.Glob(path + ".corrupt-*"); len(kept) != 0 {
		t.Errorf("it was set aside: %v", kept)
	}
}

// filled is a closed store with something in every table, and what it holds.
func filled(t *testing.T) (path, want string) {
	path = storePath(t)
	s := open(t, path)
	for i := range 40 {
		must(t, s.PutTopic(metadata.Topic{Name: fmt.Sprint("topic-", i), ID: [16]byte{byte(i)}, Partitions: int32(i + 1)}))
	}
	for i := range 9 {
		must(t, s.Bucket(fmt.Sprint("part-", i%3)).Put(fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 300)))
	}
	_, err := s.NextProducerID()
	must(t, err)
	// Without the copy bbolt would lose this change when its newer meta page is
	// damaged: it falls back to the one before, as after a torn write.
	must(t, s.PutTopic(metadata.Topic{Name: "last", Partitions: 1}))
	want = content(t, s)
	must(t, s.Close())
	return path, want
}

// files is a data directory with some files altered.
func files(t *testing.T, from string, alter map[string][]byte) (path string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{"metadata.db", metadata.CopyName, propertiesName} {
		b, ok := alter[name]
		if !ok {
			var err error
			b, err = os.ReadFile(filepath.Join(filepath.Dir(from), name))
			must(t, err)
		}
		if b != nil {
			must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
	}
	return filepath.Join(dir, "metadata.db")
}

// Whatever happens to the file, the store holds what was acknowledged.
func TestDamagedStoreIsRebuiltFromItsCopy(t *testing.T) {
	from, want := filled(t)
	rebuilt := 0
	damages(t, from, "metadata.db", 60, func(what string, bad []byte) {
		path := files(t, from, map[string][]byte{"metadata.db": bad})
		s, err := metadata.Open(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer s.Close()
		if got := content(t, s); got != want {
			t.Fatalf("%s: the content has changed\ngot  %.300s\nwant %.300s", what, got, want)
		}
		r, now := s.Recovery()
		if now != (r != nil) || now && (r.From != metadata.FromCopy || r.Pending) {
			t.Fatalf("%s: recovery %+v, %v", what, r, now)
		}
		if now {
			rebuilt++
		}
		if id, err := s.NextProducerID(); err != nil || id < 1000 {
			t.Fatalf("%s: producer id %d, %v: it was given out before", what, id, err)
		}
	})
	if rebuilt < 5 {
		t.Errorf("only %d damaged files were rebuilt", rebuilt)
	}
}

// damages calls try with the file missing, cut and with bits flipped.
func damages(t *testing.T, from, name string, sample int, try func(what string, bad []byte)) {
	good, err := os.ReadFile(filepath.Join(filepath.Dir(from), name))
	must(t, err)
	t.Logf("seed %d", *damageSeed)
	rnd := rand.New(rand.NewPCG(*damageSeed, 2))
	try(name+" missing", nil)
	flip := func(at int) {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << rnd.IntN(8)
		try(fmt.Sprintf("%s with byte %d flipped", name, at), bad)
	}
	cut := func(at int) { try(fmt.Sprintf("%s cut to %d bytes", name, at), good[:at:at]) }
	if *damageFull {
		for at := range good {
			flip(at)
			cut(at)
		}
		return
	}
	for _, at := range []int{24, os.Getpagesize() + 24} { // bbolt's meta pages, taken in turn
		flip(min(at, len(good)-1))
	}
	for i := range sample {
		if i%5 == 0 {
			cut(rnd.IntN(len(good)))
		} else {
			flip(rnd.IntN(len(good)))
		}
	}
}

// A damaged copy is noticed and written anew, as long as the store is whole.
func TestDamagedCopyIsWrittenAnew(t *testing.T) {
	from, want := filled(t)
	damages(t, from, metadata.CopyName, 20, func(what string, bad []byte) {
		path := files(t, from, map[string][]byte{metadata.CopyName: bad})
		s, err := metadata.Open(path)
		must(t, err)
		if got := content(t, s); got != want {
			t.Fatalf("%s: the content has changed", what)
		}
		if r, _ := s.Recovery(); r != nil || (s.CopyMended() == nil) != (bad == nil) {
			t.Fatalf("%s: recovery %+v, mended %v", what, r, s.CopyMended())
		}
		must(t, s.Close())
		must(t, os.Remove(path)) // the new copy is good
		s, err = metadata.Open(path)
		must(t, err)
		defer s.Close()
		if got := content(t, s); got != want {
			t.Fatalf("%s: the new copy has another content", what)
		}
	})
}

// With both gone the box still knows who it is, and says what it does not know.
func TestClusterIDOutlivesStoreAndCopy(t *testing.T) {
	from, want := filled(t)
	cluster := want[:22]
	for what, damage := range map[string][]byte{"missing": nil, "garbage": []byte("garbage")} {
		path := files(t, from, map[string][]byte{"metadata.db": damage, metadata.CopyName: damage})
		s := open(t, path)
		if r, now := s.Recovery(); !now || r.From != metadata.FromFolders || !r.Pending {
			t.Errorf("%s: recovery %+v, %v", what, r, now)
		}
		if s.ClusterID() != cluster {
			t.Errorf("%s: cluster id %s was %s", what, s.ClusterID(), cluster)
		}
		// Killed before the log was asked, the next start asks it.
		s = reopen(t, s, path)
		if r, now := s.Recovery(); !now || !r.Pending {
			t.Errorf("%s: recovery after a kill %+v, %v", what, r, now)
		}
	}
	damages(t, from, propertiesName, 20, func(what string, bad []byte) {
		path := files(t, from, map[string][]byte{"metadata.db": nil, metadata.CopyName: nil, propertiesName: bad})
		s, err := metadata.Open(path)
		must(t, err)
		defer s.Close()
		if s.ClusterID() == cluster {
			t.Fatalf("%s: it was trusted", what)
		}
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(path), propertiesName)); err != nil || metadata.ParseProperties(string(b)) != s.ClusterID() {
			t.Fatalf("%s: it says %q, %v afterwards", what, b, err)
		}
	})
}

func TestDamagedFilesKeptAreBounded(t *testing.T) {
	path := storePath(t)
	for i := range 12 {
		s := open(t, path)
		must(t, s.Close())
		must(t, os.WriteFile(path, fmt.Append(nil, i), 0o600))
	}
	s := open(t, path)
	if r, _ := s.Recovery(); r.Count != 12 {
		t.Errorf("recovery %+v, want the twelfth", r)
	}
	kept, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(kept) == 0 || len(kept) > 8 {
		t.Errorf("%d files kept, %v", len(kept), err)
	}
}

// A store that is behind its log goes on above what the log holds.
func TestRaise(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	if epoch, err := s.RaiseEpoch(70); err != nil || epoch <= 70 {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	before, err := s.NextEpoch()
	must(t, err)
	must(t, s.RaiseProducerIDs(5000))
	id, err := s.NextProducerID()
	if err != nil || id <= 5000 {
		t.Fatalf("producer id %d, %v", id, err)
	}
	s = reopen(t, s, path)
	must(t, s.RaiseProducerIDs(id))
	must(t, s.RaiseProducerIDs(1<<62+1)) // no store ever gave this out
	if next, err := s.NextProducerID(); err != nil || next <= id || next > id+1000 {
		t.Fatalf("producer id %d after %d, %v", next, id, err)
	}
	if epoch, err := s.NextEpoch(); err != nil || epoch != before+1 {
		t.Fatalf("epoch %d after %d, %v", epoch, before, err)
	}
}

// After every operation on the copy the power goes and takes the store with it:
// what was acknowledged is in the copy, and of what was not all or nothing.
func TestPowerCutWhileTheCopyIsReplaced(t *testing.T) {
	rnd := rand.New(rand.NewPCG(*damageSeed, 3))
	disk, path, cuts := crashfs.New(), storePath(t), 0
	acked, asked := 0, 0
	disk.OnOp(nil, func(op crashfs.Op) {
		if !op.Changes() || acked == 0 {
			return
		}
		for _, keep := range []int{0, 30, 70, 100} {
			cuts++
			left := disk.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd})
			for _, lost := range []bool{true, false} {
				if n := topicsAfter(t, path, left, lost); n != acked && n != asked {
					t.Fatalf("power cut after %s, keep %d, store lost %v: %d topics, %d were acknowledged", op, keep, lost, n, acked)
				}
			}
		}
	})
	s, err := metadata.OpenBeside(path, disk)
	must(t, err)
	defer s.Close()
	for i := range 6 {
		asked++
		must(t, s.PutTopic(metadata.Topic{Name: fmt.Sprint(i), Partitions: 1}))
		acked++
	}
	t.Logf("%d power cuts", cuts)
}

// topicsAfter counts the topics of a store whose file is lost, or of a copy of it.
func topicsAfter(t *testing.T, path string, beside *crashfs.FS, lost bool) int {
	t.Helper()
	copied := storePath(t)
	if !lost {
		copied = killed(t, path)
	}
	s, err := metadata.OpenBeside(copied, beside.Clone(crashfs.CloneConfig{}))
	must(t, err)
	defer s.Close()
	topics, err := s.Topics()
	must(t, err)
	return len(topics)
}

// A disk without room for the copy refuses the change, whole, and takes the next
// one when there is room. Any other failure ends all writing.
func TestCopyThatCannotBeWritten(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Create, crashfs.Write, crashfs.Sync, crashfs.Rename, crashfs.SyncDir} {
		for _, failure := range []error{syscall.ENOSPC, syscall.EIO} {
			disk, path := crashfs.New(), storePath(t)
			s, err := metadata.OpenBeside(path, disk)
			must(t, err)
			must(t, s.PutTopic(metadata.Topic{Name: "before", Partitions: 1}))
			told := false
			s.OnFailure(func(error) { told = true })
			disk.OnOp(func(op crashfs.Op) error {
				if op.Kind == kind {
					return failure
				}
				return nil
			}, nil)
			err = s.PutTopic(metadata.Topic{Name: "refused", Partitions: 1})
			disk.OnOp(nil, nil)
			full := failure == syscall.ENOSPC && kind != crashfs.Rename && kind != crashfs.SyncDir
			if err == nil || errors.Is(err, record.ErrDiskFull) != full || errors.Is(err, record.ErrStorage) == full {
				t.Fatalf("%v of %s: %v", failure, kind, err)
			}
			if told == full {
				t.Fatalf("%v of %s: told of a failure: %v", failure, kind, told)
			}
			err = s.PutTopic(metadata.Topic{Name: "after", Partitions: 1})
			if (err == nil) != full {
				t.Fatalf("%v of %s, the next change: %v", failure, kind, err)
			}
			if _, there, err := s.Topic("refused"); full && (there || err != nil) {
				t.Fatalf("%v of %s: the refused change is there: %v", failure, kind, err)
			}
			must(t, s.Close())
		}
	}
}

func FuzzDecodeCopy(f *testing.F) {
	dir := f.TempDir()
	s, err := metadata.Open(filepath.Join(dir, "metadata.db"))
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(s.PutTopic(metadata.Topic{Name: "t", Partitions: 1}), s.Bucket("b").Put("k", []byte("v")), s.Close()); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, metadata.CopyName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := metadata.DecodeCopy(b)
		if err == nil && !bytes.Equal(b, again) {
			t.Fatal("it reads as another copy than it is")
		}
	})
}

func FuzzParseProperties(f *testing.F) {
	f.Add("#crc32c=00000000\nversion=1\ncluster.id=x\nnode.id=1\n")
	f.Add("cluster.id=\n")
	f.Fuzz(func(t *testing.T, text string) { metadata.ParseProperties(text) })
}
