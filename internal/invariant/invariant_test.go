package invariant

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	require.NotPanics(t, func() { Check(true, "never seen %d", 1) })

	defer func() {
		err, ok := recover().(error)
		require.True(t, ok)
		var v *Violation
		require.True(t, errors.As(err, &v))
		require.Equal(t, "range r7: timestamp 3 after 4", v.Message)
		require.Equal(t, "invariant violated: range r7: timestamp 3 after 4", err.Error())
	}()
	Check(3 > 4, "range %s: timestamp %d after %d", "r7", 3, 4)
}

// TestEnabled: the constant follows the build, which the files' constraints decide.
func TestEnabled(t *testing.T) { require.Equal(t, wantEnabled, Enabled) }

func TestCheckAllocatesNothingWhenItHolds(t *testing.T) {
	if Enabled {
		t.Skip("instrumented builds allocate")
	}
	n := 1
	require.Zero(t, testing.AllocsPerRun(100, func() { Check(n > 0, "plain text") }))
}
