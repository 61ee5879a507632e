package bridge

// Router is the router of a running bridge.
func (b *Bridge) Router() *Router { return b.router }
