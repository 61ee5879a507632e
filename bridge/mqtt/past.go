package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance/record"
)

// The eras of downlinks are stored beside the sessions, so that a start with another
// configuration is what a reload is: what a session has still to be sent comes as it was
// meant when it was written.

// erasKey begins the keys of eras in SessionsTopic.
const (
	erasKey    = "\x00eras\x00"
	erasFormat = 1
)

func erasKeyOf(tp record.TopicPartition) string {
	return erasKey + tp.Topic + "\x00" + strconv.Itoa(int(tp.Partition))
}

// erasRecord is the eras of a feed as they are stored: format, topic id, and for each its
// first offset and its downlink's Spec, empty for none.
func (f *feed) erasRecord() record.Record {
	e := &f.eras
	e.mu.RLock()
	defer e.mu.RUnlock()
	dst := append([]byte{erasFormat}, f.id[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(e.list)))
	for _, era := range e.list {
		dst = binary.AppendUvarint(dst, uint64(era.from))
		spec := ""
		if era.down != nil {
			spec = era.down.Spec
		}
		dst = appendText(dst, spec)
	}
	return record.Record{Key: []byte(erasKeyOf(f.tp)), Value: dst}
}

// storedEras reads what erasRecord wrote; none when it is of a topic that is no more.
func (srv *Server) storedEras(f *feed, value []byte) ([]era, error) {
	in := fields{b: value}
	if in.byte() != erasFormat || len(in.b) < len(f.id) {
		return nil, errSession
	}
	id := [16]byte(in.b)
	in.b = in.b[len(id):]
	var list []era
	for n := in.num(); n > 0 && !in.bad; n-- {
		e := era{from: int64(in.num())}
		if spec := in.text(); spec != "" && id == f.id {
			down, err := srv.router.Past(spec)
			if err != nil { // of a version that knew more
				srv.opts.Log.Warn("mqtt: earlier settings of a downlink are not understood; its records of that time are not sent",
					"partition", f.tp.String(), "from_offset", e.from, "err", err)
			}
			e.down = down
		}
		list = append(list, e)
	}
	switch {
	case in.bad || len(in.b) != 0:
		return nil, errSession
	case id != f.id:
		return nil, nil
	}
	return list, nil
}

// resume takes the eras of before up again, and has down in force from the present end on
// unless it was already. Where there are none, down is for all records.
func (srv *Server) resume(f *feed, down *Downlink) (keep bool, err error) {
	var list []era
	if stored := srv.store.value(erasKeyOf(f.tp)); stored != nil {
		if list, err = srv.storedEras(f, stored); err != nil {
			return false, fmt.Errorf("mqtt: stored downlinks of %s: %w", f.tp, err)
		}
	}
	if len(list) == 0 {
		return f.eras.set(down), nil
	}
	start, end, err := srv.log.Offsets(f.tp)
	if err != nil {
		return false, err
	}
	for len(list) > 1 && list[1].from <= start {
		list = list[1:]
	}
	f.eras.restore(list)
	if f.eras.latest() == down {
		f.eras.mu.Lock()
		defer f.eras.mu.Unlock()
		return f.eras.claim(), nil
	}
	how := "changed since the last start"
	if down == nil {
		how = "removed since the last start"
	}
	from, keep := f.eras.begin(down, end)
	srv.opts.Log.Info("mqtt: downlink "+how, "partition", f.tp.String(), "from_offset", from)
	return keep, nil
}

// resumeRemoved takes up the eras of downlinks that are no more, for what was written
// while they were, as long as the log has it. making is held.
func (srv *Server) resumeRemoved(downlinks []*Downlink) (changed []record.Record, err error) {
	for key := range srv.store.all(erasKey) {
		topic, number, _ := strings.Cut(strings.TrimPrefix(key, erasKey), "\x00")
		if slices.ContainsFunc(downlinks, func(d *Downlink) bool { return d.Topic == topic }) {
			continue
		}
		n, _ := strconv.ParseInt(number, 10, 32)
		tp := record.TopicPartition{Topic: topic, Partition: int32(n)}
		start, _, err := srv.log.Offsets(tp)
		if errors.Is(err, record.ErrUnknownTopicOrPartition) {
			changed = append(changed, record.Record{Key: []byte(key)})
			continue
		}
		if err != nil {
			return nil, err
		}
		f, err := srv.feed(tp)
		if err != nil {
			return nil, err
		}
		if _, err := srv.resume(f, nil); err != nil {
			return nil, err
		}
		if f.eras.forgotten(start) {
			changed = append(changed, record.Record{Key: []byte(key)})
			continue
		}
		changed = append(changed, f.erasRecord())
	}
	return changed, nil
}

// restore puts back what was stored.
func (e *eras) restore(list []era) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mapped.Store(true)
	e.list = list
}

// forgotten reports whether no downlink has to do with what is left of the log.
func (e *eras) forgotten(start int64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	last := e.last()
	return last.down == nil && last.from <= start
}

// value is what is stored under a key; nil: nothing.
func (st *store) value(key string) []byte {
	st.table.mu.Lock()
	defer st.table.mu.Unlock()
	return st.values[key]
}

// all is what is stored under keys with a prefix.
func (st *store) all(prefix string) map[string][]byte {
	st.table.mu.Lock()
	defer st.table.mu.Unlock()
	out := maps.Clone(st.values)
	maps.DeleteFunc(out, func(key string, _ []byte) bool { return !strings.HasPrefix(key, prefix) })
	return out
}

// putChanged stores the records that differ from what is stored.
func (st *store) putChanged(records []record.Record) error {
	records = slices.DeleteFunc(records, func(r record.Record) bool {
		return r.Value != nil && string(st.value(string(r.Key))) == string(r.Value)
	})
	if len(records) == 0 {
		return nil
	}
	if err := st.table.putAll(st.srv.ctx, records); err != nil {
		return fmt.Errorf("mqtt: store the downlinks in force: %w", err)
	}
	return nil
}
