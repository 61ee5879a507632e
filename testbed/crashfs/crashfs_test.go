package crashfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// durable is the disk when nothing that was not synced is left.
func durable(f *crashfs.FS) *crashfs.FS { return f.Clone(crashfs.CloneConfig{}) }

// killed is the disk when only the process died.
func killed(f *crashfs.FS) *crashfs.FS { return f.Clone(crashfs.CloneConfig{Keep: 100}) }

func TestUnsyncedNameVanishes(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	put(t, h, "bytes", 0)
	must(t, h.Sync())
	wantFiles(t, durable(f), "")
	wantFiles(t, killed(f), "a=bytes")
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "a=bytes")
}

func TestUnsyncedBytesVanish(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, f.SyncDir("."))
	put(t, h, "one", 0)
	wantFiles(t, durable(f), "a=")
	must(t, h.Sync())
	put(t, h, "two", 0)
	put(t, h, "three", 3)
	wantFiles(t, durable(f), "a=one")
	wantFiles(t, killed(f), "a=twothree")
	must(t, h.Truncate(1))
	wantFiles(t, durable(f), "a=one")
	must(t, h.Sync())
	wantFiles(t, durable(f), "a=t")
	must(t, h.Truncate(3))
	must(t, h.Sync())
	wantFiles(t, durable(f), "a=t\x00\x00")
}

func TestRenameWithoutSyncDir(t *testing.T) {
	f := crashfs.New()
	for name, text := range map[string]string{"a": "new", "b": "old"} {
		h := create(t, f, name)
		put(t, h, text, 0)
		must(t, h.Sync())
	}
	must(t, f.SyncDir(""))
	must(t, f.Rename("a", "b"))
	wantFiles(t, f, "b=new")
	wantFiles(t, durable(f), "a=new b=old")
	// Both names change together or not at all.
	seen := map[string]bool{}
	for seed := range uint64(50) {
		seen[files(t, f.Clone(crashfs.CloneConfig{Keep: 50, Rand: seeded(seed)}))] = true
	}
	if len(seen) != 2 || !seen["a=new b=old"] || !seen["b=new"] {
		t.Fatalf("a power cut leaves %v", seen)
	}
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "b=new")
}

func TestRenameBetweenFoldersNeedsBothSynced(t *testing.T) {
	f := crashfs.New()
	must(t, f.MkdirAll("x"))
	must(t, f.MkdirAll("y"))
	must(t, create(t, f, "x/a").Sync())
	must(t, f.SyncDir("x"))
	must(t, f.SyncDir(""))
	must(t, f.Rename("x/a", "y/a"))
	must(t, f.SyncDir("y"))
	wantFiles(t, durable(f), "x/a= y/a=")
	must(t, f.SyncDir("x"))
	wantFiles(t, durable(f), "y/a=")
}

func TestRenamedBytesNeedSync(t *testing.T) {
	f := crashfs.New()
	put(t, create(t, f, "a"), "bytes", 0)
	must(t, f.Rename("a", "b"))
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "b=")
}

func TestFoldersNeedTheirParentsSynced(t *testing.T) {
	f := crashfs.New()
	must(t, f.MkdirAll("x/y"))
	must(t, create(t, f, "x/y/a").Sync())
	must(t, f.SyncDir("x/y"))
	must(t, f.SyncDir("x"))
	wantFiles(t, durable(f), "")
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "x/y/a=")
}

func TestRemoveNeedsSyncDir(t *testing.T) {
	f := crashfs.New()
	must(t, f.MkdirAll("x"))
	for _, name := range []string{"x/a", "x/b", "c"} {
		must(t, create(t, f, name).Sync())
	}
	must(t, f.SyncDir("x"))
	must(t, f.SyncDir(""))
	must(t, f.RemoveAll("x"))
	must(t, f.Remove("c"))
	wantFiles(t, f, "")
	wantFiles(t, durable(f), "c= x/a= x/b=")
	seen := map[string]bool{}
	for seed := range uint64(200) {
		seen[files(t, f.Clone(crashfs.CloneConfig{Keep: 50, Rand: seeded(seed)}))] = true
	}
	if !seen["x/a="] {
		t.Fatalf("no power cut left the folder half removed: %v", seen)
	}
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "")
}

func TestRemovedFileStaysReadable(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	put(t, h, "bytes", 0)
	must(t, f.Remove("a"))
	got := make([]byte, 5)
	if _, err := h.ReadAt(got, 0); err != nil || string(got) != "bytes" {
		t.Fatalf("ReadAt = %q, %v", got, err)
	}
}

