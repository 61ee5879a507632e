package compat

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the child when the test binary dies without
// its cleanups, as it does at a test timeout.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
