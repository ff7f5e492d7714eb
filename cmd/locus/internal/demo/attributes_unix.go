//go:build unix && !linux

package demo

import (
	"os"
	"syscall"
)

// attributes give a node a session of its own, so that the terminal's Ctrl-C and hang-up reach the demo
// alone, which then ends the nodes itself.
func attributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// allocated is what a file takes on disk: sparse files and preallocated ones count what they hold.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512 // the unit of st_blocks, whatever the file system's own
	}
	return info.Size()
}
