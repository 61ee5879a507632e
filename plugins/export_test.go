package plugins

import "github.com/weirmq/weir/plugins/transform"

// NewTransformer compiles a module for tests that look at one call.
func NewTransformer(module []byte, limits Limits, interpret bool) (t transform.Transformer, closeAll func(), err error) {
	o := Options{Interpret: interpret}.withDefaults()
	e, err := newEngine(&o)
	if err != nil {
		return nil, nil, err
	}
	if limits, err = o.grant(limits); err != nil {
		return nil, nil, err
	}
	p, err := e.compile(module, limits)
	if err != nil {
		return nil, nil, err
	}
	p.logs, p.start = newLogRing(o.Logger, "test"), o.StartTime
	r := &runner{program: p, budget: newBudget(o.TotalMemoryBytes), usage: new(usage)}
	return r, func() { r.close(); p.close(); e.close() }, nil
}
