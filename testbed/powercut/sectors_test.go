//go:build linux

package powercut_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/fusedisk"
	"github.com/weirmq/weir/testbed/site"
)

const (
	// maxDirtySectors is the most that a cut waits for; a commit round under this
	// load is some dozens, a checkpoint some hundreds.
	maxDirtySectors = 1024
	// cutWait is how long a cut waits for its number of dirty sectors.
	cutWait = 300 * time.Millisecond
)

// keeps are the shares of the cache that a cut may leave behind.
var keeps = []float64{0, 0.1, 0.5, 0.9, 1}

// torn is a volume on a disk with a volatile cache.
type torn struct {
	*block.Volume
	disk *fusedisk.Disk
	rng  *rand.Rand
	keep func() float64
}

func newTorn(t *testing.T, fsType, options string, seed uint64) *torn {
	t.Helper()
	dir := scratch(t)
	image := filepath.Join(dir, "image")
	if err := (&block.Volume{Type: fsType, Image: image}).Format(block.ImageBytes); err != nil {
		t.Fatal(err)
	}
	disk, err := fusedisk.New(image)
	if err != nil {
		t.Fatal(err)
	}
	path, unmount, err := disk.Mount(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	v := &block.Volume{Type: fsType, Image: path, Dir: filepath.Join(dir, "mnt"), Options: options}
	t.Cleanup(func() {
		if err := errors.Join(v.Unmount(), unmount(), disk.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := v.Mount(); err != nil {
		t.Fatal(err)
	}
	d := &torn{Volume: v, disk: disk, rng: newRand(seed)}
	d.keep = func() float64 { return keeps[d.rng.IntN(len(keeps))] }
	return d
}

// cut lets the power go while sectors are in the disk's cache: the number that it
// waits for is small as often as large.
func (d *torn) cut(_ context.Context, s *site.Site) error {
	dirty := int(math.Exp(d.rng.Float64() * math.Log(maxDirtySectors)))
	d.disk.Cut(d.rng, dirty, d.keep(), cutWait, d.Writeback)
	s.Kill()
	if err := d.Unmount(); err != nil {
		return err
	}
	d.disk.Power()
	return d.Recover()
}

// The power goes while the disk has sectors in its cache: a random subset of them
// survives, so that what was written last is torn and out of order.
func TestTornSectors(t *testing.T) {
	disks := []struct{ name, fsType, options string }{
		{"ext4", "ext4", "commit=1"},
		{"xfs", "xfs", ""},
		{"btrfs", "btrfs", "commit=1"},
	}
	var all fusedisk.Stats
	for i, c := range disks {
		t.Run(c.name, func(t *testing.T) {
			needs(t, block.Missing(c.fsType), fusedisk.Missing())
			n := seed(t)
			d := newTorn(t, c.fsType, c.options, n)
			judge(t, options(t, d.Volume, n, share(cuts(t), len(disks), i), d.cut))
			s := d.disk.Stats()
			t.Logf("%d cuts with %d dirty sectors in the cache (at most %d): %d kept, %d dropped; %d cuts did both; %d flushes of %d sectors written",
				s.Cuts, s.Dirty, s.MostDirty, s.Kept, s.Dropped, s.PartialDrops, s.Flushes, s.Written)
			all.Cuts += s.Cuts
			all.Dropped += s.Dropped
		})
	}
	if all.Cuts > 0 && all.Dropped == 0 {
		t.Errorf("%d cuts and no dirty sector was ever dropped: this run proved nothing", all.Cuts)
	}
}
