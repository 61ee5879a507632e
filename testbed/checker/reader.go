package checker

// Reader is one consumer's view. Calls for one partition must come in the order
// of its polls.
type Reader struct {
	h     *History
	name  string
	final bool
	at    map[Partition]int64 // offset last read in this assignment
	jumps []jump
}

// jump is a step of a reader over offsets that it did not get.
type jump struct {
	p        Partition
	from, to int64 // last offset before and first after
}

// Reader returns a new consumer.
func (h *History) Reader(name string) *Reader { return h.reader(name, false) }

// FinalReader returns the consumer that reads everything at the end, after all
// clients have stopped, from the start of every partition: what it does not see
// is not in the log.
func (h *History) FinalReader() *Reader { return h.reader("final reader", true) }

func (h *History) reader(name string, final bool) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &Reader{h: h, name: name, final: final, at: map[Partition]int64{}}
	h.readers = append(h.readers, r)
	return r
}

// Assigned begins a new assignment of the partition: the reader may start
// anywhere. Without it a record may neither repeat nor be left out.
func (r *Reader) Assigned(p Partition) {
	r.h.mu.Lock()
	delete(r.at, p)
	r.h.mu.Unlock()
}

// Record notes a record read: value seq of the lane of that name.
func (r *Reader) Record(p Partition, offset int64, lane string, seq int64) {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	r.step(p, offset)
	l := h.lanes[lane]
	if l == nil || seq < 1 || seq > int64(len(l.sends)) {
		h.anomalies.add(Invented, "%s read %s#%d at %s offset %d: never sent", r.name, lane, seq, p, offset)
		return
	}
	v := value{l, seq}
	was := h.place(p, offset, v, "read by "+r.name)
	if r.final {
		// The last word on what is there: a contradiction is noted already.
		h.log[p][offset] = seen{value: v, boot: was.boot, last: true}
	}
}

func (r *Reader) step(p Partition, offset int64) {
	last, ok := r.at[p]
	switch {
	case !ok:
	case offset <= last:
		r.h.anomalies.add(PollSkip, "%s: %s offset %d came after %d", r.name, p, offset, last)
	case offset > last+1:
		r.jumps = append(r.jumps, jump{p, last, offset})
	}
	r.at[p] = offset
}
