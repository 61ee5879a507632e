package topic

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// refusals are the errors of a disk that is well and has no room, and of a process
// that has reached a limit: what was asked for is undone and may be tried again.
var refusals = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}

// Fail stops the set for good: it accepts nothing more, Failed is closed and Err is
// err. It is for storage outside of the log that has failed.
func (s *Set) Fail(err error) { s.wal.Fail(err) }

// failStop judges the error of a change of the topics. Where the disk has failed the
// set fails with it: after a failed write or sync the page cache may show what the
// disk does not hold, so only a restart knows which topics there are. Any other
// error refuses the change, and the set goes on.
func (s *Set) failStop(err error) error {
	if !diskFailed(err) {
		if vfs.Full(err) && !errors.Is(err, record.ErrDiskFull) {
			return fmt.Errorf("%w: %w", record.ErrDiskFull, err)
		}
		return err
	}
	s.Fail(err)
	if errors.Is(err, record.ErrStorage) {
		return err
	}
	return fmt.Errorf("%w: %w", record.ErrStorage, err)
}

func diskFailed(err error) bool {
	if errors.Is(err, record.ErrDiskFull) || errors.Is(err, record.ErrClosed) {
		return false
	}
	var code syscall.Errno
	return errors.Is(err, record.ErrStorage) || errors.As(err, &code) && !slices.Contains(refusals, code)
}

// withdraw ends a change that err has stopped. Of one that is refused it takes back
// what was made of it on the disk, so that neither topics nor partitions come to life
// at the next start; when that fails the set does. Where the disk has failed all stays
// as it is: the change may be in force.
func (s *Set) withdraw(err error, entries []Entry, partitions []*Partition) error {
	errs := []error{s.failStop(err)}
	if diskFailed(err) {
		return errors.Join(append(errs, closeLogs(partitions))...)
	}
	for _, e := range entries {
		if err := s.opts.FS.Remove(topicsDir + "/" + identityFile(e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("topic: remove %s: %w", identityFile(e.Name), err))
		}
	}
	for _, p := range partitions {
		if p.log == nil {
			continue // its folder may be another's
		}
		errs = append(errs, p.log.Close())
		if err := s.opts.FS.RemoveAll(p.dir); err != nil {
			errs = append(errs, fmt.Errorf("topic: remove %s: %w", p.dir, err))
		}
	}
	errs = append(errs, s.syncTopics())
	if left := errors.Join(errs[1:]...); left != nil {
		s.Fail(left)
	}
	return errors.Join(errs...)
}

func closeLogs(ps []*Partition) (err error) {
	for _, p := range ps {
		if p.log != nil {
			err = errors.Join(err, p.log.Close())
		}
	}
	return err
}
