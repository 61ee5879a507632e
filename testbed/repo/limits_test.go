package repo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// limited are the packages whose limits are keys of the file.
var limited = []string{"kafka", "group", "txn", "quota", "auth", "topic"}

// limitName tells a limit among the fields of Options and Limits.
var limitName = regexp.MustCompile(`^(Max|Min)[A-Z]|(Timeout|Interval|Delay)$`)

// Every limit that a part takes in its Options is a key of the configuration: the
// command sets it from the file.
func TestLimitsHaveKeys(t *testing.T) {
	set := map[string]bool{}
	for _, f := range parsedFiles(t, "cmd/weir") {
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok {
				addKeys(set, lit)
			}
			return true
		})
	}
	found := 0
	for _, pkg := range limited {
		for _, name := range limitFields(t, "appliance/"+pkg) {
			found++
			if !set[pkg+"."+name] {
				t.Errorf("%s: no key of weir.yaml sets the limit %s: add one to firmware-config and set it in cmd/weir/options.go", pkg, name)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d limits were found: does the test still know where they are?", found)
	}
}

// addKeys notes what a literal of a part's Options or Limits sets, as "pkg.Field".
func addKeys(set map[string]bool, lit *ast.CompositeLit) {
	of, ok := lit.Type.(*ast.SelectorExpr)
	if !ok || of.Sel.Name != "Options" && of.Sel.Name != "Limits" {
		return
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			pkg := of.X.(*ast.Ident).Name
			if pkg == "appliance" {
				pkg = "topic" // its limits are the appliance's, by the same names
			}
			set[pkg+"."+kv.Key.(*ast.Ident).Name] = true
		}
	}
}

// limitFields are the limits in the Options and Limits of a package.
func limitFields(t *testing.T, folder string) (names []string) {
	for _, f := range parsedFiles(t, folder) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "Options" && spec.Name.Name != "Limits" {
				return true
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					if limitName.MatchString(name.Name) {
						names = append(names, name.Name)
					}
				}
			}
			return true
		})
	}
	return names
}

func parsedFiles(t *testing.T, folder string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}