func TestFailedSyncIsNotRepairedByTheNext(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, f.SyncDir(""))
	put(t, h, "lost", 0)
	failOnce(f, crashfs.Sync, syscall.EIO)
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync = %v, want EIO", err)
	}
	must(t, h.Sync())
	wantFiles(t, durable(f), "a=")
	wantFiles(t, f, "a=lost") // the page cache still has it
	put(t, h, "kept", blockLen)
	must(t, h.Sync())
	wantFiles(t, durable(f), "a="+strings.Repeat("\x00", blockLen)+"kept")
	k := f.Killed()
	h, err := k.Open("a")
	must(t, err)
	put(t, h, "lost", 0) // written again, it is synced again
	must(t, h.Sync())
	if got := files(t, durable(k))[2:6]; got != "lost" {
		t.Fatalf("written again: %q", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(20) {
		seen[files(t, f.Clone(crashfs.CloneConfig{Keep: 50, Rand: seeded(seed)}))[2:6]] = true
	}
	if !seen["lost"] || !seen["\x00\x00\x00\x00"] {
		t.Fatalf("bytes of a failed sync must be kept or lost by chance: %v", seen)
	}
}

func TestSizeOfAFailedSyncComesWithTheBlock(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, f.SyncDir(""))
	put(t, h, "te", 0)
	put(t, h, "xt", 2)
	failOnce(f, crashfs.Sync, syscall.EIO)
	if h.Sync() == nil {
		t.Fatal("Sync did not fail")
	}
	put(t, h, "te", 0)
	must(t, h.Sync())
	wantFiles(t, durable(f), "a=text")
	wantFiles(t, killed(f), "a=text")
}

func TestFailedSyncDir(t *testing.T) {
	f := crashfs.New()
	create(t, f, "a")
	failOnce(f, crashfs.SyncDir, syscall.EIO)
	if err := f.SyncDir(""); !errors.Is(err, syscall.EIO) {
		t.Fatalf("SyncDir = %v, want EIO", err)
	}
	wantFiles(t, durable(f), "")
	must(t, f.SyncDir(""))
	wantFiles(t, durable(f), "a=")
}

func TestBlocksAreKeptOneByOne(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, h.Truncate(3*blockLen))
	must(t, h.Sync())
	must(t, f.SyncDir(""))
	put(t, h, strings.Repeat("x", 3*blockLen), 0)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		text := files(t, f.Clone(crashfs.CloneConfig{Keep: 50, Rand: seeded(seed)}))[2:]
		var kept string
		for i := 0; i < len(text); i += blockLen {
			switch block := text[i : i+blockLen]; block {
			case strings.Repeat("x", blockLen):
				kept += "x"
			case strings.Repeat("\x00", blockLen):
				kept += "-"
			default:
				t.Fatal("a block is torn although Torn is 0")
			}
		}
		seen[kept] = true
	}
	if len(seen) != 8 {
		t.Fatalf("%d of the 8 outcomes seen: %v", len(seen), seen)
	}
}

func TestTornBlockIsTornAtSectors(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, h.Truncate(blockLen))
	must(t, h.Sync())
	must(t, f.SyncDir(""))
	put(t, h, strings.Repeat("x", blockLen), 0)
	text := files(t, f.Clone(crashfs.CloneConfig{Keep: 100, Torn: 100, Rand: seeded(1)}))[2:]
	sectors := map[string]int{}
	for i := 0; i < len(text); i += 512 {
		sectors[text[i:i+512]]++
	}
	if len(sectors) != 2 || sectors[strings.Repeat("x", 512)] == 0 {
		t.Fatalf("torn block has %d kinds of sectors", len(sectors))
	}
}

