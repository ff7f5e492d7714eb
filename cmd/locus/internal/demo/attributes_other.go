//go:build !unix

package demo

import (
	"os"
	"syscall"
)

// attributes are the system's own.
func attributes(bool) *syscall.SysProcAttr { return nil }

// allocated is the size of a file.
func allocated(info os.FileInfo) int64 { return info.Size() }
