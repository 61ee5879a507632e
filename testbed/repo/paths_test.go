package repo_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A hot path can be read in one sitting.
const (
	maxPathFiles = 8
	maxPathLines = 1500
)

// The table "Hot paths" in docs/ARCHITECTURE.md is true: its files exist, and
// each path is as short as promised.
func TestHotPathsStayShort(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "| path | files, in reading order |\n|---|---|\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no table of hot paths")
	}
	paths := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			break
		}
		paths++
		name, files, lines := strings.TrimSpace(cells[1]), strings.Fields(cells[2]), 0
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f)))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			lines += bytes.Count(b, []byte("\n"))
		}
		if len(files) > maxPathFiles || lines > maxPathLines {
			t.Errorf("%s is %d lines in %d files: at most %d in %d", name, lines, len(files), maxPathLines, maxPathFiles)
		}
	}
	if paths != 5 {
		t.Errorf("%d paths, want produce, fetch, publish, transform, mirror", paths)
	}
}
