package group_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A box that stamped commits months early, before it knew the time, does not take
// them for months old when it does; and still forgets them at the true pace.
func TestOffsetsAgeByTheClockThatDoesNotJump(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(27 * 365 * day) // the bubble begins in 2000, which is no time at all
		b := newBox(t)
		b.opts.RetentionCheckInterval = time.Hour
		early := 300 * day
		b.opts.Now = func() time.Time { return time.Now().Add(-early) }
		b.opts.Age = func(at time.Time) time.Duration { return b.opts.Now().Sub(at) }
		b.open()
		b.commit("g", tp("t", 0), 1)
		early = 0
		b.opts.Age = nil
		b.close()
		b.opts.Age = func(at time.Time) time.Duration { return time.Since(at) - 302*day }
		b.open()
		time.Sleep(8 * day) // 6 by the age
		synctest.Wait()
		b.want("g", tp("t", 0), 1)
		time.Sleep(2 * day)
		synctest.Wait()
		b.want("g", tp("t", 0), -1)
		b.close()
	})
}
