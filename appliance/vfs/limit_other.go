//go:build !linux

package vfs

// OpenFileLimit is how many files and sockets the process may have open.
func OpenFileLimit() int { return defaultOpenFileLimit }
