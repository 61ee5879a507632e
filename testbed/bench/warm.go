package main

import (
	"errors"
	"os"
)

const warmMiB = 512

// warm leaves the kernel free pages that were in use a moment ago, for what a turn
// writes. A virtual machine's host takes back those that are free for some seconds;
// whoever touches such a page first pays a fault in the host, several times what the
// copy into it costs, and a turn would measure the faults of a page cache that grows.
func warm(dir string) error {
	f, err := os.CreateTemp(dir, "warm")
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for range warmMiB {
		if _, err := f.Write(block); err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
	}
	return os.Remove(f.Name())
}

// warmed is a side whose turns begin with warm pages.
func (o options) warmed(s side) side {
	return side{s.name, func() ([]float64, error) {
		if err := warm(o.dir); err != nil {
			return nil, err
		}
		return s.run()
	}}
}
