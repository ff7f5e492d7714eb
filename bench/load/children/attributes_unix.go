//go:build unix && !linux

package children

import "syscall"

// attributes give a child a session of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// InMemory says whether a directory is known to lie in memory, where fsync costs nothing.
func InMemory(string) bool { return false }
