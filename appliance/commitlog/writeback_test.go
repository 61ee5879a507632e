package commitlog_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// noting is a disk that notes what of its files is written early.
type noting struct {
	vfs.FS
	begun [][2]int64
}

type notingFile struct {
	vfs.File
	on *noting
}

func (n *noting) Create(name string) (vfs.File, error) {
	f, err := n.FS.Create(name)
	return notingFile{f, n}, err
}

func (f notingFile) StartWriteback(from, n int64) error {
	f.on.begun = append(f.on.begun, [2]int64{from, n})
	return nil
}

// What is appended goes to the disk as time goes, once, and not again after a sync.
func TestBatchesAreWrittenAhead(t *testing.T) {
	disk := &noting{FS: vfs.OS(t.TempDir())}
	now := time.Unix(0, 0)
	o := commitlog.Options{FS: disk, Dir: "p", Writeback: vfs.NewWriteback(1<<30, func() time.Time { return now })}
	if err := disk.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := record.NewBatch(record.None, record.Record{Value: make([]byte, 300_000)})
	if err != nil {
		t.Fatal(err)
	}
	var at commitlog.Position
	write := func() {
		t.Helper()
		if err := l.Write(at, b); err != nil {
			t.Fatal(err)
		}
		at.Byte += int64(len(b))
		b.SetBaseOffset(b.NextOffset())
	}
	write()
	write()
	now = now.Add(time.Second)
	write() // 900,000 bytes are worth it
	page := at.Byte &^ 4095
	if want := [][2]int64{{0, page}}; !slices.Equal(disk.begun, want) {
		t.Fatalf("begun %v, want %v", disk.begun, want)
	}
	write()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	synced := at.Byte
	write()
	write()
	if n := len(disk.begun); n != 2 || disk.begun[1][0] != synced {
		t.Errorf("begun %v, want a second piece from %d on, behind what was synced", disk.begun, synced)
	}
}
