package compat_test

import (
	"bufio"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// collector gathers lines of several processes.
type collector struct {
	mu    sync.Mutex
	lines map[string]int // line to the member that read it first
	twice []string       // those read again since again was called
}

func (c *collector) read(member int, r io.Reader) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		c.mu.Lock()
		if _, ok := c.lines[sc.Text()]; ok {
			c.twice = append(c.twice, sc.Text())
		} else {
			c.lines[sc.Text()] = member
		}
		c.mu.Unlock()
	}
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// again is what was read again since it was called before.
func (c *collector) again() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	twice := c.twice
	c.twice = nil
	return twice
}

// readBy reports whether a member has read something first.
func (c *collector) readBy(member int) bool { return slices.Contains(c.members(), member) }

func (c *collector) members() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[int]bool{}
	for _, m := range c.lines {
		found[m] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// wait waits until n different lines were read.
func (c *collector) wait(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(limit / 2); c.count() < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d different records were read, %d were written", c.count(), n)
		}
	}
}

// waitFor waits until a line was read.
func (c *collector) waitFor(t *testing.T, line string) {
	t.Helper()
	poll(t, "the line "+line, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, read := c.lines[line]
		return read
	})
}
