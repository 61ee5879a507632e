package mirror

// BudgetIsFree reports whether no flow holds memory of its budget.
func (m *Mirror) BudgetIsFree() bool {
	for _, f := range m.flows {
		if !f.budget.TryAcquire(f.opt.MaxInFlightBytes) {
			return false
		}
		f.budget.Release(f.opt.MaxInFlightBytes)
	}
	return true
}
