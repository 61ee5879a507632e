//go:build !linux

package device

import "fmt"

// Find finds no device: only Linux says what was written to one.
func Find(dir string) (*Device, error) { return nil, fmt.Errorf("device: %s: %w", dir, ErrNone) }
