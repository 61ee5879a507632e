package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// parseObject reads a JSON object, gives each member to its field's function, and
// refuses unknown and repeated members, which encoding/json lets pass.
func parseObject(text []byte, fields map[string]func(json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if tok, err := dec.Token(); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	} else if tok != json.Delim('{') {
		return errors.New("it must be a JSON object")
	}
	seen := make(map[string]bool, len(fields))
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		name, _ := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("%s: it is not JSON: %w", name, err)
		}
		set := fields[name]
		switch {
		case set == nil:
			return fmt.Errorf("unknown field %q%s", name, hint(name, fields))
		case seen[name]:
			return fmt.Errorf("field %q stands there twice", name)
		}
		seen[name] = true
		if err := set(raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is something after the object")
	}
	return nil
}

// into returns a function that reads a value of *dst's type.
func into[T any](dst *T) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if string(raw) == "null" {
			return errors.New("null is no value; leave the field out")
		}
		return json.Unmarshal(raw, dst)
	}
}

// hint names the field that was probably meant, or all of them.
func hint[V any](name string, fields map[string]V) string {
	known := slices.Sorted(maps.Keys(fields))
	best, bestDistance := "", 4
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return fmt.Sprintf("; known are %q", known)
}

// distance is the number of letters to change, add or drop (Levenshtein); names
// longer than 64 bytes are near to nothing.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var row [65]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
