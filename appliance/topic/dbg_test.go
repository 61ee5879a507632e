package topic_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"math/rand/v2"

	"github.com/weirmq/weir/testbed/crashfs"
)

func TestDbg(t *testing.T) {
	if os.Getenv("DBG") == "" {
		t.Skip()
	}
	var at int
	fmt.Sscan(os.Getenv("DBG"), &at)
	w := newWorld(t, 0)
	failed := false
	var lines []string
	w.before = func(index int, op crashfs.Op) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if strings.HasPrefix(op.Name, "wal/") && op.Kind != crashfs.Size && op.Kind != crashfs.Read {
			lines = append(lines, fmt.Sprint(index, " ", op, " epoch ", w.epoch.Load()))
		}
		if index < at || failed {
			return nil
		}
		failed = true
		w.tolerant.Store(true)
		lines = append(lines, fmt.Sprint("FAIL ", index, " ", op))
		return fmt.Errorf("boom")
	}
	w.run()
	w.quiet.Store(true)
	disk, s := w.cut(func(d *crashfs.FS) *crashfs.FS { return d.Clone(crashfs.CloneConfig{Keep: 100, Rand: rand.New(rand.NewPCG(1, 2))}) })
	_, err := w.reopen(disk, s)
	fmt.Println(strings.Join(lines, "\n"))
	fmt.Println("ERR", err)
}
