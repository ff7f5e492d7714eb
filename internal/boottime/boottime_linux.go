package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine started, its sleep included (CLOCK_BOOTTIME). Go's own monotonic clock is
// CLOCK_MONOTONIC, which stands still while a virtual machine is suspended and others go on.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("boottime: " + err.Error()) // Linux has the clock since 2.6.39
	}
	return time.Duration(t.Nano())
}
