package topic

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/weirmq/weir/appliance/commitlog"
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
	if s.wal, err = wal.Open(s.opts.WAL, r.replay); err != nil {
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
		return redo.Write(e.at, e.batch)
	case entryLogStart:
		p.state.logStart, p.state.dirty = max(p.state.logStart, e.offset), true
	case entryRoll:
		return redo.Roll(e.offset)
	}
	return nil
}

func (r *recovery) redo(p *Partition) (*commitlog.Redo, error) {
	if redo := r.redos[p]; redo != nil {
		return redo, nil
	}
	st, err := loadState(r.set.opts.FS, p.dir)
	if errors.Is(err, errState) {
		st, err = &state{producers: producers{}, rebuild: true}, nil
	}
	if err != nil {
		return nil, err
	}
	redo, err := commitlog.NewRedo(p.options())
	if err != nil {
		return nil, err
	}
	p.state, r.redos[p] = st, redo
	return redo, nil
}

func (r *recovery) finish() error {
	for p, redo := range r.redos {
		if err := redo.Finish(p.state.logStart); err != nil {
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

func (s *Set) saveStates(touched map[*Partition]*commitlog.Redo) error {
	for p := range touched {
		if err := p.saveState(); err != nil {
			return err
		}
	}
	return nil
}
