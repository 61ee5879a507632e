package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// Next is the offset behind the section's last batch. It is found from the index entry
// before the section's end, by the headers from there on. The section must not be empty.
func (c Section) Next() (next int64, err error) {
	if c.made != nil {
		for b := range record.Batches(c.made).All() {
			next = b.NextOffset()
		}
		return next, nil
	}
	end := c.pos + int64(c.n)
	c.s.idxMu.Lock()
	e, ok, err := c.s.idx.lastWhere(func(e entry) bool { return e.pos < end })
	c.s.idxMu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("commitlog: read the index of %s: %w", c.s.path(logSuffix), err)
	}
	from := c.pos
	if ok {
		from = max(from, e.pos)
	}
	err = c.s.headers(from, end, func(_ int64, h record.Batch) error {
		next = h.NextOffset()
		return nil
	})
	return next, err
}
