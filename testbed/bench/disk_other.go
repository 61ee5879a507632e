//go:build !linux

package main

import "runtime"

func fileSystemType(string) (string, error) { return "of " + runtime.GOOS, nil }

func (m *image) flush() error { return errNoImage }

// openFiles is a guess that small systems meet.
func openFiles(uint64) uint64 { return 1024 }
