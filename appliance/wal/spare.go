package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

const (
	// preparedBytes is from which size on files are made ahead of their use: writing the
	// zeros of a smaller one delays nobody.
	preparedBytes = 2 << 20

	zeroBytes = 256 << 10 // written at once
	pacedZero = 1 << 20   // and synced, before a pause
	// pauses is how much longer than its writes the pauses of who prepares a file take
	// altogether: rounds are synced by the same disk meanwhile.
	pauses   = 4
	maxPause = 100 * time.Millisecond

	roomPause = 100 * time.Millisecond // before a file that had no room is tried again
)

// spare returns a file to write next, under its new number: recycled, or made
// while the ring may still grow, or waited for.
func (g *ring) spare() (*file, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.files) >= (g.opts.MaxFiles+1)/2 {
		g.wantCheckpoint()
	}
	for {
		for len(g.spares) == 0 && g.err == nil && (g.making || !g.mayGrow()) {
			if g.making {
				g.hurry.Store(true)
			} else {
				g.wantCheckpoint()
			}
			g.freed.Wait()
		}
		if g.err != nil {
			return nil, g.err
		}
		if n := len(g.spares); n > 0 {
			g.number++
			f := g.spares[n-1]
			g.spares = g.spares[:n-1]
			f.number = g.number
			return f, nil
		}
		f, err := g.create(g.number+1, false)
		if err == nil {
			g.number++
			return f, nil
		}
		if !vfs.Full(err) || errors.Is(err, vfs.ErrUnsynced) || len(g.files) < 2 {
			return nil, err
		}
		// The disk is fuller than it seemed: one of the others will do, or there is room soon.
		g.wantCheckpoint()
		soon := time.AfterFunc(roomPause, g.freed.Broadcast)
		g.freed.Wait()
		soon.Stop()
	}
}

// mayGrow reports whether the ring may have another file. Two it needs in any case:
// the one being written is never free.
func (g *ring) mayGrow() bool {
	n := len(g.files)
	return n < 2 || n < g.opts.MaxFiles && (g.opts.MayGrow == nil || g.opts.MayGrow())
}

// prepare begins to make the file that is written next, if there will be none: the
// committer would need as long for its zeros as for a whole file of rounds. Should
// that fail, it is the committer's to try again and to say so.
func (g *ring) prepare() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opts.FileBytes < preparedBytes || len(g.spares) > 0 || g.making || g.err != nil || !g.mayGrow() {
		return
	}
	g.making = true
	g.hurry.Store(false)
	number := g.number + 1 // there is no other file that is named and not in use
	g.made.Go(func() {
		f, err := g.create(number, true)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.making = false; err == nil {
			g.spares = append(g.spares, f)
		}
		g.freed.Broadcast()
	})
}

// create makes a file full of zeros: blocks that are allocated and written cost
// a small round least. It gets its name once it is whole, when it is taken into
// use, so one of that name that is shorter was cut off.
func (g *ring) create(number uint64, paced bool) (*file, error) {
	name := fileName(number) + newSuffix
	f, err := g.opts.FS.Create(g.path(name))
	if err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", name, err)
	}
	zeros := make([]byte, min(g.opts.FileBytes, zeroBytes))
	begun := time.Now()
	for at := int64(0); at < g.opts.FileBytes && err == nil; {
		var n int
		n, err = f.WriteAt(zeros[:min(int64(len(zeros)), g.opts.FileBytes-at)], at)
		if at += int64(n); err == nil && paced && at%pacedZero == 0 {
			if err = syncZeros(f); err == nil {
				err = g.pause(time.Since(begun))
			}
			begun = time.Now()
		}
	}
	if err == nil {
		err = syncZeros(f)
	}
	if err != nil {
		err = errors.Join(err, f.Close(), g.opts.FS.Remove(g.path(name)))
		return nil, fmt.Errorf("wal: zero %s: %w", name, err)
	}
	return &file{name: name, number: number, f: f}, nil
}

// syncZeros makes the zeros of a file durable.
func syncZeros(f vfs.File) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", vfs.ErrUnsynced, err)
	}
	return nil
}

// pause lets rounds have the disk for a while, unless one of them waits for the file.
// The error is why none will.
func (g *ring) pause(worked time.Duration) error {
	if !g.hurry.Load() {
		time.Sleep(min(pauses*worked, maxPause))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
