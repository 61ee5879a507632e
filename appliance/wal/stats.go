package wal

import "sync/atomic"

// Stats counts since Open. Fields are atomics because metrics read them at will.
type Stats struct {
	Rounds, Syncs, Entries, PayloadBytes, WrittenBytes atomic.Uint64
}

// Stats returns the log's counters, live.
func (l *Log) Stats() *Stats { return &l.stats }
