package demo

import (
	"fmt"
	"runtime/debug"
)

// guard makes a panic of f its error: a goroutine that panics would end the demo without its cleanup.
func guard(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return f()
	}
}
