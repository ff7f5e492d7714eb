package idle

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster/clustertest"
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

func TestOptions(t *testing.T) {
	require.NoError(t, Defaults().Validate())
	for want, o := range map[string]Options{
		"--ranges 0":    {Duration: time.Second},
		"--ranges 4001": {Ranges: MaxRanges + 1, Duration: time.Second},
		"--duration 0s": {Ranges: 1},
		"--duration 2h": {Ranges: 1, Duration: 2 * time.Hour},
	} {
		require.ErrorContains(t, o.Validate(), want)
	}
}

// TestRun measures three real processes with a few ranges, and leaves nothing.
func TestRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("starts processes, and reads /proc")
	}
	o := Defaults()
	o.Binary, o.Parent, o.Profile, o.Ranges, o.Duration = clustertest.Binary(t), t.TempDir(), t.TempDir(), 5, 2*time.Second
	o.Look = time.Second
	var told []string
	o.Tell = func(text string) { told = append(told, text) }
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, told, 4)
	require.GreaterOrEqual(t, r.Ranges, 5)
	require.Len(t, r.Nodes, 3)
	leases, all := uint64(0), 0.0
	for _, n := range r.Nodes {
		require.EqualValues(t, r.Ranges, n.Replicas)
		require.Positive(t, n.RSSAnon)
		leases += n.Leases
		all += n.CPUPercent
		require.FileExists(t, filepath.Join(o.Profile, n.Name+".pprof"))
	}
	require.LessOrEqual(t, leases, uint64(r.Ranges), "one that is moving has no holder yet")
	require.Positive(t, leases)
	require.InDelta(t, all, r.CPUPercent, 1e-6)
	require.Positive(t, r.CPUPercent)
	require.GreaterOrEqual(t, r.Seconds, 2.0)
	left, err := os.ReadDir(o.Parent)
	require.NoError(t, err)
	require.Empty(t, left)
}
