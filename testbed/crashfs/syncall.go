package crashfs

// CanSyncAll implements vfs.AllSyncer.
func (f *FS) CanSyncAll() bool { return true }

// SyncAll implements vfs.AllSyncer: every file and every name becomes durable.
func (f *FS) SyncAll() error {
	return f.doOrFail(Op{Kind: Sync, Name: "."}, func(injected error) error {
		f.root.each(func(n *node) {
			switch {
			case n.names != nil && injected != nil:
			case n.names != nil:
				f.settle(n)
			case injected != nil:
				n.data.syncFailed()
			default:
				n.data.sync()
			}
		})
		return injected
	})
}

// each calls fn with a node and all below it.
func (n *node) each(fn func(*node)) {
	fn(n)
	for _, below := range n.names {
		below.each(fn)
	}
}
