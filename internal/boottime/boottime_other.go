//go:build !linux

package boottime

import "time"

var started = time.Now()

// Now is the time since the process started, on the monotonic clock of the Go runtime.
//
// NB: on systems whose monotonic clock stands still during sleep, a node that slept may believe for a moment in a
// lease that has run out. Run such nodes with reads by index.
func Now() time.Duration { return time.Since(started) }
