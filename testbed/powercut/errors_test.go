//go:build linux

package powercut_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/faultfs"
	"github.com/weirmq/weir/testbed/fusedisk"
	"github.com/weirmq/weir/testbed/site"
)

const (
	metTimeout  = 45 * time.Second // bounds how long a fault may take to be met
	failTimeout = 15 * time.Second // and then the process to end
)

// Patterns of names: a topic's identity before its rename, 22 characters of base64,
// and the folder of a deleted topic in the trash.
const (
	identities = "??????????????????????.tmp"
	trashed    = "[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-*"
)

// diskErrors are the calls that fail, each on every kind of file that must be durable.
var diskErrors = []faultfs.Fault{
	{Op: faultfs.Fsync, Name: "*.wal"}, {Op: faultfs.Write, Name: "*.wal"}, {Op: faultfs.Torn, Name: "*.wal"}, {Op: faultfs.Short, Name: "*.wal"},
	{Op: faultfs.Fsync, Name: "*.log"}, {Op: faultfs.Write, Name: "*.log"}, {Op: faultfs.Torn, Name: "*.log"}, {Op: faultfs.Short, Name: "*.log"},
	{Op: faultfs.Fsync, Name: "checkpoint*"}, {Op: faultfs.Write, Name: "checkpoint*"},
	{Op: faultfs.Fsync, Name: "partition.state*"}, {Op: faultfs.Write, Name: "partition.state*"},
	{Op: faultfs.Fsync, Name: "watermarks*"}, {Op: faultfs.Write, Name: "watermarks*"},
	{Op: faultfs.Fsync, Name: "metadata.db"}, {Op: faultfs.Write, Name: "metadata.db"},
	{Op: faultfs.Fsync, Name: "metadata.copy*"}, {Op: faultfs.Write, Name: "metadata.copy*"}, {Op: faultfs.Torn, Name: "metadata.copy*"},
	{Op: faultfs.Fsync, Name: identities}, {Op: faultfs.Write, Name: identities}, {Op: faultfs.Short, Name: identities},
	{Op: faultfs.Fsync, Name: "wal"}, {Op: faultfs.Fsync, Name: "topics"}, {Op: faultfs.Fsync, Name: "trash"}, // folders
	{Op: faultfs.Fsync, Name: "chaos-*"}, {Op: faultfs.Fsync, Name: trashed},
	{Op: faultfs.Fsync, Name: "data"},
}

// One call fails, once, and the next of its kind would succeed. The process may
// not go on with it: it ends, and the next one has everything acked. A short write
// whose rest is taken is no failure.
func TestDiskErrors(t *testing.T) {
	needs(t, fusedisk.Missing())
	n := seed(t)
	dir := scratch(t)
	f, unmount, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	rng := newRand(n)
	var order []int
	o := options(t, &block.Volume{Dir: filepath.Join(dir, "mnt")}, n, max(len(diskErrors), cuts(t)), func(ctx context.Context, s *site.Site) error {
		if len(order) == 0 {
			order = rng.Perm(len(diskErrors))
		}
		fault := diskErrors[order[0]]
		order = order[1:]
		fault.Skip = rng.IntN(4)
		if err := failStop(ctx, s, f.Arm(fault), fault.Op == faultfs.Short); err != nil {
			return fmt.Errorf("%s of %s: %w", fault.Op, fault.Name, err)
		}
		return nil
	})
	o.RecoveryKills = -1
	judge(t, o)
}

// failStop waits until the fault has struck and the process has ended by itself
// and with an error, or goes on if it is harmless.
func failStop(ctx context.Context, s *site.Site, struck <-chan struct{}, harmless bool) error {
	ctx, cancel := context.WithTimeout(ctx, metTimeout+failTimeout)
	defer cancel()
	go churnTopics(ctx, s)
	select {
	case <-struck:
	case <-time.After(metTimeout):
		return fmt.Errorf("the fault was not met within %v", metTimeout)
	}
	if harmless {
		select {
		case <-s.Exited():
			return fmt.Errorf("weir ended with code %d, a short write is no failure; its log:\n%s", s.ExitCode(), s.Output())
		case <-time.After(100 * time.Millisecond):
		}
		s.Kill()
		return nil
	}
	select {
	case <-s.Exited():
	case <-time.After(failTimeout):
		s.Stacks()
		return fmt.Errorf("weir goes on %v after the disk failed; its log:\n%s", failTimeout, s.Output())
	}
	if code := s.ExitCode(); code <= 0 {
		return fmt.Errorf("exit code %d after the disk failed, want one that says so; its log:\n%s", code, s.Output())
	}
	return nil
}

// churnTopics makes and deletes topics until ctx ends, so that metadata is written.
func churnTopics(ctx context.Context, s *site.Site) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.RequestRetries(0))
	if err != nil {
		return
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for ctx.Err() == nil {
		select {
		case <-s.Exited():
			return
		default:
		}
		_, _ = adm.CreateTopic(ctx, 1, 1, nil, "churn")
		_, _ = adm.DeleteTopic(ctx, "churn")
	}
}
