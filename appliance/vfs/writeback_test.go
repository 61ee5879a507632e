package vfs_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// begun is a file that notes what is begun.
type begun struct {
	vfs.File
	pieces [][2]int64
}

func (b *begun) StartWriteback(from, n int64) error {
	b.pieces = append(b.pieces, [2]int64{from, n})
	return nil
}

const piece = 512 << 10

func TestWritebackKeepsToItsRate(t *testing.T) {
	now := time.Unix(0, 0)
	w := vfs.NewWriteback(10*piece, func() time.Time { return now })
	f := &begun{}
	at := int64(100)
	appended := func(end int64) { at = w.Appended(f, at, end) }

	appended(piece - 1) // too little, and no credit yet
	now = now.Add(time.Second / 10)
	appended(piece)
	if len(f.pieces) != 0 {
		t.Fatalf("%d bytes are begun: less than a piece is written", f.pieces)
	}
	appended(piece + 200) // one piece of credit
	appended(5 * piece)   // and none is left
	now = now.Add(time.Hour)
	appended(20 * piece) // no more than four are saved up
	now = now.Add(time.Second / 20)
	appended(21 * piece) // half a piece
	var sum int64
	next := int64(100)
	for _, p := range f.pieces {
		if p[0] != next || (p[0]+p[1])%4096 != 0 {
			t.Errorf("begun: %d bytes from %d on, want from %d on and to a page's end", p[1], p[0], next)
		}
		next, sum = p[0]+p[1], sum+p[1]
	}
	if next != at || len(f.pieces) != 2 || sum > 5*piece || sum < 5*piece-2*4096 {
		t.Errorf("begun: %v up to %d", f.pieces, at)
	}
}

func TestWritebackIsOptional(t *testing.T) {
	if w := vfs.NewWriteback(0, time.Now); w != nil {
		t.Error("a rate of 0 writes")
	} else if got := w.Appended(nil, 7, 1<<30); got != 7 {
		t.Errorf("nothing writes as far as %d", got)
	}
	now := time.Unix(0, 0)
	w := vfs.NewWriteback(piece, func() time.Time { return now })
	now = now.Add(time.Minute)
	if got := w.Appended(struct{ vfs.File }{}, 7, 1<<30); got != 7 {
		t.Errorf("a file that cannot is written as far as %d", got)
	}
}

// Wrapped or not, a file of the operating system can begin its writes.
func TestWritebackReachesTheFile(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	ballast, err := vfs.NewBallast(fsys, "ballast", 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, fsys := range map[string]vfs.FS{"plain": fsys, "ballast": ballast, "pool": vfs.NewPool(ballast, 2)} {
		f, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Repeat([]byte("weir"), piece/2)
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.(vfs.WritebackStarter).StartWriteback(0, piece); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if s, ok := f.(vfs.WritebackStarter); !ok || s.StartWriteback(0, piece) == nil {
			t.Errorf("%s: the closed file begins to write", name)
		}
	}
}
