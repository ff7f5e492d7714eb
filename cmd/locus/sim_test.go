package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The same seeds give the same summary, which is the last line, but for how long it took.
func TestSim(t *testing.T) {
	t.Parallel()
	line := strings.Fields("sim --seeds 3 --first-seed 4 --steps 60")
	a := cli(t, nil, line...)
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `^3 seeds from 4: .* simulated, steps \d+, operations 180, elections .*; in .*s, [0-9.]+ seeds a second\n$`, a.out)
	summary := func(out string) string {
		sum, _, _ := strings.Cut(out, "; in ")
		return sum
	}
	require.Equal(t, summary(a.out), summary(cli(t, nil, append(line, "--parallel", "1")...).out))
}

func TestSimWrongUse(t *testing.T) {
	for _, line := range []string{"sim --seeds 0", "sim --steps 0", "sim --parallel -1", "sim x"} {
		a := cli(t, nil, strings.Fields(line)...)
		require.Equal(t, 1, a.code, line)
		require.NotEmpty(t, a.err, line)
		require.Empty(t, a.out, line)
	}
}
