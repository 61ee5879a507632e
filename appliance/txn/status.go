package txn

import "github.com/weirmq/weir/appliance/metric"

// Status is the coordinator's part of GET /v1/status.
type Status struct {
	TransactionalIDs int   `json:"transactional_ids"`
	Ongoing          int   `json:"ongoing"`
	Waiting          int   `json:"waiting"` // decided, but a partition is offline
	Commits          int64 `json:"commits"` // since the start, as are those that follow
	Aborts           int64 `json:"aborts"`  // those that took too long included
	Timeouts         int64 `json:"timeouts"`
	Expired          int64 `json:"expired"`
	// Error is why there are no transactions; empty while there are.
	Error string `json:"error,omitempty"`
}

// Status is what the coordinator does now.
func (c *Coordinator) Status() Status {
	st := Status{Commits: c.commits.Load(), Aborts: c.aborts.Load(), Timeouts: c.timeouts.Load(), Expired: c.expired.Load()}
	if c.down != nil {
		st.Error = c.down.Error()
	}
	for _, id := range c.ids() {
		s, err := c.lock(id, false)
		if err != nil || s == nil {
			continue
		}
		st.TransactionalIDs++
		switch s.t.State() {
		case Ongoing:
			st.Ongoing++
		case PrepareCommit, PrepareAbort:
			st.Waiting++
		}
		s.mu.Unlock()
	}
	return st
}

// Metrics writes the coordinator's figures.
func (c *Coordinator) Metrics(w *metric.Writer) {
	st := c.Status()
	w.Gauge("weir_transactional_ids", "Transactional ids known.", float64(st.TransactionalIDs))
	w.Gauge("weir_transactions_ongoing", "Transactions that are open.", float64(st.Ongoing))
	w.Gauge("weir_transactions_waiting", "Transactions that are decided and wait for a partition that is offline.", float64(st.Waiting))
	w.Counter("weir_transactions_committed_total", "Transactions committed.", float64(st.Commits))
	w.Counter("weir_transactions_aborted_total", "Transactions aborted.", float64(st.Aborts))
	w.Counter("weir_transactions_timed_out_total", "Of these, transactions that took longer than their timeout.", float64(st.Timeouts))
	w.Counter("weir_transactional_ids_expired_total", "Transactional ids forgotten because they were not used.", float64(st.Expired))
}
