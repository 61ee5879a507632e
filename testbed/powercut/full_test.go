//go:build linux

package powercut_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/site"
)

const (
	smallBytes   = 128 << 20 // of the file system
	smallMore    = 512 << 10 // for each cut: what the load leaves in the log
	reserveBytes = 4 << 20   // as configured
	maxLeave     = 1 << 20   // that the foreign file leaves free
	resumeTime   = 20 * time.Second
)

// servesFull says that weir lives on a full disk: it is not ended by ENOSPC, also
// not at its start, and serves reads. Without, it may end with an error and must be
// back, with everything acked, once there is room.
const servesFull = true

// Somebody else fills the file system while weir runs or starts, to the last byte
// or nearly. Rolls, checkpoints and new files of the write-ahead log happen many
// times a second, so that each of them meets it.
func TestDiskFull(t *testing.T) {
	for _, phase := range []struct {
		name string
		full func(*volumeFull, context.Context, *site.Site) error
	}{
		{"running", (*volumeFull).whileRunning},
		{"recovering", (*volumeFull).whileRecovering},
	} {
		t.Run(phase.name, func(t *testing.T) {
			needs(t, block.Missing("ext4"))
			n := seed(t)
			f := &volumeFull{Volume: volume(t, "ext4", "", smallBytes+int64(cuts(t))*smallMore), rng: newRand(n)}
			o := options(t, f.Volume, n, max(3, cuts(t)/5), func(ctx context.Context, s *site.Site) error { return phase.full(f, ctx, s) })
			o.RecoveryKills = -1
			judge(t, o)
			t.Logf("the disk was full %d times; weir ended %d times by it, %d of them at its start", f.filled, f.ended, f.endedAtStart)
		})
	}
}

type volumeFull struct {
	*block.Volume
	rng                         *rand.Rand
	filled, ended, endedAtStart int
}

// whileRunning fills the disk under a running weir, which must be there with all
// its services again when there is room.
func (f *volumeFull) whileRunning(ctx context.Context, s *site.Site) error {
	if err := errors.Join(whole(ctx, s), doom(ctx, s)); err != nil {
		return err
	}
	if err := f.fill(); err != nil {
		return err
	}
	select {
	case <-s.Exited():
		if err := f.endedByFull(s); err != nil {
			return err
		}
	case <-time.After(time.Duration(f.rng.Int64N(int64(1500 * time.Millisecond)))):
		if err := serves(ctx, s); err != nil && alive(s) {
			return fmt.Errorf("on a full disk: %w", err)
		}
	}
	return f.resume(ctx, s)
}

// whileRecovering kills weir, fills the disk and starts it.
func (f *volumeFull) whileRecovering(ctx context.Context, s *site.Site) error {
	if err := errors.Join(whole(ctx, s), doom(ctx, s)); err != nil {
		return err
	}
	s.Kill()
	if err := f.fill(); err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		if !errors.Is(err, site.ErrExited) || servesFull {
			return fmt.Errorf("start on a full disk: %w", err)
		}
		f.endedAtStart++
		if err := f.endedByFull(s); err != nil {
			return err
		}
	} else if err := serves(ctx, s); err != nil && (alive(s) || servesFull) {
		return fmt.Errorf("started on a full disk: %w", err)
	}
	return f.resume(ctx, s)
}

func (f *volumeFull) fill() error {
	f.filled++
	leave := int64(0)
	if f.rng.IntN(3) > 0 {
		leave = f.rng.Int64N(maxLeave)
	}
	return f.Fill(leave)
}

// endedByFull judges the end of a process on a full disk.
func (f *volumeFull) endedByFull(s *site.Site) error {
	f.ended++
	if code := s.ExitCode(); servesFull || code <= 0 {
		return fmt.Errorf("weir ended with code %d on a full disk; its log:\n%s", code, s.Output())
	}
	return nil
}

func alive(s *site.Site) bool {
	select {
	case <-s.Exited():
		return false
	default:
		return true
	}
}

// resume makes room and wants an append acknowledged: by itself where weir lives,
// after a start, as a supervisor does it, where it has ended.
func (f *volumeFull) resume(ctx context.Context, s *site.Site) error {
	if err := f.Drain(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resumeTime)
	defer cancel()
	for {
		if !alive(s) {
			if servesFull {
				return fmt.Errorf("weir ended on a full disk with code %d; its log:\n%s", s.ExitCode(), s.Output())
			}
			if err := s.Start(ctx); err != nil {
				return fmt.Errorf("start after room was made: %w", err)
			}
		}
		err := appends(ctx, s)
		if err == nil {
			s.Kill()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no append %v after room was made: %w; its log:\n%s", resumeTime, err, s.Output())
		}
	}
}

// whole waits until the reserve is taken from the disk, which is promised once
// there is room for it: without, nobody lives on a full disk.
func whole(ctx context.Context, s *site.Site) error {
	ctx, cancel := context.WithTimeout(ctx, resumeTime)
	defer cancel()
	for {
		held, err := s.Metric(ctx, "weir_disk_ballast_bytes")
		if err == nil && held == reserveBytes {
			return nil
		}
		select {
		case <-s.Exited():
			return fmt.Errorf("weir ended by itself with code %d; its log:\n%s", s.ExitCode(), s.Output())
		case <-ctx.Done():
			return fmt.Errorf("the reserve has %v of %d bytes after %v: %w; its log:\n%s", held, reserveBytes, resumeTime, err, s.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// appends gets a record of its own acknowledged.
func appends(ctx context.Context, s *site.Site) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.AllowAutoTopicCreation(),
		kgo.RecordDeliveryTimeout(time.Second), kgo.MetadataMinAge(20*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: "room", Value: []byte("there is room")}).FirstErr()
}

// serves reads the oldest record of each partition and the group's offsets, commits
// some and deletes a topic.
func serves(ctx context.Context, s *site.Site) error {
	ctx, cancel := context.WithTimeout(ctx, failTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics("chaos"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	if fetches := cl.PollFetches(ctx); fetches.NumRecords() == 0 {
		return errors.Join(errors.New("reads get nothing"), fetches.Err())
	}
	adm := kadm.NewClient(cl)
	if _, err := adm.FetchOffsets(ctx, "chaos-group"); err != nil {
		return fmt.Errorf("the group's offsets: %w", err)
	}
	var commit kadm.Offsets
	commit.AddOffset("chaos", 0, 1, -1)
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, deleted := adm.DeleteTopic(short, "doomed")
	err = errors.Join(adm.CommitAllOffsets(short, "full-group", commit), deleted)
	if err == nil {
		return nil
	}
	// They draw on the reserve. Of that the filler takes what was let go of while it
	// was at it, and then there may be nothing left to promise.
	held, err1 := s.Metric(ctx, "weir_disk_ballast_bytes")
	free, err2 := s.Metric(ctx, "weir_disk_free_bytes")
	if err1 != nil || err2 != nil || held+free > reserveBytes/2 {
		return fmt.Errorf("commit offsets, delete a topic: %w; %.0f bytes are free, the reserve holds %.0f", errors.Join(err, err1, err2), free, held)
	}
	return nil
}

// doom makes a topic that serves deletes.
func doom(ctx context.Context, s *site.Site) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "doomed")
	if errors.Is(err, kerr.TopicAlreadyExists) { // its delete did not go through
		return nil
	}
	return err
}