// A block written twice may have reached the disk in between.
// A cut inside the newest write leaves a prefix of it, whatever becomes of the rest.
func TestCutInsideTheNewestWrite(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, f.SyncDir(""))
	put(t, h, "durable", 0)
	must(t, h.Sync())
	put(t, h, "BEFORE", 1)
	put(t, h, "newest write", 4)
	inside := func(keep, prefix int) *crashfs.FS {
		return f.Clone(crashfs.CloneConfig{Keep: keep, Write: "a", Prefix: prefix})
	}
	wantFiles(t, inside(0, 0), "a=durable")
	wantFiles(t, inside(0, 3), "a=duranew")
	wantFiles(t, inside(0, 6), "a=duranewest")
	wantFiles(t, inside(100, 6), "a=dBEFnewest")
	wantFiles(t, inside(100, 99), "a=dBEFnewest write")
	wantFiles(t, killed(inside(0, 6)), "a=duranewest")
	must(t, h.Sync())
	wantFiles(t, inside(0, 0), "a=dBEFnewest write")
	put(t, h, string(bytes.Repeat([]byte("x"), 5000)), 4000)
	must(t, h.Truncate(5))
	wantFiles(t, inside(100, 0), "a=dBEFn")
}

func TestOlderVersionOfABlockMaySurvive(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	must(t, f.SyncDir(""))
	put(t, h, "one", 0)
	put(t, h, "two", 3)
	seen := map[string]bool{}
	for seed := range uint64(100) {
		seen[files(t, f.Clone(crashfs.CloneConfig{Keep: 50, Rand: seeded(seed)}))] = true
	}
	for _, want := range []string{"a=", "a=one", "a=onetwo", "a=one\x00\x00\x00", "a=\x00\x00\x00"} {
		if !seen[want] {
			t.Errorf("no power cut left %q; seen %v", want, seen)
		}
	}
}

// After a mere kill the page cache is still there, and still not durable.
func TestKilledThenPowerCut(t *testing.T) {
	f := crashfs.New()
	must(t, f.MkdirAll("x"))
	must(t, f.SyncDir(""))
	h := create(t, f, "x/a")
	put(t, h, "one", 0)
	must(t, h.Sync())
	must(t, f.SyncDir("x"))
	put(t, h, "two", 0)
	create(t, f, "x/b")
	k := f.Killed()
	put(t, h, "three", 0) // the original's alone
	must(t, f.Remove("x/b"))
	wantFiles(t, k, "x/a=two x/b=")
	wantFiles(t, durable(k), "x/a=one")
	h, err := k.Open("x/a")
	must(t, err)
	must(t, h.Sync())
	must(t, k.SyncDir("x"))
	wantFiles(t, durable(k), "x/a=two x/b=")
	wantFiles(t, durable(f), "x/a=one")
}

func TestShortWrite(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	f.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write {
			return crashfs.ShortWrite{Len: 2, Err: syscall.ENOSPC}
		}
		return nil
	}, nil)
	n, err := h.WriteAt([]byte("bytes"), 0)
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("WriteAt = %d, %v; want 2, ENOSPC", n, err)
	}
	wantFiles(t, f, "a=by")
}

func TestHooksSeeEveryOperation(t *testing.T) {
	f := crashfs.New()
	var before, after []string
	f.OnOp(func(op crashfs.Op) error {
		before = append(before, op.String())
		return nil
	}, func(op crashfs.Op) {
		after = append(after, op.String())
		f.Clone(crashfs.CloneConfig{}) // must not deadlock
	})
	must(t, f.MkdirAll("x"))
	h := create(t, f, "x/a")
	put(t, h, "bytes", 1)
	must(t, h.Truncate(2))
	must(t, h.Sync())
	must(t, f.Rename("x/a", "x/b"))
	must(t, f.SyncDir("x"))
	must(t, f.Remove("x/b"))
	must(t, f.RemoveAll("x"))
	want := []string{"#0 mkdirall x", "#1 create x/a", "#2 write x/a @1+5", "#3 truncate x/a to 2", "#4 sync x/a",
		"#5 rename x/a to x/b", "#6 syncdir x", "#7 remove x/b", "#8 removeall x"}
	if !slices.Equal(before, want) || !slices.Equal(after, want) {
		t.Fatalf("before %q\nafter  %q\nwant   %q", before, after, want)
	}
}

func TestEveryOperationCanFail(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	f.OnOp(func(op crashfs.Op) error { return syscall.EIO }, nil)
	_, createErr := f.Create("b")
	_, openErr := f.Open("a")
	_, listErr := f.List("")
	_, readErr := h.ReadAt(make([]byte, 1), 0)
	_, writeErr := h.WriteAt([]byte("x"), 0)
	_, sizeErr := h.Size()
	for i, err := range []error{createErr, openErr, listErr, readErr, writeErr, sizeErr, h.Truncate(1), h.Sync(),
		f.Rename("a", "b"), f.Remove("a"), f.RemoveAll("a"), f.MkdirAll("x"), f.SyncDir("")} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: %v, want EIO", i, err)
		}
	}
	f.OnOp(nil, nil)
	wantFiles(t, f, "a=")
}

