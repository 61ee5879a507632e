package topic

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/wal"
)

// recovery is the replay of the write-ahead log into the segments.
type recovery struct {
	set   *Set
	redos map[*Partition]*commitlog.Redo
	stray int // entries of topics that are gone
}

// recover opens the write-ahead log, brings what it holds to its place, opens all
// partitions and checkpoints. Interrupted at any point, it starts over.
func (s *Set) recover() (err error) {
	r := &recovery{set: s, redos: map[*Partition]*commitlog.Redo{}}
	defer func() {
		if err != nil {
			r.abandon()
		}
	}()
	if err := s.loadWatermarks(); err != nil {
		return err
	}
	o := s.opts.WAL
	o.Quarantine, o.Salvage = quarantineDir, r.salvage
	o.Damaged = func(d wal.Damage) { s.walDamage = append(s.walDamage, d) }
	if s.wal, err = wal.Open(o, r.replay); err != nil {
		return err
	}
	if err = r.finish(); err == nil {
		s.openPartitions()
		err = s.saveStates(r.redos)
	}
	if err == nil {
		err = s.wal.Checkpoint(s.wal.Applied())
	}
	if err != nil {
		return errors.Join(err, s.wal.Close())
	}
	if r.stray > 0 {
		s.opts.Log.Info("write-ahead entries of deleted topics skipped", slog.Int("entries", r.stray))
	}
	return nil
}

// replay takes one entry of the write-ahead log.
func (r *recovery) replay(b []byte) error {
	e, err := parseEntry(b)
	if err != nil {
		return err
	}
	t := r.set.ids[e.id]
	if t == nil || int(e.partition) >= len(t.Partitions()) {
		r.stray++
		return nil
	}
	p := t.Partitions()[e.partition]
	redo, err := r.redo(p)
	if err != nil {
		return err
	}
	switch e.kind {
	case entryAppend:
		p.state.note(e.batch)
		p.reserved = max(p.reserved, e.batch.NextOffset())
		if e.batch.NextOffset() <= p.mark.end {
			return nil // durable in its segment, which may have been cleaned since
		}
		return redo.Write(e.at, e.batch)
	case entryLogStart:
		p.state.logStart, p.state.dirty = max(p.state.logStart, e.offset), true
	case entryRoll:
		return redo.Roll(e.offset)
	}
	return nil
}

// salvage takes an entry of a round whose checksum is wrong. A batch has a checksum
// of its own, and what stands before it is believed if it is what must be next.
func (r *recovery) salvage(b []byte) error {
	e, err := parseEntry(b)
	if err != nil || e.kind != entryAppend {
		return nil
	}
	t := r.set.ids[e.id]
	if t == nil || e.partition < 0 || int(e.partition) >= len(t.Partitions()) {
		return nil
	}
	p := t.Partitions()[e.partition]
	redo, err := r.redo(p)
	if err != nil {
		return err
	}
	if !redo.Follows(e.at, e.batch.BaseOffset()) {
		return nil
	}
	if epochs := p.state.epochs; len(epochs) == 0 || epochs[len(epochs)-1].epoch != e.batch.LeaderEpoch() {
		return nil // the epoch is under no checksum of its own
	}
	if e.batch.Validate() != nil {
		if e.batch.Count() == e.batch.LastOffsetDelta()+1 && int(e.batch.Count()) < len(e.batch) {
			p.reserved = max(p.reserved, e.batch.NextOffset())
		}
		return nil
	}
	p.state.note(e.batch)
	return redo.Write(e.at, e.batch)
}

func (r *recovery) redo(p *Partition) (*commitlog.Redo, error) {
	if redo := r.redos[p]; redo != nil {
		return redo, nil
	}
	if err := p.adoptState(); err != nil {
		return nil, err
	}
	redo, err := commitlog.NewRedo(p.options())
	if err != nil {
		return nil, err
	}
	redo.After(p.mark.end)
	r.redos[p] = redo
	return redo, nil
}

func (r *recovery) finish() error {
	for p, redo := range r.redos {
		p.holes = redo.Holes()
		if err := redo.Finish(p.state.logStart, func(h record.Batch) { p.state.note(h) }); err != nil {
			return fmt.Errorf("recover %s: %w", p.tp, err)
		}
	}
	return nil
}

func (r *recovery) abandon() {
	for _, redo := range r.redos {
		redo.Abandon()
	}
}

// openPartitions opens all logs. One that is damaged is offline, the others serve.
func (s *Set) openPartitions() {
	for _, t := range s.Topics() {
		for _, p := range t.Partitions() {
			if err := p.open(); err != nil {
				p.fail(err)
				s.opts.Log.Error("partition is offline", "partition", p.tp.String(), "err", err)
			}
		}
	}
}

// saveStates makes durable what recovery found out of the partitions it wrote to.
func (s *Set) saveStates(touched map[*Partition]*commitlog.Redo) error {
	var saved []*Partition
	for p := range touched {
		if p.Err() != nil {
			continue
		}
		end, at := p.log.End()
		if err := p.remember(end, at); err != nil {
			return err
		}
		if err := p.saveState(); err != nil {
			return err
		}
		saved = append(saved, p)
	}
	return s.saveWatermarks(saved)
}

// WALDamage lists what the start found damaged in the write-ahead log.
func (s *Set) WALDamage() []wal.Damage { return s.walDamage }
