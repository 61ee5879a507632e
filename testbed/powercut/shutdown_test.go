//go:build linux

package powercut_test

import (
	"context"
	"testing"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/site"
)

// journals are the file systems with a shutdown ioctl and how they are mounted:
// with a journal that is written each second, as by default, and hardly ever.
var journals = []struct{ name, fsType, options string }{
	{"ext4-commit-1", "ext4", "commit=1"},
	{"ext4-commit-5", "ext4", "commit=5"},
	{"ext4-commit-1000", "ext4", "commit=1000"},
	{"xfs", "xfs", ""},
}

// The power goes while devices publish and producers write: whatever was not
// synced is gone, journal included. (btrfs has no such ioctl: see TestTornSectors.)
func TestPowerCut(t *testing.T) {
	for i, c := range journals {
		t.Run(c.name, func(t *testing.T) {
			needs(t, block.Missing(c.fsType))
			v := volume(t, c.fsType, c.options, block.ImageBytes)
			judge(t, options(t, v, seed(t), share(cuts(t), len(journals), i), cutPower(v)))
		})
	}
}

func cutPower(v *block.Volume) func(context.Context, *site.Site) error {
	return func(_ context.Context, s *site.Site) error {
		if err := v.Shutdown(); err != nil {
			return err
		}
		s.Kill()
		if err := v.Unmount(); err != nil {
			return err
		}
		return v.Recover()
	}
}