func TestClosedHandle(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a")
	if f.OpenFiles() != 1 {
		t.Fatal("an open file is not counted")
	}
	must(t, h.Close())
	if err := h.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Sync of a closed file: %v", err)
	}
	if f.OpenFiles() != 0 {
		t.Fatal("a closed file is counted")
	}
}

// The same random operations on crashfs and on the real file system give the same
// results, and a clone that keeps everything shows the same files.
func TestSameAsTheOperatingSystem(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			mem, disk := crashfs.New(), vfs.OS(t.TempDir())
			a, b := seeded(seed), seeded(seed)
			for i := range 300 {
				got, want := randomOp(mem, a), randomOp(disk, b)
				if got != want {
					t.Fatalf("operation %d: %s on crashfs, %s on the real one", i, got, want)
				}
			}
			if got, want := files(t, mem), files(t, disk); got != want {
				t.Fatalf("files differ\ngot  %q\nwant %q", got, want)
			}
			if got, want := files(t, killed(mem)), files(t, disk); got != want {
				t.Fatalf("files of the clone differ\ngot  %q\nwant %q", got, want)
			}
			if n := mem.OpenFiles(); n != 0 {
				t.Fatalf("%d files open", n)
			}
		})
	}
}

func randomOp(f vfs.FS, r *rand.Rand) string {
	names := []string{"a", "b", "x", "x/a", "x/b", "x/y", "x/y/a"}
	name, other := names[r.IntN(len(names))], names[r.IntN(len(names))]
	n, off := r.IntN(3*blockLen), int64(r.IntN(3*blockLen))
	op := r.IntN(11)
	var err error
	switch op {
	case 0:
		err = f.Remove(name)
	case 1:
		err = f.Rename(name, other)
	case 2:
		err = f.SyncDir("")
	case 3:
		err = f.RemoveAll(name)
	case 4:
		err = f.MkdirAll(name)
	case 5:
		var got []string
		got, err = f.List("x")
		name = fmt.Sprint(got)
	default:
		err = withFile(f, name, func(h vfs.File) error {
			if op < 8 {
				return h.Truncate(off)
			}
			if _, err := h.WriteAt(bytes.Repeat([]byte{byte(n)}, n), off); err != nil {
				return err
			}
			return h.Sync()
		})
	}
	result := "ok"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		result = "not exist"
	case err != nil:
		result = "error"
	}
	return fmt.Sprintf("op %d %s %s %d %d: %s", op, name, other, n, off, result)
}

func withFile(f vfs.FS, name string, do func(vfs.File) error) error {
	h, err := f.Create(name)
	if errors.Is(err, fs.ErrExist) {
		h, err = f.Open(name)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.Close())
}

const blockLen = 4096

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func failOnce(f *crashfs.FS, kind crashfs.Kind, err error) {
	f.OnOp(func(op crashfs.Op) error {
		if op.Kind != kind {
			return nil
		}
		f.OnOp(nil, nil)
		return err
	}, nil)
}

func create(t *testing.T, f vfs.FS, name string) vfs.File {
	t.Helper()
	h, err := f.Create(name)
	must(t, err)
	return h
}

func put(t *testing.T, h vfs.File, text string, off int64) {
	t.Helper()
	_, err := h.WriteAt([]byte(text), off)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantFiles(t *testing.T, f vfs.FS, want string) {
	t.Helper()
	if got := files(t, f); got != want {
		t.Fatalf("files are %q, want %q", got, want)
	}
}

// files lists all files with their bytes: "a=bytes x/b=".
func files(t *testing.T, f vfs.FS) string {
	t.Helper()
	var out []string
	var walk func(dir string)
	walk = func(dir string) {
		names, err := f.List(dir)
		must(t, err)
		for _, name := range names {
			name = strings.TrimPrefix(dir+"/"+name, "/")
			h, err := f.Open(name)
			if err != nil {
				walk(name)
				continue
			}
			size, err := h.Size()
			must(t, err)
			data, err := io.ReadAll(io.NewSectionReader(h, 0, size))
			must(t, err)
			must(t, h.Close())
			out = append(out, name+"="+string(data))
		}
	}
	walk("")
	slices.Sort(out)
	return strings.Join(out, " ")
}
