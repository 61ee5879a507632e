package clock

// Decode is what a start makes of the file; it returns what it would write again.
func Decode(b []byte) ([]byte, error) {
	s, err := decode(b)
	if err != nil {
		return nil, err
	}
	return s.encode(), nil
}
