package firmwareconfig

import (
	"bytes"
	"reflect"
	"slices"
	"strconv"

	"maps"
)

// redacted stands where a secret would.
const redacted = "(hidden)"

// YAML prints the whole configuration in force. Parse of it gives c again.
func (c *Config) YAML() []byte {
	var p printer
	p.section(reflect.ValueOf(c).Elem(), 0)
	return p.buf.Bytes()
}

// Redacted is c without its secrets, for screens and support bundles.
func (c Config) Redacted() Config {
	if c.Fleet.Key != "" {
		c.Fleet.Key = redacted
	}
	c.Upstream = slices.Clone(c.Upstream)
	for i := range c.Upstream {
		if u := &c.Upstream[i]; u.Password != "" {
			u.Password = redacted
		}
	}
	c.Mirror.Flows = slices.Clone(c.Mirror.Flows)
	for i := range c.Mirror.Flows {
		if sasl := &c.Mirror.Flows[i].SASL; sasl.Password != "" {
			sasl.Password = redacted
		}
	}
	return c
}

// printer writes the few shapes that Config has. Every string is quoted as JSON
// quotes it, which YAML reads as is, so no value can turn into another type.
type printer struct {
	buf bytes.Buffer
}

func (p *printer) indent(depth int) {
	for range depth {
		p.buf.WriteString("  ")
	}
}

func (p *printer) section(v reflect.Value, depth int) {
	for i, name := range namesOf(v.Type()) {
		if i > 0 || depth == 0 {
			p.indent(depth)
		}
		p.buf.WriteString(name + ":")
		p.value(v.Field(i), depth)
	}
}

func (p *printer) value(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		p.buf.WriteByte('\n')
		p.indent(depth + 1)
		p.section(v, depth+1)
	case reflect.Map:
		p.stringMap(v.Interface().(map[string]string), depth)
	case reflect.Slice:
		p.list(v, depth)
	default:
		p.buf.WriteString(" " + scalar(v) + "\n")
	}
}

func (p *printer) stringMap(m map[string]string, depth int) {
	if len(m) == 0 {
		p.buf.WriteString(" {}\n")
		return
	}
	p.buf.WriteByte('\n')
	for _, k := range slices.Sorted(maps.Keys(m)) {
		p.indent(depth + 1)
		p.buf.WriteString(quote(k) + ": " + quote(m[k]) + "\n")
	}
}

func (p *printer) list(v reflect.Value, depth int) {
	if v.Len() == 0 {
		p.buf.WriteString(" []\n")
		return
	}
	p.buf.WriteByte('\n')
	for i := range v.Len() {
		p.indent(depth + 1)
		p.buf.WriteString("- ")
		if item := v.Index(i); item.Kind() == reflect.Struct {
			p.section(item, depth+2)
		} else {
			p.buf.WriteString(scalar(item) + "\n")
		}
	}
}

func scalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Size:
		return x.String()
	case Duration:
		return x.String()
	case bool:
		return strconv.FormatBool(x)
	case string:
		return quote(x)
	case Share:
		return quote(string(x))
	}
	return strconv.FormatInt(v.Int(), 10)
}

// quote writes s so that YAML reads the same text: plain where nothing else
// could be meant, otherwise in double quotes.
func quote(s string) string {
	plain := s != "" && s != "null" && s != "true" && s != "false"
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		inner := c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c == '/' || c == ':' && i+1 < len(s)
		if !letter && (i == 0 || !inner) {
			plain = false
		}
	}
	if plain && len(s) > 4 { // short words may be YAML 1.1 booleans
		return s
	}
	return strconv.Quote(s)
}
