// Package repo_test holds the tests of the repository itself: where its import
// arrows run, and what every package and file must be like.
package repo_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	module = "github.com/weirmq/weir"
	root   = "../.."

	maxFileLines    = 1000 // nobody reads more in one sitting
	reviewFileLines = 700  // beyond it a file is in the list below, with the reason
)

// longFiles are files over reviewFileLines that are right as they are.
var longFiles = map[string]string{}

// file is one Go file, with what the tests ask of it.
type file struct {
	path, folder string // slash separated, from the repository's root
	test         bool
	imports      []string // of this module, without its path
	pkg          string
	doc          bool // it holds a package comment
	source       []byte
	name         string
}

func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			f, err := parseFile(path)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files: is %s the repository?", len(files), root)
	}
	return files
}

func parseFile(path string) (file, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return file{}, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return file{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return file{}, err
	}
	rel = filepath.ToSlash(rel)
	f := file{
		path: rel, folder: filepath.ToSlash(filepath.Dir(rel)), name: filepath.Base(rel), test: strings.HasSuffix(rel, "_test.go"),
		pkg: parsed.Name.Name, doc: parsed.Doc != nil && !generated(parsed), source: source,
	}
	for _, spec := range parsed.Imports {
		if rest, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/"); ok {
			f.imports = append(f.imports, rest)
		}
	}
	return f, nil
}

func generated(f *ast.File) bool { return ast.IsGenerated(f) }

func TestOnePackageCommentEach(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		if _, seen := docs[f.folder]; !seen {
			docs[f.folder] = nil
		}
		if f.doc {
			docs[f.folder] = append(docs[f.folder], f.path)
		}
	}
	for folder, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments, want exactly one: %v", folder, len(files), files)
		}
	}
}

func TestFilesCanBeReadInOneSitting(t *testing.T) {
	for _, f := range goFiles(t) {
		lines := bytes.Count(f.source, []byte("\n"))
		_, reviewed := longFiles[f.path]
		switch {
		case lines > maxFileLines:
			t.Errorf("%s has %d lines, the limit is %d: split it by idea", f.path, lines, maxFileLines)
		case lines > reviewFileLines && !reviewed && !f.test:
			t.Errorf("%s has %d lines: split it, or say in longFiles why it is right as it is", f.path, lines)
		}
	}
}

// suffix is what the go command takes for a GOOS, a GOARCH or a test: a file so
// named silently vanishes from other builds.
var suffix = regexp.MustCompile(`_(aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|netbsd|openbsd|plan9|solaris|wasip1|windows|zos|` +
	`386|amd64|arm|arm64|loong64|mips|mipsle|mips64|mips64le|ppc64|ppc64le|riscv64|s390x|sparc64|wasm)(_test)?\.go$`)

func TestNoAccidentalBuildSuffix(t *testing.T) {
	for _, f := range goFiles(t) {
		m := suffix.FindStringSubmatch(f.name)
		if m == nil || meant(f, m[1]) {
			continue
		}
		t.Errorf("%s is built for %s only, by its name: rename it, or write //go:build %s to say that it is meant", f.path, m[1], m[1])
	}
}

// meant tells whether a file *_other.go of the folder serves the other systems, or
// the file says by a build line that it is for one.
func meant(f file, target string) bool {
	if bytes.Contains(f.source, []byte("//go:build")) && bytes.Contains(f.source, []byte(target)) {
		return true
	}
	others, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(f.folder), "*_other.go"))
	return err == nil && len(others) > 0
}

func TestGofmt(t *testing.T) {
	for _, f := range goFiles(t) {
		formatted, err := format.Source(f.source)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(formatted, f.source) {
			t.Errorf("%s is not gofmt'ed: run gofmt -w %s", f.path, f.path)
		}
	}
}

// Names that say nothing of what a package or file provides.
func TestNamesSayWhatIsProvided(t *testing.T) {
	empty := regexp.MustCompile(`^(utils?|common|helpers?|misc|types|structs|manager|impl|base)$`)
	for _, f := range goFiles(t) {
		if empty.MatchString(f.pkg) || empty.MatchString(strings.TrimSuffix(f.name, ".go")) {
			t.Errorf("%s: the name says nothing of what it provides", f.path)
		}
	}
}
