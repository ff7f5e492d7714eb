//go:build !unix

package children

import "syscall"

// attributes are the system's own.
func attributes() *syscall.SysProcAttr { return nil }

// InMemory says whether a directory is known to lie in memory, where fsync costs nothing.
func InMemory(string) bool { return false }
