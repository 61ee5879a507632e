package main

import (
	"go/parser"
	"go/token"
	"testing"
)

// The table does not rot: every mutant's text is still in the source, once, the
// result is Go, and no two are the same.
func TestMutantsApply(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	names, faults := map[string]bool{}, map[string]bool{}
	for _, m := range mutants {
		src, err := m.apply(root)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, src, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if fault := m.file + m.old + m.new; names[m.name] || faults[fault] || m.old == m.new || len(m.tests) == 0 {
			t.Errorf("%s is there twice, changes nothing or has no tests", m.name)
		} else {
			names[m.name], faults[fault] = true, true
		}
	}
	if len(mutants) == 0 {
		t.Error("no mutants")
	}
}
