package children

import "syscall"

// attributes give a child a session of its own, and the kernel's promise to kill it when the parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// tmpfs is the type of file systems in memory (TMPFS_MAGIC of statfs(2)).
const tmpfs = 0x01021994

// InMemory says whether a directory is known to lie in memory, where fsync costs nothing.
func InMemory(dir string) bool {
	var s syscall.Statfs_t
	return syscall.Statfs(dir, &s) == nil && int64(s.Type) == tmpfs
}
