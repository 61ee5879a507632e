package topic_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/testbed/crashfs"
)

// A sync that fails for the cleaner stops the set, whatever it was of: nobody knows
// what is on the disk of what was written before. So does a write of what it keeps
// notes in. What cannot be read stops nothing.
func TestFailedSyncOfTheCleanerStopsTheSet(t *testing.T) {
	for _, c := range []struct {
		kind crashfs.Kind
		file string
	}{{crashfs.Sync, ".cleaned"}, {crashfs.Sync, "partition.state"}, {crashfs.Sync, "cleaner"}, {crashfs.Write, "partition.state"}, {crashfs.Write, "cleaner"}} {
		file := c.file
		t.Run(fmt.Sprint(c.kind, " of ", file), func(t *testing.T) {
			b, clock := newCompactBox(t)
			disk := b.fs.(*crashfs.FS)
			s := b.open()
			createWith(t, s, "t", compacted)
			newOracle(t, s, "t", clock.Now).append(400, 10)
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			hit := false
			disk.OnOp(func(op crashfs.Op) error {
				if op.Kind == c.kind && strings.Contains(op.Name, file) {
					hit = true
					return syscall.EIO
				}
				return nil
			}, nil)
			s.Compact()
			disk.OnOp(nil, nil)
			if !hit {
				t.Fatal("the cleaner did no such thing")
			}
			if err := s.Err(); !errors.Is(err, syscall.EIO) {
				t.Errorf("the set goes on: %v", err)
			}
		})
	}
}
