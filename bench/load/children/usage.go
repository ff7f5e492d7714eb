package children

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process takes.
type Usage struct {
	// Anon is its anonymous resident memory in bytes: what it holds for itself. Mapped is the resident part of
	// files that it has mapped, which the kernel can drop.
	Anon, Mapped int64
	// CPU is the time that it has run so far, in user and system mode.
	CPU time.Duration
}

// Add is the sum.
func (u Usage) Add(v Usage) Usage { return Usage{u.Anon + v.Anon, u.Mapped + v.Mapped, u.CPU + v.CPU} }

// Usage reads what the process takes; false if it does not run, or where the system does not tell (anywhere
// but on Linux).
func (p *Process) Usage() (Usage, bool) {
	if !p.Running() {
		return Usage{}, false
	}
	return UsageOf(p.PID())
}

// UsageOf is Usage for any process, this one too.
func UsageOf(pid int) (Usage, bool) {
	status, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	stat, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err1 != nil || err2 != nil {
		return Usage{}, false
	}
	anon, ok1 := kilobytes(string(status), "RssAnon:")
	mapped, ok2 := kilobytes(string(status), "RssFile:")
	cpu, ok3 := cpuTime(string(stat))
	return Usage{anon, mapped, cpu}, ok1 && ok2 && ok3
}

// kilobytes reads a line like "RssAnon:    1234 kB", in bytes.
func kilobytes(status, name string) (int64, bool) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0, false
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime adds the fields utime and stime, 14 and 15 of proc_pid_stat(5). The name in the second may hold
// anything, so the counting begins behind its bracket.
func cpuTime(stat string) (time.Duration, bool) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, err1 == nil && err2 == nil
}
