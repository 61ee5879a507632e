package quota

// Buckets is how many clients are remembered.
func (q *Quotas) Buckets() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.buckets)
}
