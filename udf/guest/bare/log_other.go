//go:build !wasip1

package bare

import "os"

// Log writes a line to the node's log; outside of a node, to standard error.
func Log(msg string) { os.Stderr.WriteString("locus guest: " + msg + "\n") }
