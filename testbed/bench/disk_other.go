//go:build !linux

package main

import "runtime"

func fileSystemType(string) (string, error) { return "of " + runtime.GOOS, nil }

func (m *image) flush() error { return errNoImage }
