package site

import "syscall"

// processAttributes puts the child into a process group of its own, so that a
// Ctrl-C in the terminal reaches only the testbed, which then stops it in order;
// and lets it die with the testbed, so that a killed test leaves nothing behind.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
