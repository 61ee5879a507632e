package metadata

// LimitSize makes the next write that would let the file grow over n bytes fail,
// as a full disk does.
func (s *Store) LimitSize(n int) { s.db.MaxSize = n }
