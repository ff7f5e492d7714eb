package flights

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
	"github.com/locuskv/locus/examples/flights"
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

// TestCluster imports the file into a cluster of three processes with the commands that users have, runs
// the function as WebAssembly over several ranges, and wants the other program's answer.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	path := *file
	if path == "" {
		path = sampleFile(t)
	}
	want := independent(t, path)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := clustertest.New(t, cluster.Options{}, false)
	require.NoError(t, c.Start(ctx, 3))
	module := filepath.Join(t.TempDir(), "flights.wasm")
	require.NoError(t, os.WriteFile(module, flights.Module, 0o600))
	for _, command := range [][]string{
		{"keyspace", "create", "flights", "--split-at", "D,L,P"},
		{"import", path, "-k", "flights", "--key", "origin/date:10/seq", "--timeout", "0"},
		{"fn", "register", flights.FunctionName, module},
	} {
		_, err := c.Command(ctx, command...)
		require.NoError(t, err)
	}
	out, err := c.Command(ctx, "fn", "run", flights.FunctionName, "-k", "flights", "--timeout", "5m")
	require.NoError(t, err)
	var got []flights.Airport
	require.NoError(t, json.Unmarshal(out, &got))
	require.Equal(t, want, got)
	t.Logf("%d origins, equal to the last bit", len(got))
}
