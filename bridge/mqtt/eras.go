package mqtt

import (
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/record"
)

// eras says what the records of a partition are to MQTT: from an offset on the messages
// of the downlink that came into force there, or, where that is nil, what came in by MQTT.
// So a change holds for the records written after it, and a session that is behind, or is
// sent a message again, gets it as it was meant when it was written.
type eras struct {
	mapped atomic.Bool // a downlink is in force, or was

	mu   sync.RWMutex
	list []era        // by from; what comes before the first is the first's, too
	seen atomic.Int64 // one more than the greatest offset that was asked for
	kept bool         // a keeper follows the partition
}

type era struct {
	from int64
	down *Downlink
}

// maxEras is how many changes of one downlink are remembered. Of more the oldest is
// forgotten: what is as old as that goes by the settings that came next.
const maxEras = 16

// at returns the downlink of a record, nil if none.
func (e *eras) at(offset int64) *Downlink {
	if !e.mapped.Load() {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for old := e.seen.Load(); old <= offset && !e.seen.CompareAndSwap(old, offset+1); old = e.seen.Load() {
	}
	for i := len(e.list) - 1; i > 0; i-- {
		if offset >= e.list[i].from {
			return e.list[i].down
		}
	}
	return e.list[0].down
}

// latest returns the downlink of the records to come.
func (e *eras) latest() *Downlink {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.last().down
}

func (e *eras) last() era {
	if len(e.list) == 0 {
		return era{}
	}
	return e.list[len(e.list)-1]
}

// begin has a downlink, or none, in force from the partition's present end on, and
// returns where that is. keep says that a keeper has to be started.
func (e *eras) begin(down *Downlink, end int64) (from int64, keep bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mapped.Store(true); len(e.list) == 0 {
		e.list = append(e.list, era{})
	}
	from = max(end, e.seen.Load()) // what somebody has seen stays as it was seen
	if e.last().from == from && len(e.list) > 1 {
		e.list = e.list[:len(e.list)-1]
	}
	if e.list = append(e.list, era{from, down}); len(e.list) > maxEras {
		e.list = e.list[1:]
	}
	return from, e.claim()
}

// set has a downlink in force for all records of the partition.
func (e *eras) set(down *Downlink) (keep bool) {
	if down == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mapped.Store(true)
	e.list = []era{{0, down}}
	return e.claim()
}

// claim reports whether a keeper has to be started, which the caller then does.
func (e *eras) claim() bool {
	down := e.last().down
	start := down != nil && down.Retain && !e.kept
	e.kept = e.kept || start
	return start
}

// retains returns the downlink by which a keeper retains a record: its own, or, of a time
// when none retained, the one in force now, because a downlink that begins to retain
// begins with what its topic holds. nil: none.
func (e *eras) retains(offset int64) *Downlink {
	if down := e.at(offset); down != nil && down.Retain {
		return down
	}
	if down := e.latest(); down != nil && down.Retain {
		return down
	}
	return nil
}

// over reports whether nothing is retained from an offset on, as of now.
func (e *eras) over(next int64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return !e.retainsFrom(next)
}

// done is over for a keeper that ends if it is.
func (e *eras) done(next int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = e.retainsFrom(next)
	return !e.kept
}

func (e *eras) retainsFrom(next int64) bool {
	for i, era := range e.list {
		ended := i+1 < len(e.list) && e.list[i+1].from <= next
		if !ended && era.down != nil && era.down.Retain {
			return true
		}
	}
	return false
}

// readDown makes a message of a record of a downlink.
func (f *feed) readDown(d *Downlink, r *record.Record, m *message) bool {
	if r.Value == nil {
		return false // a tombstone of a compacted topic is no command
	}
	if err := m.decodeDown(r, d, f.tp.Partition, f.srv.opts.Age); err != nil {
		f.srv.drops.downlink.Add(1)
		if f.srv.mayLog() {
			f.srv.opts.Log.Warn("mqtt: downlink record has no valid MQTT topic", "partition", f.tp.String(), "offset", r.Offset, "err", err)
		}
		return false
	}
	return !m.expired || m.late
}
