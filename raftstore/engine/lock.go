package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile names the holder of the lock, for people. The lock itself is on the directory, and the kernel
// lets go of it however the process ends.
const lockFile = "LOCK"

// dirLock is the right to be the only process in a directory. It is the lock that Badger's own tools take.
type dirLock struct {
	dir *os.File
	pid string // path
}

// lockDir makes the directory if it is missing, and locks it.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	pid := filepath.Join(dir, lockFile)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // read only
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &OpenError{Dir: dir, Detail: holder(pid), Err: ErrLocked}
		}
		return nil, &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	if err := os.WriteFile(pid, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		_ = f.Close() // read only
		return nil, &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	return &dirLock{dir: f, pid: pid}, nil
}

func (l *dirLock) release() error {
	// The name first: once the lock is free another process may have written its own.
	return errors.Join(os.Remove(l.pid), l.dir.Close())
}

// holder describes the process that holds a lock, as far as can be known.
func holder(pidFile string) string {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return "process unknown"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return "process unknown"
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
}
