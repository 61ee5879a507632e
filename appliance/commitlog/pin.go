package commitlog

import "github.com/weirmq/weir/appliance/vfs"

// acquire keeps the segment from being closed until release; false when it is closed already.
func (s *segment) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *segment) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	// Nothing is lost by a failing close: what had to be durable was synced.
	if !s.removed.Load() {
		_ = s.idx.flush()
	}
	_ = s.idx.close()
	if s.detached {
		s.unpin()
	}
	_ = s.f.Close()
}

// pin keeps the file of an acquired segment open, also when retention removes its
// name, until unpin and release.
func (s *segment) pin() (vfs.File, error) {
	p, ok := s.f.(vfs.Pinner)
	if !ok {
		return s.f, nil
	}
	return p.Pin()
}

func (s *segment) unpin() {
	if p, ok := s.f.(vfs.Pinner); ok {
		p.Unpin()
	}
}
