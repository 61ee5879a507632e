package sdk

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Kind is what a JSON value is.
type Kind byte

const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// MaxDepth bounds how deep arrays and objects may nest.
const MaxDepth = 32

// Scanner reads the members of one JSON object without allocating:
//
//	s := sdk.ScanObject(value)
//	for s.Next() {
//		switch string(s.Name()) {
//		case "temp_f":
//			t, err = s.Float()
//		}
//	}
//	if err := s.Err(); err != nil {
//
// It checks the whole text: what it accepts is valid JSON.
type Scanner struct {
	text        []byte
	pos         int
	name, value []byte
	kind        Kind
	started     bool
	err         error
}

// ScanObject starts on text, which must be one JSON object.
func ScanObject(text []byte) Scanner { return Scanner{text: text} }

// Name is the member's name as it is written, without its quotes.
func (s *Scanner) Name() []byte { return s.name }

// Value is the member's value as it is written.
func (s *Scanner) Value() []byte { return s.value }

// Kind is what the value is.
func (s *Scanner) Kind() Kind { return s.kind }

// Err is why Next returned false before the object's end; nil at its end.
func (s *Scanner) Err() error { return s.err }

// Next goes to the next member. It returns false after the last, and at an error.
func (s *Scanner) Next() bool {
	if s.err != nil {
		return false
	}
	more, err := s.next()
	if err != nil {
		s.err = fmt.Errorf("invalid JSON at byte %d: %w", s.pos, err)
	}
	return more && err == nil
}

var (
	errObject   = errors.New("not an object")
	errEnd      = errors.New("it ends too early")
	errAfter    = errors.New("something follows the object")
	errComma    = errors.New("want a comma or the end")
	errColon    = errors.New("want a colon")
	errName     = errors.New("want a name in quotes")
	errValue    = errors.New("want a value")
	errDepth    = errors.New("nested too deep")
	errString   = errors.New("impossible string")
	errNumber   = errors.New("impossible number")
	errNoNumber = errors.New("not a number")
	errNoString = errors.New("not a string")
)

func (s *Scanner) next() (bool, error) {
	s.space()
	if !s.started {
		s.started = true
		if !s.take('{') {
			return false, errObject
		}
		s.space()
		if s.take('}') {
			return false, s.finish()
		}
	} else if s.take('}') {
		return false, s.finish()
	} else if !s.take(',') {
		return false, errComma
	}
	var err error
	if s.name, err = s.member(); err != nil {
		return false, err
	}
	start := s.pos
	if s.kind, err = s.skip(1); err != nil {
		return false, err
	}
	s.value = s.text[start:s.pos]
	return true, nil
}

func (s *Scanner) finish() error {
	if s.space(); s.pos != len(s.text) {
		return errAfter
	}
	return nil
}

// member reads a name and its colon, up to the value.
func (s *Scanner) member() ([]byte, error) {
	if s.space(); s.pos >= len(s.text) || s.text[s.pos] != '"' {
		return nil, errName
	}
	start := s.pos + 1
	if err := s.str(); err != nil {
		return nil, err
	}
	name := s.text[start : s.pos-1]
	if s.space(); !s.take(':') {
		return nil, errColon
	}
	s.space()
	return name, nil
}

func (s *Scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *Scanner) take(c byte) bool {
	if s.pos < len(s.text) && s.text[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// skip passes over one value.
func (s *Scanner) skip(depth int) (Kind, error) {
	if depth > MaxDepth {
		return 0, errDepth
	}
	if s.pos >= len(s.text) {
		return 0, errEnd
	}
	switch c := s.text[s.pos]; {
	case c == '"':
		return String, s.str()
	case c == '-' || c >= '0' && c <= '9':
		return Number, s.number()
	case c == '{':
		return Object, s.object(depth)
	case c == '[':
		return Array, s.array(depth)
	}
	for _, w := range [...]struct {
		text string
		kind Kind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		if end := s.pos + len(w.text); end <= len(s.text) && string(s.text[s.pos:end]) == w.text {
			s.pos = end
			return w.kind, nil
		}
	}
	return 0, errValue
}

func (s *Scanner) object(depth int) error {
	s.pos++
	if s.space(); s.take('}') {
		return nil
	}
	for {
		if _, err := s.member(); err != nil {
			return err
		}
		if _, err := s.skip(depth + 1); err != nil {
			return err
		}
		if s.space(); s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errComma
		}
	}
}

func (s *Scanner) array(depth int) error {
	s.pos++
	if s.space(); s.take(']') {
		return nil
	}
	for {
		s.space()
		if _, err := s.skip(depth + 1); err != nil {
			return err
		}
		if s.space(); s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errComma
		}
	}
}

func (s *Scanner) str() error {
	s.pos++
	start, ascii := s.pos, true
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			if !ascii && !utf8.Valid(s.text[start:s.pos-1]) {
				return errString
			}
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < ' ':
			return errString
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return errEnd
}

func (s *Scanner) escape() error {
	if s.pos >= len(s.text) {
		return errEnd
	}
	c := s.text[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			if s.pos >= len(s.text) || !hex(s.text[s.pos]) {
				return errString
			}
			s.pos++
		}
		return nil
	}
	return errString
}

func hex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func (s *Scanner) number() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return errNumber
	}
	if s.take('.') && !s.digits() {
		return errNumber
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return errNumber
		}
	}
	return nil
}

func (s *Scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// Float is the value as a number.
func (s *Scanner) Float() (float64, error) {
	if s.kind != Number {
		return 0, errNoNumber
	}
	return strconv.ParseFloat(string(s.value), 64)
}

// Int is the value as an integer.
func (s *Scanner) Int() (int64, error) {
	if s.kind != Number {
		return 0, errNoNumber
	}
	return strconv.ParseInt(string(s.value), 10, 64)
}

// AppendText appends the value, a string, with its escapes resolved.
func (s *Scanner) AppendText(dst []byte) ([]byte, error) {
	if s.kind != String {
		return dst, errNoString
	}
	b := s.value[1 : len(s.value)-1]
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			dst = append(dst, b[i])
			continue
		}
		i++
		if b[i] != 'u' {
			dst = append(dst, unescaped(b[i]))
			continue
		}
		r := hexRune(b[i+1:])
		i += 4
		// A surrogate pair is one character; half of one is the replacement character.
		if r >= 0xd800 && r < 0xdc00 && i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
			if low := hexRune(b[i+3:]); low >= 0xdc00 && low < 0xe000 {
				r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
				i += 6
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, nil
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func hexRune(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

// AppendString appends s as a JSON string with its quotes.
func AppendString(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for len(s) > 0 {
		c := s[0]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(s)
			dst, s = utf8.AppendRune(dst, r), s[n:]
			continue
		}
		s = s[1:]
	}
	return append(dst, '"')
}

// AppendFixed appends v with so many decimals, 0 to 9, rounded half away from
// zero. It is several times as fast as strconv's 'f' format, which computes with
// numbers of any length. v must be finite.
func AppendFixed(dst []byte, v float64, decimals int) []byte {
	scale := int64(1)
	for range decimals {
		scale *= 10
	}
	scaled := v * float64(scale)
	if !(scaled > -1e15 && scaled < 1e15) { // beyond what a float64 counts exactly
		return strconv.AppendFloat(dst, v, 'f', decimals, 64)
	}
	n := int64(math.Round(scaled))
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	dst = strconv.AppendInt(dst, n/scale, 10)
	if decimals == 0 {
		return dst
	}
	dst = append(dst, '.')
	for scale /= 10; scale > 0; scale /= 10 {
		dst = append(dst, byte('0'+n/scale%10))
	}
	return dst
}
