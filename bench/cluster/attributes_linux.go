package cluster

import "syscall"

// attributes give a node a process group of its own, and the kernel's promise to kill it when the test
// dies by whatever means.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
