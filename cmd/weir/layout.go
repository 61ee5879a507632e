package main

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// printer appends one record to what is printed.
type printer func(b []byte, r *kgo.Record) []byte

const layoutHelp = `text (the value), json (one object a line) or a layout: %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v or %s value, %K and %V their lengths (-1 for none), %h headers, %% a percent sign, \n \t \r \0 \\ \xHH`

// newPrinter is the printer of -f.
func newPrinter(format string) (printer, error) {
	switch {
	case format == "text":
		return printText, nil
	case format == "json":
		return printRecordJSON, nil
	case !strings.ContainsRune(format, '%'):
		return nil, failf(exitUsage, `-f '%s' is neither text nor json nor a layout with %%, such as '%%k %%v\n'`, format)
	}
	return parseLayout(format)
}

func printText(b []byte, r *kgo.Record) []byte { return append(append(b, r.Value...), '\n') }

// layoutVerbs are kcat's, and %v and %V beside its %s and %S.
var layoutVerbs = map[byte]printer{
	't': func(b []byte, r *kgo.Record) []byte { return append(b, r.Topic...) },
	'p': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, int64(r.Partition), 10) },
	'o': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
	'T': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10) },
	'k': func(b []byte, r *kgo.Record) []byte { return append(b, r.Key...) },
	'v': func(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) },
	's': func(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) },
	'K': func(b []byte, r *kgo.Record) []byte { return appendLen(b, r.Key) },
	'V': func(b []byte, r *kgo.Record) []byte { return appendLen(b, r.Value) },
	'S': func(b []byte, r *kgo.Record) []byte { return appendLen(b, r.Value) },
	'h': appendHeaders,
	'%': func(b []byte, _ *kgo.Record) []byte { return append(b, '%') },
}

func appendLen(b, field []byte) []byte {
	if field == nil {
		return append(b, "-1"...)
	}
	return strconv.AppendInt(b, int64(len(field)), 10)
}

func appendHeaders(b []byte, r *kgo.Record) []byte {
	for i, h := range r.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, h.Key...), '='), h.Value...)
	}
	return b
}

// parseLayout makes a printer of each piece of a layout.
func parseLayout(layout string) (printer, error) {
	var pieces []printer
	var literal []byte
	flush := func() {
		if len(literal) > 0 {
			text := literal
			literal = nil
			pieces = append(pieces, func(b []byte, _ *kgo.Record) []byte { return append(b, text...) })
		}
	}
	for i := 0; i < len(layout); i++ {
		switch c := layout[i]; {
		case c == '\\':
			char, n, ok := unescape(layout[i:])
			if !ok {
				return nil, failf(exitUsage, `-f '%s': '%s' is no escape: there are \n \t \r \0 \\ and \xHH`, layout, layout[i:min(len(layout), i+2)])
			}
			literal = append(literal, char)
			i += n - 1
		case c == '%':
			i++
			if i == len(layout) || layoutVerbs[layout[i]] == nil {
				return nil, failf(exitUsage, "-f '%s': '%s' is nothing that a record has: there are %%t %%p %%o %%T %%k %%v %%s %%K %%V %%h and %%%%", layout, layout[i-1:min(len(layout), i+1)])
			}
			flush()
			pieces = append(pieces, layoutVerbs[layout[i]])
		default:
			literal = append(literal, c)
		}
	}
	flush()
	return func(b []byte, r *kgo.Record) []byte {
		for _, piece := range pieces {
			b = piece(b, r)
		}
		return b
	}, nil
}

// unescape reads the escape that text begins with, and how long it is.
func unescape(text string) (char byte, n int, ok bool) {
	if len(text) < 2 {
		return 0, 0, false
	}
	if text[1] == 'x' && len(text) >= 4 {
		v, err := strconv.ParseUint(text[2:4], 16, 8)
		return byte(v), 4, err == nil
	}
	i := strings.IndexByte(`ntr0\`, text[1])
	if i < 0 {
		return 0, 0, false
	}
	return "\n\t\r\x00\\"[i], 2, true
}

// recordJSON is one record for machines, as consume -f json prints and produce -f
// json reads it. Bytes that are not UTF-8 go into the base64 fields instead.
type recordJSON struct {
	Topic       string            `json:"topic"`
	Partition   *int32            `json:"partition,omitempty"`
	Offset      int64             `json:"offset"`
	Timestamp   *time.Time        `json:"timestamp,omitempty"`
	Key         *string           `json:"key"`
	Value       *string           `json:"value"`
	KeyBase64   string            `json:"key_base64,omitempty"`
	ValueBase64 string            `json:"value_base64,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

func printRecordJSON(b []byte, r *kgo.Record) []byte {
	at := r.Timestamp.UTC()
	out := recordJSON{Topic: r.Topic, Partition: &r.Partition, Offset: r.Offset, Timestamp: &at}
	out.Key, out.KeyBase64 = textOrBase64(r.Key)
	out.Value, out.ValueBase64 = textOrBase64(r.Value)
	for _, h := range r.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[h.Key] = strings.ToValidUTF8(string(h.Value), "\uFFFD")
	}
	return append(appendJSON(b, out), '\n')
}

// appendJSON is json.Marshal that leaves <, > and & as they are.
func appendJSON(b []byte, v any) []byte {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("weir: internal error: " + err.Error()) // strings and numbers always have a form
	}
	return append(b, strings.TrimSuffix(text.String(), "\n")...)
}

func textOrBase64(b []byte) (*string, string) {
	if b == nil {
		return nil, ""
	}
	if !utf8.Valid(b) {
		return nil, base64.StdEncoding.EncodeToString(b)
	}
	text := string(b)
	return &text, ""
}

func fromTextOrBase64(text *string, b64 string) ([]byte, error) {
	if b64 != "" {
		return base64.StdEncoding.DecodeString(b64)
	}
	if text == nil {
		return nil, nil
	}
	return []byte(*text), nil
}
