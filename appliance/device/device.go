// Package device measures what reaches the block device under a folder: flash wears
// by that, not by what a program writes. A [Device] reads the kernel's counter, a
// [Meter] sets it against the payload that the log was given.
//
// The counter is of the device, or of the partition on it, that holds the folder:
// writes of other programs to the same one are in it. /proc/PID/io is no substitute:
// it counts pages dirtied, of large folios whole, and nothing that a file system
// writes in its own name.
package device

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrNone is returned where no block device stands for a folder: file systems in
// memory, on the network, or over several devices.
var ErrNone = errors.New("no block device of its own")

const (
	sectorBytes  = 512 // what the kernel counts in, whatever the device's own are
	writtenField = 6   // of stat: sectors written
)

// Device is the block device that holds a folder.
type Device struct {
	Name string // as the kernel has it: mmcblk0p2, loop3
	stat string
}

// Written is the bytes written to the device since the machine started.
func (d *Device) Written() (int64, error) {
	b, err := os.ReadFile(d.stat)
	if err != nil {
		return 0, fmt.Errorf("device: %w", err)
	}
	return parseWritten(string(b))
}

func parseWritten(stat string) (int64, error) {
	fields := strings.Fields(stat)
	if len(fields) <= writtenField {
		return 0, fmt.Errorf("device: %q is no statistics of a block device", stat)
	}
	n, err := strconv.ParseInt(fields[writtenField], 10, 64)
	if err != nil || n < 0 || n > 1<<62/sectorBytes {
		return 0, fmt.Errorf("device: %q is no number of sectors", fields[writtenField])
	}
	return n * sectorBytes, nil
}
