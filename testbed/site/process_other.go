//go:build !linux

package site

import "syscall"

// processAttributes puts the child into a process group of its own, so that a
// Ctrl-C in the terminal reaches only the testbed, which then stops it in order.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
