package firmwareconfig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFileBytes bounds the file. A configuration of every key with a hundred
// flows takes a third of it.
const MaxFileBytes = 64 << 10

// maxDepth bounds the nesting of brackets and of "- - -" before the parser, which
// recurses, sees the file. The deepest key is four levels down; the rest is room
// for brackets in comments, which are counted too.
const maxDepth = 200

// Load reads the file at path over the board profile over the defaults, and
// checks the outcome. An empty path loads the profile and the defaults alone.
// The error lists every mistake found, one a line, each with its line number.
func Load(path string) (Config, error) { return load(path, false) }

// LoadInsecure is Load with insecure_lan set, whatever the file says of it.
func LoadInsecure(path string) (Config, error) { return load(path, true) }

func load(path string, insecureLAN bool) (Config, error) {
	if path == "" {
		return parse(nil, insecureLAN)
	}
	data, err := readFile(path)
	if err != nil {
		return Config{}, err
	}
	cfg, err := parse(data, insecureLAN)
	if err != nil {
		return Config{}, prefixed(filepath.Base(path), err)
	}
	return cfg, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("configuration file %s does not exist: check --config", path)
		}
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration %s: %w", path, err)
	}
	return data, nil
}

// Parse is Load for a file already in memory.
func Parse(data []byte) (Config, error) { return parse(data, false) }

// Shown reads what a running appliance shows of its configuration (Redacted): secrets are
// hidden in it, so it is not checked as a whole.
func Shown(data []byte) (Config, error) { return decode(data) }

func parse(data []byte, insecureLAN bool) (Config, error) {
	cfg, err := decode(data)
	if err != nil {
		return Config{}, err
	}
	cfg.InsecureLAN = cfg.InsecureLAN || insecureLAN
	if err := cfg.Validate(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// decode lays the text over its board profile.
func decode(data []byte) (Config, error) {
	root, err := parseYAML(data)
	if err != nil {
		return Config{}, err
	}
	cfg := Default()
	if name := profileOf(root); name != "" {
		cfg.Profile = name
	}
	if cfg.Profile == "auto" {
		cfg.Profile = DetectProfile()
	}
	if err := applyProfile(&cfg); err != nil {
		return Config{}, err
	}
	resolved := cfg.Profile
	d := decoder{}
	d.document(root, &cfg)
	cfg.Profile = resolved
	if err := d.err(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// parseYAML turns the text into a tree; nil for an empty file.
func parseYAML(data []byte) (ast.Node, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("the file is larger than %s", Size(MaxFileBytes))
	}
	if err := checkText(data); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(err)
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, fmt.Errorf("line %d: a second document begins here: keep one document and remove '---'", lineOf(doc.Body))
		}
		root = doc.Body
	}
	return root, nil
}

// checkText refuses what the parser need not see: control characters and
// nesting deeper than any key.
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the file is not UTF-8 text: is this a YAML file?")
	}
	line, depth, dashes := 1, 0, 0
	for _, c := range data {
		switch {
		case c == '\n':
			line++
			dashes = 0
		case c == '-':
			dashes++
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth = max(0, depth-1)
		case c < ' ' && c != '\t' && c != '\r':
			return fmt.Errorf("line %d: byte 0x%02x is not text: is this a YAML file?", line, c)
		case c != ' ':
			dashes = 0
		}
		if depth > maxDepth || dashes > maxDepth {
			return fmt.Errorf("line %d: nested more than %d deep", line, maxDepth)
		}
	}
	return nil
}

// syntaxError keeps the parser's line and sentence and drops its drawing.
func syntaxError(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
		message := y.GetMessage()
		if strings.Contains(message, "'\t' that cannot start any token") {
			message = "indent with spaces, not with tabs"
		}
		return fmt.Errorf("line %d: not valid YAML: %s", y.GetToken().Position.Line, message)
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("not valid YAML: %s", first)
}

// prefixed puts the file's name before each line of err.
func prefixed(name string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = name + ": " + lines[i]
	}
	return errors.New(strings.Join(lines, "\n"))
}
