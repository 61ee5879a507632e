//go:build linux

package powercut_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/site"
)

// The kernel finds an error in the file system and makes it read-only under the
// running process, which must acknowledge nothing more and end with an error. Once
// the file system is mended everything acked is there.
func TestReadOnlyRemount(t *testing.T) {
	needs(t, block.Missing("ext4"))
	n := seed(t)
	v := volume(t, "ext4", "errors=remount-ro", block.ImageBytes)
	o := options(t, v, n, max(3, cuts(t)/5), func(ctx context.Context, s *site.Site) error {
		struck := make(chan struct{})
		if err := v.Fail(); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(v.Dir, "probe"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
			return errors.Join(errors.New("the file system is not read-only"), err)
		}
		close(struck)
		if err := failStop(ctx, s, struck, false); err != nil {
			return err
		}
		// A supervisor starts it again, in vain: that must end with an error too.
		if err := s.Start(ctx); err == nil {
			s.Kill()
			return errors.New("weir started on a read-only file system")
		} else if !errors.Is(err, site.ErrExited) || s.ExitCode() <= 0 {
			return err
		}
		if err := v.Unmount(); err != nil {
			return err
		}
		if err := v.Repair(); err != nil {
			return err
		}
		return v.Mount()
	})
	o.RecoveryKills = -1
	judge(t, o)
}
