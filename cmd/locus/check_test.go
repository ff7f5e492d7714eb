package main

import (
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCheck hurts a cluster for a few seconds in every way, and leaves nothing.
func TestCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three nodes")
	}
	t.Parallel()
	nemesis := "kill,pause,partition,transfer,split"
	if runtime.GOOS != "linux" {
		nemesis = "kill,pause,transfer,split"
	}
	tmp := t.TempDir()
	p := spawn(t, []string{"TMPDIR=" + tmp}, "check", "--time", "8s", "--clients", "4", "--nemesis", nemesis, "--output", "json", "--verbose")
	out, err := io.ReadAll(p.out)
	require.NoError(t, err)
	require.NoError(t, p.Wait(), "%s%s", out, p.err.String())
	var s checkJSON
	require.NoError(t, json.Unmarshal(out, &s))
	require.True(t, s.OK)
	require.NotEmpty(t, s.Faults)
	require.Positive(t, s.Operations.Keys)
	require.Positive(t, s.Operations.Calls)
	require.Positive(t, s.Operations.Optimistic)
	require.Positive(t, s.Verdict.Snapshots)
	require.Positive(t, s.Verdict.Again)
	require.Positive(t, s.Verdict.Registers)
	require.Equal(t, 1, strings.Count(p.err.String(), " lasted "), p.err.String())
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}
