package locusload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/server"
	"github.com/locuskv/locus/udf"
)

// open runs a node in this process until the test ends, and opens it.
func open(t *testing.T) *client.DB {
	t.Helper()
	registry, err := udf.NewRegistry(functions.All()...)
	require.NoError(t, err)
	n, err := server.Start(t.Context(), server.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0", Insecure: true, Functions: registry, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Stop(context.Background())) })
	db, err := client.Open(t.Context(), client.Options{Addrs: []string{n.Addr()}, Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestWorkloads(t *testing.T) {
	t.Parallel()
	db := open(t)
	o := load.Defaults()
	o.Keys, o.Clients, o.Duration, o.Warmup = 1000, 8, 100*time.Millisecond, 0
	require.NoError(t, Prepare(t.Context(), db, "bench", 4, nil))
	require.NoError(t, Prepare(t.Context(), db, "bench", 4, nil), "a second time")
	ks := db.Keyspace("bench")
	require.NoError(t, Fill(t.Context(), ks, o, nil))
	leases, err := Leases(t.Context(), db, "bench")
	require.NoError(t, err)
	require.Equal(t, map[client.StoreID]int{1: 4}, leases)

	for _, name := range load.Workloads() {
		t.Run(name, func(t *testing.T) {
			o.Workload = name
			report, err := load.Run(t.Context(), NewTarget(ks), o, nil)
			require.NoError(t, err)
			require.Empty(t, report.Errors)
			if name == "counter" {
				require.True(t, report.Counter.Exact, "%+v", report.Counter)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	for _, n := range []int{-1, 0, MaxRanges + 1} {
		require.ErrorContains(t, Prepare(t.Context(), nil, "bench", n, nil), "--ranges")
	}
}

// TestKinds: what users must be able to tell apart is counted apart.
func TestKinds(t *testing.T) {
	for want, err := range map[string]error{
		"ambiguous":        &client.AmbiguousError{Cause: context.DeadlineExceeded},
		load.KindTimeout:   fmt.Errorf("put: %w", context.DeadlineExceeded),
		"overloaded":       &client.OverloadedError{},
		"unavailable":      &client.UnavailableError{},
		"no such keyspace": &client.KeyspaceNotFoundError{},
		"no such function": &client.FunctionNotFoundError{},
		"function failed":  &client.FunctionError{},
		"limit":            &client.LimitError{},
		load.KindOther:     errors.New("something"),
	} {
		require.Equal(t, want, kind(err))
	}
	require.NoError(t, named(nil))
}

func TestMetricsAreParsed(t *testing.T) {
	m, err := parseMetrics(strings.NewReader("# HELP a b\na 1\nb{x=\"y\"} 2\nc 3.5e3\n\nd\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a": 1, "c": 3500}, m)
}

func TestCacheRate(t *testing.T) {
	rate, ok := Cache{Hits: 19, Misses: 11}.Since(Cache{Hits: 10, Misses: 10})
	require.True(t, ok)
	require.InEpsilon(t, 0.9, rate, 1e-9)
	_, ok = Cache{Hits: 1}.Since(Cache{Hits: 1})
	require.False(t, ok)
}

// TestMetricsOfANode: the hit rate is read if there is one, and nothing is told that was not measured.
func TestMetricsOfANode(t *testing.T) {
	t.Parallel()
	db := open(t)
	nodes, err := db.Nodes(t.Context())
	require.NoError(t, err)
	m, err := metricsOf(t.Context(), nodes[0].HTTPAddress)
	require.NoError(t, err)
	require.Contains(t, m, "locus_ready")
	_, has := m[hitsMetric]
	_, ok := ReadCache(t.Context(), db)
	require.Equal(t, has, ok)
}
