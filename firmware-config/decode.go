package firmwareconfig

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxErrors is how many mistakes one load reports.
const maxErrors = 10

// decoder lays a YAML tree over a Config. It goes on after a mistake, so that
// one run shows them all. The library's own strict decoder knows neither the
// nearest name nor the range of a value, hence this walk.
type decoder struct {
	errs []error
}

func (d *decoder) err() error { return errors.Join(d.errs...) }

func (d *decoder) failf(format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, fmt.Errorf(format, args...))
	}
}

func (d *decoder) document(root ast.Node, cfg *Config) {
	if root == nil {
		return
	}
	d.section(root, reflect.ValueOf(cfg).Elem(), "")
}

// section fills a struct; path is its key, "" at the top.
func (d *decoder) section(n ast.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	d.mapping(n, path, func(key string, line int, value ast.Node) {
		f, ok := fields[key]
		if !ok {
			d.unknownKey(key, line, path, v.Type())
			return
		}
		d.value(value, v.Field(f.index), &f, join(path, key))
	})
}

// mapping calls set for each pair of n that has a value.
func (d *decoder) mapping(n ast.Node, path string, set func(key string, line int, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.failf("%s at line %d must hold keys and values, not %s", label(path), lineOf(n), describe(n))
		return
	}
	seen := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		line := lineOf(it.Key())
		key := keyText(it.Key())
		if first, dup := seen[key]; dup {
			d.failf("key '%s' at line %d is already set at line %d: remove one of them", join(path, key), line, first)
			continue
		}
		seen[key] = line
		if it.Value() == nil || it.Value().Type() == ast.NullType {
			if _, anchored := it.Key().(*ast.MergeKeyNode); !anchored {
				continue // "kafka:" with nothing below changes nothing
			}
		}
		set(key, line, it.Value())
	}
}

func (d *decoder) unknownKey(key string, line int, path string, t reflect.Type) {
	names := namesOf(t)
	hint := "known keys here: " + strings.Join(names, ", ")
	if near := nearest(key, names); near != "" {
		hint = "did you mean '" + near + "'?"
	} else if sections := sectionsWith(key); len(sections) > 0 {
		hint = "it belongs under '" + strings.Join(sections, "' or '") + "'"
	}
	d.failf("unknown key '%s' at line %d: %s", join(path, key), line, hint)
}

// value sets one key, of whatever type it is.
func (d *decoder) value(n ast.Node, v reflect.Value, f *field, path string) {
	switch {
	case v.Kind() == reflect.Struct:
		if only, ok := aloneOf(v.Type()); ok && isScalar(n) {
			d.value(n, v.Field(only.index), &only, path)
			return
		}
		d.section(n, v, path)
	case v.Kind() == reflect.Map:
		d.stringMap(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, f, path)
	default:
		text, ok := scalarText(n)
		if !ok {
			d.failf("%s at line %d must be %s, not %s", path, lineOf(n), f.allowed(), describe(n))
			return
		}
		err := f.set(v, text)
		if err != nil && f.why != "" {
			err = fmt.Errorf("%w: %s", err, f.why)
		}
		if err != nil {
			d.failf("%s at line %d: %w", path, lineOf(n), err)
		}
	}
}

func (d *decoder) stringMap(n ast.Node, v reflect.Value, path string) {
	out := map[string]string{}
	d.mapping(n, path, func(key string, line int, value ast.Node) {
		text, ok := scalarText(value)
		if !ok {
			d.failf("%s at line %d must be a single value, not %s", join(path, key), lineOf(value), describe(value))
			return
		}
		out[key] = text
	})
	if len(out) > 0 { // none is nil, as in Default: the printed form is then read back as equal
		v.Set(reflect.ValueOf(out))
	} else {
		v.SetZero()
	}
}

// list replaces the whole list: merging with a profile's would surprise. A single
// value stands for a list of one.
func (d *decoder) list(n ast.Node, v reflect.Value, f *field, path string) {
	nodes := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		nodes = seq.Values
	} else if elem := v.Type().Elem(); elem.Kind() == reflect.Struct && !(isScalar(n) && hasAlone(elem)) {
		d.failf("%s at line %d must be a list, each entry begun by '- ', not %s", path, lineOf(n), describe(n))
		return
	}
	if len(nodes) == 0 {
		v.SetZero()
		return
	}
	out := reflect.MakeSlice(v.Type(), len(nodes), len(nodes))
	for i, item := range nodes {
		if entry, ok := out.Index(i).Addr().Interface().(withDefaults); ok {
			entry.setDefaults()
		}
		at := path // of a single value
		if n.Type() == ast.SequenceType {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		d.value(item, out.Index(i), f, at)
	}
	v.Set(out)
}

// scalarText is a plain value as it was written. Strings and numbers are told
// apart by the key's type, so a site may be named 7.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func isScalar(n ast.Node) bool {
	_, ok := scalarText(n)
	return ok
}

// aloneOf is the field of a section that a single value in its place stands for.
func aloneOf(t reflect.Type) (field, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("alone") != "" {
			return newField(t.Field(i), i), true
		}
	}
	return field{}, false
}

func hasAlone(t reflect.Type) bool {
	_, ok := aloneOf(t)
	return ok
}

func keyText(k ast.MapKeyNode) string {
	if text, ok := scalarText(k); ok {
		return text
	}
	if t := k.GetToken(); t != nil {
		return t.Value
	}
	return k.String()
}

// describe names what stands in the file, for errors.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias (Weir's file has none)"
	case *ast.TagNode:
		return "a tagged value (Weir's file has no tags)"
	}
	if text, ok := scalarText(n); ok {
		if len(text) > 40 {
			text = strings.ToValidUTF8(text[:40], "") + "…"
		}
		return "'" + text + "'"
	}
	return "nothing"
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func label(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
