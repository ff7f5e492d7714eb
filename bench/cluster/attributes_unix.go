//go:build unix && !linux

package cluster

import "syscall"

// attributes give a node a process group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
