package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// mutant is one fault put into the source.
type mutant struct {
	name     string
	file     string // below the root of the module
	old, new string // old must be in the file exactly once
	tests    []suite
}

// suite is tests that are to notice.
type suite struct {
	pkg  string
	run  string // regular expression of tests; empty: all
	args []string
}

// testTimeout ends a mutant that makes a test wait for ever. That is noticed too.
const testTimeout = "240s"

// apply is the mutated source.
func (m mutant) apply(root string) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s has %q %d times, want it once: bring the table of mutants up to date", m.file, m.old, n)
	}
	return bytes.Replace(src, []byte(m.old), []byte(m.new), 1), nil
}

// run runs the mutant's suites until one fails.
func (m mutant) run(root string) result {
	r := result{mutant: m}
	dir, err := os.MkdirTemp("", "weir-mutant-")
	if err != nil {
		r.err = err
		return r
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	for _, s := range m.tests {
		if r.err = err; err != nil || r.killer != "" {
			break
		}
		r.killer, err = s.test(root, overlay)
	}
	r.err = err
	return r
}

// overlay writes the mutated file and what tells the compiler to take it.
func (m mutant) overlay(root, dir string) (string, error) {
	src, err := m.apply(root)
	if err != nil {
		return "", err
	}
	mutated, file := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	replace := map[string]map[string]string{"Replace": {filepath.Join(root, filepath.FromSlash(m.file)): mutated}}
	b, err := json.Marshal(replace)
	return file, errors.Join(err, os.WriteFile(mutated, src, 0o600), os.WriteFile(file, b, 0o600))
}

// failedTest finds the first test, not subtest, that failed.
var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// test runs the suite, on the mutated source if there is an overlay, and returns the name of the test that failed, or "".
func (s suite) test(root, overlay string) (killer string, err error) {
	args := []string{"test", "-count=1", "-short", "-failfast", "-timeout", testTimeout}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if s.run != "" {
		args = append(args, "-run", s.run)
	}
	cmd := exec.Command("go", append(append(args, s.pkg), s.args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &exit):
		return "", err
	case bytes.Contains(out, []byte("[build failed]")), bytes.Contains(out, []byte("[setup failed]")):
		return "", fmt.Errorf("does not compile: %s", firstLines(out))
	}
	if found := failedTest.FindSubmatch(out); found != nil {
		return s.pkg + " " + string(found[1]), nil
	}
	if bytes.Contains(out, []byte("panic: test timed out")) {
		return s.pkg + " (it hangs)", nil
	}
	if bytes.Contains(out, []byte("panic:")) || bytes.Contains(out, []byte("fatal error:")) {
		return s.pkg + " (it panics)", nil
	}
	return "", fmt.Errorf("go test: %w: %s", err, firstLines(out))
}

func firstLines(out []byte) string {
	lines := strings.SplitN(string(out), "\n", 4)
	return strings.Join(lines[:min(3, len(lines))], " | ")
}

// moduleRoot is the folder of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above")
		}
		dir = up
	}
}
