package invariant

import "fmt"

// Violation is the value that Check panics with, so that a test or a crash report can tell a broken
// invariant from any other panic.
type Violation struct{ Message string }

func (v *Violation) Error() string { return "invariant violated: " + v.Message }

// Check panics with a *Violation when cond is false. The arguments should name the state: who, which
// range, which values. They are evaluated at every call, so they must be cheap; the text is made only when
// it is needed.
func Check(cond bool, format string, args ...any) {
	if !cond {
		fail(format, args)
	}
}

// fail is apart, so that Check is inlined.
func fail(format string, args []any) {
	panic(&Violation{Message: fmt.Sprintf(format, args...)})
}
