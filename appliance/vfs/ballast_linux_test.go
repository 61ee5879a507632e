package vfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance/vfs"
)

// blocksOf is the bytes of the disk that a file takes.
func blocksOf(t *testing.T, f vfs.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.(vfs.Descriptor).Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * 512
}

// On a real disk the ballast takes real room, and its files still go by sendfile.
func TestBallastTakesRealRoom(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	b, err := vfs.NewBallast(fsys, "ballast", 8<<20)
	if err == nil {
		err = b.Grow(8 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f, err := b.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.(vfs.Descriptor); !ok {
		t.Error("a file of the operating system lost its descriptor")
	}
	big, err := b.Open("ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	if blocks := blocksOf(t, big); blocks < 8<<20 {
		t.Errorf("the ballast takes %d bytes of the disk", blocks)
	}
	if !b.Release(4<<20) || b.Held() != 4<<20 {
		t.Fatalf("holds %d", b.Held())
	}
	if blocks := blocksOf(t, big); blocks > 5<<20 {
		t.Errorf("the ballast still takes %d bytes of the disk", blocks)
	}
}
