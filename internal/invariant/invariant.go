package invariant

import "fmt"

// Violation is the value that Check panics with, so that a test or a crash report can tell a broken
// invariant from any other panic.
type Violation struct{ Message string }

func (v *Violation) Error() string { return "invariant violated: " + v.Message }

// Check panics with a *Violation when cond is false. The arguments should name the state: who, which
// range, which values. They are evaluated, and boxed, at every call: where that is too dear (8 bytes and
// about 10 ns for an integer that is not a constant), test by an if and call Fail.
func Check(cond bool, format string, args ...any) {
	if !cond {
		Fail(format, args...)
	}
}

// Fail panics with a *Violation. It is the body of an if in hot code, and the default of a switch that is
// complete.
func Fail(format string, args ...any) {
	panic(&Violation{Message: fmt.Sprintf(format, args...)})
}
