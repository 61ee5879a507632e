package mqtt

import (
	"encoding/binary"
	"slices"

	"github.com/weirmq/weir/appliance/record"
)

// places is how far a session or a share has been served, in each partition. Its
// owner's lock guards it.
type places struct {
	cursors []cursor // by feed.idx
	behind  int      // cursors that are behind
}

// cursor is a place in one partition: all below next has been sent or did not match. A
// cursor that is not behind moves with the feed.
type cursor struct {
	next   int64
	behind bool
}

// cursorOf returns the place in a feed, live by default.
func (p *places) cursorOf(idx int) *cursor {
	for len(p.cursors) <= idx {
		p.cursors = append(p.cursors, cursor{})
	}
	return &p.cursors[idx]
}

func (p *places) fallBehind(cur *cursor, next int64) {
	if !cur.behind {
		cur.behind = true
		p.behind++
	}
	cur.next = next
}

// hindmost returns a feed that the places are behind, and where.
func (p *places) hindmost() (idx int, next int64) {
	i := slices.IndexFunc(p.cursors, func(c cursor) bool { return c.behind })
	return i, p.cursors[i].next
}

// overtake joins the live ones if there is nothing left to catch up with. f.mu is held.
func (p *places) overtake(f *feed) {
	if cur := p.cursorOf(f.idx); cur.behind && (cur.next >= f.next.Load() || f.gone.Load()) {
		cur.behind = false
		p.behind--
	}
}

// resume makes everything be served from the log until it has been caught up with.
func (p *places) resume(feeds []*feed) {
	p.behind = 0
	for i, f := range feeds {
		next := f.origin // a feed that began meanwhile
		if i < len(p.cursors) {
			next = p.cursors[i].next
		}
		*p.cursorOf(i) = cursor{next: next, behind: !f.gone.Load()}
		if p.cursors[i].behind {
			p.behind++
		}
	}
}

// suspend fixes the cursors where the feeds are.
func (p *places) suspend(feeds []*feed) {
	for i, f := range feeds {
		if cur := p.cursorOf(i); !cur.behind {
			cur.next = max(cur.next, f.next.Load())
		}
	}
}

// place is the offset from which the owner would be served in f, were it to end now.
func (p *places) place(f *feed, live bool) int64 {
	switch {
	case f.idx >= len(p.cursors) && !live:
		return f.origin
	case f.idx >= len(p.cursors):
		return f.next.Load()
	case p.cursors[f.idx].behind || !live:
		return p.cursors[f.idx].next
	}
	return max(p.cursors[f.idx].next, f.next.Load())
}

func (p *places) encode(dst []byte, feeds []*feed, live bool) []byte {
	feeds = slices.DeleteFunc(slices.Clone(feeds), func(f *feed) bool { return f.gone.Load() })
	dst = binary.AppendUvarint(dst, uint64(len(feeds)))
	for _, f := range feeds {
		dst = binary.AppendUvarint(appendText(dst, f.tp.Topic), uint64(f.tp.Partition))
		dst = binary.AppendUvarint(dst, uint64(p.place(f, live)))
	}
	return dst
}

func (p *places) decode(f *fields, feeds []*feed) {
	at := map[record.TopicPartition]int64{}
	for n := f.num(); n > 0 && !f.bad; n-- {
		tp := record.TopicPartition{Topic: f.text(), Partition: int32(f.num())}
		at[tp] = int64(f.num())
	}
	for i, fd := range feeds {
		next, ok := at[fd.tp]
		if !ok {
			next = fd.origin
		}
		p.cursorOf(i).next = next
	}
}
