package commitlog

import "github.com/weirmq/weir/appliance/record"

// OffsetForTime finds the first record at or after offset from, the log start
// offset, with a timestamp of ts or later, in ms. ok is false when there is none.
func (l *Log) OffsetForTime(from, ts int64) (offset, timestamp int64, ok bool, err error) {
	err = l.each(func(s *segment) (bool, error) {
		if s.end.Load() <= from {
			return true, nil
		}
		if err := l.load(s); err != nil || s.maxTS.Load() < ts {
			return err == nil, err
		}
		offset, timestamp, ok, err = s.offsetForTime(from, ts)
		if err != nil {
			if err = l.heal(s, err); err == nil {
				offset, timestamp, ok, err = s.offsetForTime(from, ts)
			}
		}
		return !ok, err
	})
	return offset, timestamp, ok, err
}

func (s *segment) offsetForTime(from, ts int64) (offset, timestamp int64, ok bool, err error) {
	s.idxMu.Lock()
	e, found, err := s.idx.lastWhere(func(e entry) bool { return e.timestamp < ts })
	s.idxMu.Unlock()
	if err != nil {
		return 0, 0, false, err
	}
	var pos int64
	if found {
		pos = e.pos
	}
	err = s.headers(pos, s.size.Load(), func(at int64, h record.Batch) error {
		if h.LastOffset() < from || h.MaxTimestamp() < ts {
			return nil
		}
		return s.records(at, h.Len(), func(r *record.Record) error {
			if r.Offset < from || r.Timestamp < ts {
				return nil
			}
			offset, timestamp, ok = r.Offset, r.Timestamp, true
			return errFound
		})
	})
	if err == errFound {
		err = nil
	}
	return offset, timestamp, ok, err
}

// MaxTimestamp finds the first record with the greatest timestamp at or after
// offset from. ok is false when there is none.
func (l *Log) MaxTimestamp(from int64) (offset, timestamp int64, ok bool, err error) {
	greatest := int64(-1)
	err = l.each(func(s *segment) (bool, error) {
		if s.end.Load() <= from {
			return true, nil
		}
		if err := l.load(s); err != nil {
			return false, err
		}
		maxTS := s.maxTS.Load()
		if s.base < from && maxTS > greatest { // it may be that of a record before from
			var err error
			if maxTS, err = s.maxTimestamp(from); err != nil {
				if err = l.heal(s, err); err == nil {
					maxTS, err = s.maxTimestamp(from)
				}
			}
			if err != nil {
				return false, err
			}
		}
		greatest = max(greatest, maxTS)
		return true, nil
	})
	if err != nil || greatest < 0 {
		return 0, 0, false, err
	}
	if offset, timestamp, ok, err = l.OffsetForTime(from, greatest); ok || err != nil {
		return offset, timestamp, ok, err
	}
	// The record is gone, and its batch stays empty: look at what has records.
	greatest = -1
	err = l.each(func(s *segment) (bool, error) {
		if s.end.Load() <= from {
			return true, nil
		}
		maxTS, err := s.maxTimestamp(from)
		greatest = max(greatest, maxTS)
		return err == nil, err
	})
	if err != nil || greatest < 0 {
		return 0, 0, false, err
	}
	return l.OffsetForTime(from, greatest)
}

// maxTimestamp is the greatest timestamp at or after offset from; -1 if there is
// no record.
func (s *segment) maxTimestamp(from int64) (int64, error) {
	greatest := int64(-1)
	err := s.headers(0, s.size.Load(), func(at int64, h record.Batch) error {
		switch {
		case h.LastOffset() < from || h.MaxTimestamp() <= greatest || h.Count() == 0:
			return nil
		case h.BaseOffset() >= from:
			greatest = h.MaxTimestamp()
			return nil
		}
		return s.records(at, h.Len(), func(r *record.Record) error {
			if r.Offset >= from {
				greatest = max(greatest, r.Timestamp)
			}
			return nil
		})
	})
	return greatest, err
}

// records calls fn with the records of the batch at pos, its CRC checked. The
// record is valid until fn returns.
func (s *segment) records(pos, length int64, fn func(r *record.Record) error) error {
	b := make(record.Batch, length)
	if _, err := s.f.ReadAt(b, pos); err != nil {
		return s.readError(pos, err)
	}
	if err := b.Validate(); err != nil {
		return &CorruptError{s.path(logSuffix), pos, err}
	}
	d := record.Decoder{RawHeaders: true}
	if err := d.Reset(b); err != nil {
		return err
	}
	var r record.Record
	for {
		more, err := d.Next(&r)
		if err != nil || !more {
			return err
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
}
