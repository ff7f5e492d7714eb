//go:build !unix

package cluster

import (
	"errors"
	"os"
	"syscall"
)

// attributes are the system's own.
func attributes() *syscall.SysProcAttr { return nil }

var errNoSignals = errors.New("cluster: this system has no signals")

func pause(*os.Process) error     { return errNoSignals }
func resume(*os.Process) error    { return errNoSignals }
func terminate(*os.Process) error { return errNoSignals }
