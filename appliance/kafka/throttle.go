package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/quota"
)

// Quotas at work (KIP-13, KIP-219): a request that goes beyond one is answered at
// once; the answer says for how long the client is to be silent, and whether it
// heeds that or not, for as long nothing is read from its connection.

func (c *conn) client() quota.Client { return quota.Client{User: c.user, ID: c.clientID} }

// begin notes the time, if it is to be charged.
func (r *request) begin() {
	if r.conn.s.o.Quotas.Has(quota.RequestTime) && !r.api.waits {
		r.started = time.Now()
	}
}

// waiting leaves what is waited out of the time of handling; it is over when the
// function that it returns is called.
func (r *request) waiting() (over func()) {
	if r.started.IsZero() {
		return func() {}
	}
	since := time.Now()
	return func() { r.waited += time.Since(since) }
}

// throttle charges the client for so many bytes and for the time of handling. The
// outcome is for the answer, in ms, and holds for the connection.
func (r *request) throttle(kind quota.Kind, bytes int) (ms int32) {
	q, client, wait := r.conn.s.o.Quotas, r.conn.client(), r.owed
	if bytes > 0 && q.Has(kind) {
		wait = q.Charge(client, kind, float64(bytes), time.Now())
	}
	if !r.started.IsZero() {
		now := time.Now()
		wait = max(wait, q.Charge(client, quota.RequestTime, (now.Sub(r.started)-r.waited).Seconds(), now))
	}
	if wait <= 0 {
		return 0
	}
	wait = max(wait, time.Millisecond)
	r.conn.silence = wait
	return int32(wait.Milliseconds())
}

// mutate charges the client for partitions that it makes or removes (KIP-599). From
// the version on whose clients know the error, who owes something already is refused;
// before it what was asked is done, and the client is to be silent for the longer.
func (r *request) mutate(partitions int, strictFrom int16) error {
	q, client, now := r.conn.s.o.Quotas, r.conn.client(), time.Now()
	if r.version < strictFrom {
		r.owed = max(r.owed, q.Charge(client, quota.Mutations, float64(partitions), now))
		return nil
	}
	wait := q.Admit(client, quota.Mutations, float64(partitions), now)
	if wait == 0 {
		return nil
	}
	r.owed = max(r.owed, wait)
	return fmt.Errorf("%w: the quota %s allows no more partitions to be made or removed for %v", kerr.ThrottlingQuotaExceeded, quota.Mutations, wait.Round(time.Millisecond))
}

// rest keeps the silence that the last request has brought about.
func (c *conn) rest() error {
	wait := c.silence
	if wait == 0 {
		return nil
	}
	c.silence = 0
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// pace waits until the next connection may be accepted.
func (s *Server) pace() {
	wait := s.accepting.Take(time.Now())
	if wait == 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-s.ctx.Done():
	}
}
