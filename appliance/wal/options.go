package wal

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// Limits and defaults. Each has an Options field.
const (
	DefaultFileBytes  = 16 << 20
	DefaultMaxFiles   = 8
	DefaultRoundBytes = 4 << 20

	// DefaultCrowdedRuns is about as many writes as take longer than a commit.
	DefaultCrowdedRuns = 64

	// DefaultOverlapBytes is about what takes as long to move as a sync does.
	DefaultOverlapBytes = 128 << 10

	minFileBytes = 64 << 10
)

// Options says where the log is and how it commits.
type Options struct {
	FS  vfs.FS
	Dir string

	// FileBytes is the size of one file of the ring; 0 means DefaultFileBytes.
	FileBytes int64
	// MaxFiles bounds the ring. When all files hold rounds that are not
	// checkpointed, appends wait for the checkpoint. 0 means DefaultMaxFiles.
	MaxFiles int
	// MayGrow reports whether there is room on the disk for another file; nil: always.
	// Where there is none the ring makes do with two files and more checkpoints. It
	// must not block.
	MayGrow func() bool
	// RoundBytes bounds a round, and four of them are the log's memory: one that fills,
	// one that is written, one that is synced and one that is applied. An appender that finds it full waits. 0 means DefaultRoundBytes.
	RoundBytes int
	// OverlapBytes is from which size on a round is written while the one before it is
	// synced. 0 means DefaultOverlapBytes.
	OverlapBytes int
	// CrowdedRuns is from how many runs of entries of one sink on, on the average
	// smaller than 16 KiB, a round is called crowded, see Context. 0 means
	// DefaultCrowdedRuns, less than 0 never.
	CrowdedRuns int
	// Linger is how long a round may wait for company, unless it has reached
	// LingerBytes or LingerWaiters, or the box has been idle. 0 commits at once.
	Linger        time.Duration
	LingerBytes   int
	LingerWaiters int
	// BlockLinger is how long a round that lingers may wait in all while it does not
	// fill a block of the disk (4 KiB), which wears out by blocks. 0 means Linger.
	BlockLinger time.Duration
	// Quarantine is the folder that keeps damaged bytes; "" means "quarantine" beside Dir.
	Quarantine string
	// Damaged is told by Open of what can no longer be read; nil: only the Log is.
	Damaged func(Damage)
	// Salvage takes what is left of a damaged round, see ring.salvage; nil: it is lost.
	Salvage func(entry []byte) error
	// Log receives what an operator should know; nil discards it.
	Log *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.FileBytes == 0 {
		o.FileBytes = DefaultFileBytes
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.RoundBytes == 0 {
		o.RoundBytes = int(min(DefaultRoundBytes, o.FileBytes/4))
	}
	if o.OverlapBytes == 0 {
		o.OverlapBytes = DefaultOverlapBytes
	}
	if o.CrowdedRuns == 0 {
		o.CrowdedRuns = DefaultCrowdedRuns
	}
	if o.LingerBytes == 0 {
		o.LingerBytes = 256 << 10
	}
	if o.LingerWaiters == 0 {
		o.LingerWaiters = 512
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FileBytes < minFileBytes || o.FileBytes%blockBytes != 0 {
		return o, fmt.Errorf("wal: file size %d: want a multiple of %d, at least %d", o.FileBytes, blockBytes, minFileBytes)
	}
	if o.MaxFiles < 2 {
		return o, fmt.Errorf("wal: %d files: the ring needs at least 2", o.MaxFiles)
	}
	if int64(o.RoundBytes) > o.FileBytes/2 {
		return o, fmt.Errorf("wal: round of %d bytes: at most half the file size, %d", o.RoundBytes, o.FileBytes/2)
	}
	return o, nil
}
