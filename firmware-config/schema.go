package firmwareconfig

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Key is one key of the file, for the reference page and weir config keys.
type Key struct {
	Path    string `json:"path"` // kafka.listen, routes[].topic
	Type    string `json:"type"` // what may stand there, in words
	Default string `json:"default"`
	Doc     string `json:"doc"`
	Section bool   `json:"section,omitempty"` // holds keys rather than a value
}

// Keys lists every key in the order of the file.
func Keys() []Key {
	return appendKeys(nil, reflect.ValueOf(Default()), "")
}

func appendKeys(keys []Key, v reflect.Value, path string) []Key {
	for i := range v.NumField() {
		f := newField(v.Type().Field(i), i)
		key := Key{Path: join(path, f.name), Doc: f.doc, Type: f.allowed()}
		switch elem := v.Field(i); {
		case elem.Kind() == reflect.Struct:
			key.Section = true
			keys = appendKeys(append(keys, key), elem, key.Path)
		case elem.Kind() == reflect.Slice && elem.Type().Elem().Kind() == reflect.Struct:
			key.Section = true
			entry := reflect.New(elem.Type().Elem()).Elem()
			if entry, ok := entry.Addr().Interface().(withDefaults); ok {
				entry.setDefaults()
			}
			keys = appendKeys(append(keys, key), entry, key.Path+"[]")
		default:
			switch {
			case elem.Kind() == reflect.Slice && elem.Len() == 1: // a single value stands for a list of one
				key.Default = fmt.Sprint(elem.Index(0).Interface())
			case elem.Kind() != reflect.Slice && elem.Kind() != reflect.Map:
				key.Default = fmt.Sprint(elem.Interface())
			}
			keys = append(keys, key)
		}
	}
	return keys
}

// field is one struct field seen as a key.
type field struct {
	index      int
	name, doc  string
	why        string // of its limits, for who would go beyond
	kind       reflect.Type
	min, max   string
	oneof      []string
	listener   string // the key of schemes, for listeners
	address    bool
	minN, maxN int64
}

var (
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[Duration]()
	shareType    = reflect.TypeFor[Share]()
)

func newField(sf reflect.StructField, index int) field {
	f := field{
		index: index, name: sf.Tag.Get("yaml"), doc: sf.Tag.Get("doc"), why: sf.Tag.Get("why"), kind: sf.Type,
		min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), address: sf.Tag.Get("kind") == "address",
	}
	if f.kind.Kind() == reflect.Slice {
		f.kind = f.kind.Elem()
	}
	if one := sf.Tag.Get("oneof"); one != "" {
		f.oneof = strings.Split(one, "|")
	}
	f.listener = sf.Tag.Get("listener")
	if f.min != "" {
		f.minN, f.maxN = f.mustNumber(f.min), f.mustNumber(f.max)
	}
	return f
}

func (f *field) mustNumber(s string) int64 {
	n, err := f.number(s)
	if err != nil {
		panic("firmwareconfig: internal error: limit of key " + f.name + ": " + err.Error())
	}
	return n
}

// number reads a whole number, Size or Duration, whichever the key holds.
func (f *field) number(s string) (int64, error) {
	switch f.kind {
	case sizeType:
		n, err := ParseSize(s)
		return int64(n), err
	case durationType:
		n, err := ParseDuration(s)
		return int64(n), err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("'%s' is not a whole number", s)
	}
	return n, nil
}

// set stores text in v after the checks that its type and tags ask for.
func (f *field) set(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("'%s' is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.String:
		if err := f.checkText(text); err != nil {
			return err
		}
		v.SetString(text)
	default:
		n, err := f.number(text)
		if err != nil {
			return fmt.Errorf("%w (allowed: %s to %s)", err, f.min, f.max)
		}
		if n < f.minN || n > f.maxN {
			return fmt.Errorf("'%s' is out of range (allowed: %s to %s)", text, f.min, f.max)
		}
		v.SetInt(n)
	}
	return nil
}

func (f *field) checkText(text string) error {
	if len(f.oneof) > 0 && !slices.Contains(f.oneof, text) {
		return fmt.Errorf("'%s' is not one of %s", text, strings.Join(f.oneof, ", "))
	}
	if f.kind == shareType {
		_, _, err := ParseShare(Share(text))
		return err
	}
	if f.listener != "" {
		return f.checkListener(text)
	}
	if f.address && text != "" {
		return CheckAddress(text)
	}
	return nil
}

// CheckAddress tells whether text is host:port as listeners and peers want it.
func CheckAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("'%s' is not an address such as 127.0.0.1:9092 or :9092", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("'%s' has no port between 0 and 65535", text)
	}
	return nil
}

// allowed says in words what may stand in the key.
func (f *field) allowed() string {
	switch {
	case len(f.oneof) > 0:
		return "one of " + strings.Join(f.oneof, ", ")
	case f.kind == shareType:
		return "a size, or 1% to 100%"
	case f.kind == sizeType:
		return fmt.Sprintf("a size, %s to %s", Size(f.minN), Size(f.maxN))
	case f.kind == durationType:
		return fmt.Sprintf("a duration, %s to %s", Duration(f.minN), Duration(f.maxN))
	case f.kind.Kind() == reflect.Bool:
		return "true or false"
	case f.kind.Kind() == reflect.String && f.listener != "":
		return "[" + strings.Join(schemes[f.listener], ", ") + "://]host:port"
	case f.kind.Kind() == reflect.String && f.address:
		return "host:port"
	case f.kind.Kind() == reflect.String:
		return "text"
	case f.kind.Kind() == reflect.Map:
		return "keys and values"
	case f.kind.Kind() == reflect.Struct:
		return "keys and values"
	}
	return fmt.Sprintf("a whole number, %s to %s", f.min, f.max)
}

var fieldCache sync.Map // reflect.Type -> map[string]field

func fieldsOf(t reflect.Type) map[string]field {
	if m, ok := fieldCache.Load(t); ok {
		return m.(map[string]field)
	}
	m := make(map[string]field, t.NumField())
	for i := range t.NumField() {
		f := newField(t.Field(i), i)
		m[f.name] = f
	}
	fieldCache.Store(t, m)
	return m
}

// namesOf lists a section's keys in the order of the file.
func namesOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("yaml")
	}
	return names
}

// sectionsWith lists the sections that have a key of this name, for someone who
// wrote it at the wrong place.
func sectionsWith(name string) []string {
	var sections []string
	for _, k := range Keys() {
		if section, ok := strings.CutSuffix(k.Path, "."+name); ok && !strings.Contains(section, ".") {
			sections = append(sections, section)
		}
	}
	return sections
}
