package topic

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"

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

// recover opens the write-ahead log, brings what it holds to its place and opens all
// partitions. It syncs none of them: what was replayed stays in the write-ahead log
// until a checkpoint like any other has brought it to the disk. Interrupted at any
// point, or after it, recovery starts over.
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
		err = s.openPartitions()
	}
	if err == nil {
		err = s.raise()
	}
	if err == nil && len(r.redos) == 0 {
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
		p.state.recall(e.batch, p.set.opts.MaxProducers)
		p.reserved = max(p.reserved, e.batch.NextOffset())
		if e.batch.NextOffset() <= p.mark.end {
			return nil // durable in its segment, which may have been cleaned since
		}
		return redo.Write(e.at, e.batch)
	case entryLogStart:
		p.state.logStart, p.state.dirty = max(p.state.logStart, e.offset), true
	case entryRoll:
		if e.offset < p.mark.end {
			return nil // so is what came into that segment
		}
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
	p.state.recall(e.batch, p.set.opts.MaxProducers)
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
	ps := slices.Collect(maps.Keys(r.redos))
	return inParallel(len(ps), func(i int) error {
		p, redo := ps[i], r.redos[ps[i]]
		p.holes = redo.Holes()
		if err := redo.Finish(p.state.logStart, func(h record.Batch) { p.state.recall(h, p.set.opts.MaxProducers) }); err != nil {
			return fmt.Errorf("recover %s: %w", p.tp, err)
		}
		p.redo = redo
		p.touch()
		return nil
	})
}

func (r *recovery) abandon() {
	for _, redo := range r.redos {
		redo.Abandon()
	}
}

// openPartitions opens all logs. One that cannot be opened is offline, the others serve.
func (s *Set) openPartitions() error {
	var all []*Partition
	for _, t := range s.Topics() {
		all = append(all, t.Partitions()...)
	}
	return inParallel(len(all), func(i int) error {
		p := all[i]
		err := p.open()
		if err != nil {
			p.fail(err)
			s.opts.Log.Error("partition is offline", "partition", p.tp.String(), "err", err)
		}
		if p.redo == nil {
			return nil
		}
		if err != nil {
			err = p.secure(err)
		}
		p.redo.Abandon() // what the log has not taken over
		p.redo = nil
		return err
	})
}

// secure makes durable what was replayed into a partition that cannot be opened:
// checkpoints pass it over, and the write-ahead log forgets. If it cannot be done,
// nor can the set be opened, for every checkpoint would lose records.
func (p *Partition) secure(why error) error {
	err := p.redo.Sync()
	if err == nil && p.state.rebuild {
		err = errors.New("its state is damaged, too")
	}
	if err == nil {
		err = p.identify()
	}
	if err == nil {
		p.state.generation++
		err = replaceFile(p.set.opts.FS, p.dir, stateFile, p.state.encode(math.MaxInt64))
	}
	if err != nil {
		return fmt.Errorf("topic: %s cannot be opened (%w), nor can what the write-ahead log has of it be kept: %w", p.tp, why, err)
	}
	return nil
}

// raise has the epoch and the producer ids go on above those in the log.
func (s *Set) raise() (err error) {
	if s.opts.Raise == nil {
		return nil
	}
	epoch, producer := int32(-1), int64(-1)
	for _, t := range s.topics {
		for _, p := range t.Partitions() {
			if n := len(p.state.epochs); n > 0 {
				epoch = max(epoch, p.state.epochs[n-1].epoch)
			}
			for id := range p.state.producers {
				producer = max(producer, id)
			}
		}
	}
	s.opts.LeaderEpoch, err = s.opts.Raise(epoch, producer)
	return err
}

// WALDamage lists what the start found damaged in the write-ahead log.
func (s *Set) WALDamage() []wal.Damage { return s.walDamage }
