package transform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// errRejected ends a round before a record that the transformer rejected, when
// the policy is Stop; errBreak ends it after so many failures that the plugin
// itself must be at fault.
var (
	errRejected = errors.New("rejected")
	errBreak    = errors.New("too many records failed in a row")
)

// refused reports errors by which the log refuses a batch for what it is.
func refused(err error) bool {
	return errors.Is(err, record.ErrTooLarge) || errors.Is(err, record.ErrInvalidRecord) || errors.Is(err, record.ErrCorrupt)
}

// rounds takes the next records and commits what becomes of them: at best in one
// round, in more when the outputs or the log want it.
func (t *Task) rounds(ctx context.Context) error {
	records, next, unread := t.reader.fill(t.buf[:0], t.pos, t.limit, t.o.MaxBytes)
	defer clear(records)
	t.buf = records
	for len(records) > 0 {
		n, err := t.round(ctx, records, next)
		records = records[n:]
		if err != nil {
			return err
		}
	}
	if unread == nil && next > t.pos { // nothing but control batches
		t.pos = next
	}
	return unread
}

// round transforms and commits the first n of records; next is the position after
// all of them. With an error those n are committed all the same.
func (t *Task) round(ctx context.Context, records []record.Record, next int64) (n int, err error) {
	var halt error
	for n = len(records); ; {
		t.out.Reset()
		t.tally = tally{}
		t.in.Records = records[:n]
		end, err := t.apply(ctx, 0, n)
		switch {
		case errors.Is(err, errRejected), errors.Is(err, ErrStopped):
			// Once more without what came after, which may be in the output already.
			halt = fmt.Errorf("%w: %s offset %d: %w", ErrStopped, t.o.Input, records[end].Offset, err)
			if n = end; n == 0 {
				return 0, halt
			}
			continue
		case errors.Is(err, errBreak):
			halt, err = err, nil
		case errors.Is(err, ErrOutputFull):
			err = nil
		}
		if err != nil {
			return 0, err
		}
		err = t.commit(end, records, next)
		if err == nil {
			return end, halt
		}
		if !refused(err) {
			return 0, err
		}
		if n = end / 2; n == 0 {
			return t.bury(records, next, err)
		}
	}
}

// bury commits the first of records as a failed one, because the log refuses what
// was made of it; without its value, if the log refuses that too.
func (t *Task) bury(records []record.Record, next int64, cause error) (int, error) {
	for _, keepValue := range []bool{true, false} {
		t.out.Reset()
		t.tally = tally{poisoned: 1}
		t.in.Records = records[:1]
		if err := t.apart(0, []byte(cause.Error()), keepValue); err != nil {
			return 0, fmt.Errorf("%w: %s offset %d: %w", ErrStopped, t.o.Input, records[0].Offset, cause)
		}
		err := t.commit(1, records, next)
		if !refused(err) {
			return 1, err
		}
	}
	return 0, cause
}

// apply transforms the records [lo,hi) of the round. When it cannot do them all
// it returns how far it came, and why.
func (t *Task) apply(ctx context.Context, lo, hi int) (end int, err error) {
	if err = ctx.Err(); err != nil {
		return lo, err
	}
	all := t.in.Records
	t.in.Records = all[lo:hi]
	t.in.NowMs = time.Now().UnixMilli()
	err = t.o.Transformer.Transform(ctx, &t.in, t.out)
	t.in.Records = all
	if err == nil {
		t.succeeded()
		return t.rejects(lo, hi)
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		return lo, err
	case errors.Is(err, ErrOutputFull) && lo > 0:
		return lo, ErrOutputFull
	case !errors.Is(err, ErrOutputFull):
		t.o.Counters.Failures.Add(1)
	}
	if hi-lo == 1 {
		return t.poison(lo, err)
	}
	late, poisoned := errors.Is(err, ErrDeadline), t.tally.poisoned
	mid := lo + (hi-lo)/2
	if end, err = t.apply(ctx, lo, mid); err != nil {
		return end, err
	}
	if end, err = t.apply(ctx, mid, hi); err == nil && late && t.tally.poisoned == poisoned {
		t.limit = max(1, min(t.limit, (hi-lo)/2)) // no record was at fault: they were too many
	}
	return end, err
}

// succeeded forgets earlier failures and lets calls grow again.
func (t *Task) succeeded() {
	t.failed, t.backoff = 0, 0
	t.limit = min(t.o.MaxRecords, t.limit+t.limit/8+1)
}

// rejects applies the policy to what the call for [lo,hi) rejected.
func (t *Task) rejects(lo, hi int) (int, error) {
	defer t.out.forgetRejects()
	for _, r := range t.out.rejects {
		reason := t.out.reasons[r.start:r.end]
		if err := t.apart(lo+r.source, reason, true); err != nil {
			first := hi
			for _, r := range t.out.rejects {
				first = min(first, lo+r.source)
			}
			return first, fmt.Errorf("%w: %s", errRejected, reason)
		}
		t.tally.rejected++
	}
	return hi, nil
}

// poison applies the policy to the record that the transformer failed on.
func (t *Task) poison(i int, cause error) (int, error) {
	r := &t.in.Records[i]
	t.o.Logger.Warn("plugin failed on a record", "plugin", t.o.Plugin, "input", t.o.Input, "offset", r.Offset, "policy", t.o.Policy, "err", cause)
	if err := t.apart(i, []byte(cause.Error()), true); err != nil {
		return i, fmt.Errorf("%w: %w", err, cause)
	}
	t.tally.poisoned++
	if t.failed++; t.failed >= t.o.BreakAfter {
		return i + 1, fmt.Errorf("%w (%d), the last at offset %d: %w", errBreak, t.failed, r.Offset, cause)
	}
	return i + 1, nil
}

// apart sets record i of the round apart, as the policy says.
func (t *Task) apart(i int, reason []byte, keepValue bool) error {
	switch t.o.Policy {
	case Stop:
		return ErrStopped
	case Skip:
		t.tally.skipped++
	default:
		t.tally.dead++
		t.out.deadLetter(t.o.Plugin, t.o.Input, &t.in.Records[i], reason, keepValue)
	}
	return nil
}

// commit writes the output of the first n records and the position after them.
func (t *Task) commit(n int, records []record.Record, next int64) error {
	pos := next
	if n < len(records) {
		pos = records[n-1].Offset + 1
	}
	var err error
	if t.writes, err = t.out.appendWrites(t.writes[:0]); err != nil {
		return err
	}
	position, err := t.o.Positions.Encode(t.group, t.o.Input, pos)
	if err != nil {
		return err
	}
	t.writes = append(t.writes, position)
	// Whether it is committed must be known, so the end of the task does not end this.
	if err := t.o.Log.AppendAtomic(context.Background(), t.writes); err != nil {
		return fmt.Errorf("commit of %s up to offset %d: %w", t.o.Input, pos, err)
	}
	t.o.Positions.Applied(t.group, t.o.Input, pos)
	t.pos = pos
	t.note(Running, nil)
	t.count(n)
	return nil
}

func (t *Task) count(n int) {
	c := t.o.Counters
	c.In.Add(int64(n))
	c.Out.Add(int64(t.out.records))
	c.Rejected.Add(t.tally.rejected)
	c.Poisoned.Add(t.tally.poisoned)
	c.DeadLetters.Add(t.tally.dead)
	c.Skipped.Add(t.tally.skipped)
	c.Commits.Add(1)
}
