package fleet

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets that are a quarter of a power of two
// wide: quantiles are right within 20 %. The zero value is empty.
type histogram struct {
	buckets [4 * 64]atomic.Int64
	longest atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	n := max(int64(d), 4)
	power := bits.Len64(uint64(n)) - 1
	quarter := (n >> uint(power-2)) & 3
	h.buckets[4*power+int(quarter)].Add(1)
	for old := h.longest.Load(); n > old && !h.longest.CompareAndSwap(old, n); {
		old = h.longest.Load()
	}
}

func (h *histogram) max() time.Duration { return time.Duration(h.longest.Load()) }

// quantile is the upper end of the bucket that holds the q-th part, 0 when empty.
func (h *histogram) quantile(q float64) time.Duration {
	var total int64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	rank := int64(q * float64(total))
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if rank -= n; n > 0 && rank < 0 {
			end := (int64(i%4)+5)<<uint(i/4-2) - 1
			return min(time.Duration(end), h.max())
		}
	}
	return h.max()
}
