package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// How a segment takes the place of those it was made from, so that a power cut at
// any moment leaves all of them or it:
//
//		00000000000000000100.log.cleaned                  being written; removed at the next open
//		00000000000000000100-00000000000000000250.swap    whole and durable: stands for offsets 100 to 249
//		00000000000000000100.log                          in place
//
//	 1. The file is synced, renamed to .swap, and the folder synced. This decides.
//	 2. The segments of that range but the first, and the indexes of all, are
//	    removed, and the folder is synced: were they to come back once the .swap is
//	    gone, nothing would tell that they are superseded.
//	 3. The .swap takes the first one's name, and the folder is synced.
//
// Whoever finds a .swap goes on at 2. Doing so twice changes nothing.
const (
	cleanedSuffix = ".log.cleaned"
	swapSuffix    = ".swap"
)

func swapName(base, end int64) string { return fmt.Sprintf("%020d-%020d%s", base, end, swapSuffix) }

func parseSwapName(name string) (base, end int64, ok bool) {
	first, second, ok := strings.Cut(name, "-")
	if !ok {
		return 0, 0, false
	}
	base, ok1 := parseName(first, "")
	end, ok2 := parseName(second, swapSuffix)
	return base, end, ok1 && ok2 && base < end
}

// finishSwaps brings to its end what a crash interrupted, before anything in the
// folder is looked at. It costs a listing when there is nothing to do.
func finishSwaps(o Options) error {
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return fmt.Errorf("commitlog: list %s: %w", o.Dir, err)
	}
	for _, name := range names {
		if _, ok := parseName(name, cleanedSuffix); ok {
			if err := o.remove(name); err != nil {
				return err
			}
		}
		if base, end, ok := parseSwapName(name); ok {
			if err := finishSwap(o, names, base, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishSwap does steps 2 and 3. names is what is in the folder.
func finishSwap(o Options, names []string, base, end int64) error {
	for _, name := range names {
		first, ok := parseName(name, indexSuffix)
		if !ok {
			first, ok = parseName(name, timeSuffix)
		}
		if !ok {
			first, ok = parseName(name, logSuffix)
			ok = ok && first != base
		}
		if !ok || first < base || first >= end {
			continue
		}
		if err := o.remove(name); err != nil {
			return err
		}
	}
	if err := o.syncDir(); err != nil {
		return err
	}
	return o.rename(swapName(base, end), fileName(base, logSuffix))
}

func (o Options) remove(name string) error {
	if err := o.FS.Remove(o.Dir + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("commitlog: remove %s/%s: %w", o.Dir, name, err)
	}
	return nil
}

// rename renames a file and makes that durable.
func (o Options) rename(from, to string) error {
	if err := o.FS.Rename(o.Dir+"/"+from, o.Dir+"/"+to); err != nil {
		return fmt.Errorf("commitlog: rename %s/%s to %s: %w", o.Dir, from, to, err)
	}
	return o.syncDir()
}

func (o Options) syncDir() error {
	if err := o.FS.SyncDir(o.Dir); err != nil {
		return fmt.Errorf("%w: sync folder %s: %w", ErrNames, o.Dir, err)
	}
	return nil
}

// swap puts the file that was written and synced in the place of old, which are
// neighbours and sealed. An error after step 1 began leaves the log as it is in
// memory and what is on the disk to the next open; the log must not be cleaned
// again until then, as Log.swapping says.
func (l *Log) swap(old []*segment) error {
	base, end := old[0].base, old[len(old)-1].end.Load()
	for _, s := range old {
		if err := s.detach(); err != nil {
			return err
		}
	}
	l.swapping = true
	if err := l.opts.rename(fileName(base, cleanedSuffix), swapName(base, end)); err != nil {
		return err
	}
	names, err := l.opts.FS.List(l.opts.Dir)
	if err != nil {
		return fmt.Errorf("commitlog: list %s: %w", l.opts.Dir, err)
	}
	if err := finishSwap(l.opts, names, base, end); err != nil {
		return err
	}
	s, err := openSegment(l.opts, nil, base, old[len(old)-1].next)
	if err != nil {
		return err
	}
	l.replace(old, s)
	l.swapping = false
	return nil
}

// replace has readers find s instead of old. Those that are at old finish unharmed.
func (l *Log) replace(old []*segment, s *segment) {
	l.mu.Lock()
	var out []*segment
	for _, x := range l.segments {
		switch {
		case x == old[0]:
			out = append(out, s)
		case x.base > s.base && x.base <= old[len(old)-1].base:
		default:
			out = append(out, x)
		}
	}
	l.segments = out
	l.mu.Unlock()
	for _, x := range old {
		x.removed.Store(true)
		x.release()
	}
}

// detach makes a sealed segment independent of the names of its files, which are
// about to mean others: its file stays open until the last reader is gone, and its
// index is held in memory.
func (s *segment) detach() error {
	if err := s.load(); err != nil {
		return err
	}
	s.idxMu.Lock()
	defer s.idxMu.Unlock()
	if !s.detached {
		if _, err := s.pin(); err != nil {
			return fmt.Errorf("commitlog: open %s: %w", s.path(logSuffix), err)
		}
		s.detached = true
	}
	if s.idx.held {
		return nil // by a swap that failed
	}
	if err := s.idx.hold(); err != nil {
		return fmt.Errorf("commitlog: read the index of %s: %w", s.path(logSuffix), err)
	}
	return nil
}
