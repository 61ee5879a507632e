package main

import (
	"errors"
	"fmt"
)

// Exit codes, documented in docs/cli.md.
const (
	exitOK          = 0
	exitFailed      = 1 // the command ran and failed
	exitUsage       = 2 // wrong command line or configuration
	exitUnreachable = 3 // no appliance answers at the address
	exitNotFound    = 4 // the thing named does not exist
	exitUnhealthy   = 5 // a check found something wrong
)

// codedError is an error with the exit code it causes.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

func failf(code int, format string, args ...any) error {
	return codedError{fmt.Errorf(format, args...), code}
}

func exitCode(err error) int {
	var c codedError
	if errors.As(err, &c) {
		return c.code
	}
	return exitFailed
}
