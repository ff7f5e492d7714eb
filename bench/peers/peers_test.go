package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/children"
)

// server runs one etcd server until the test ends, and returns its address.
func server(t *testing.T) string {
	t.Helper()
	addrs, err := children.FreeAddresses(2)
	require.NoError(t, err)
	c, err := config("etcd1", t.TempDir(), addrs[0], addrs[1], "")
	require.NoError(t, err)
	c.LogLevel = "fatal"
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- serveUntil(ctx, c, func() error { close(up); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	select {
	case <-up:
	case err := <-ended:
		ended <- err
		t.Fatal("etcd did not start")
	}
	return addrs[0]
}

// TestServerKeepsItsPromise: what is compared has the durability that is printed.
func TestServerKeepsItsPromise(t *testing.T) {
	c, err := config("a", t.TempDir(), "127.0.0.1:1", "127.0.0.1:2", "a=127.0.0.1:2,b=127.0.0.1:3")
	require.NoError(t, err)
	require.False(t, c.UnsafeNoFsync)
	require.Equal(t, "a=http://127.0.0.1:2,b=http://127.0.0.1:3", c.InitialCluster)
}

func TestWorkloads(t *testing.T) {
	addr := server(t)
	target, err := openTarget([]string{addr}, 2, 30*time.Second)
	require.NoError(t, err)
	defer func() { require.NoError(t, target.close()) }()

	o := load.Defaults()
	o.Keys, o.Clients, o.Duration, o.Warmup = 1000, 8, 100*time.Millisecond, 0
	wrote := make(chan int, o.Keys)
	require.NoError(t, target.fill(t.Context(), o, func(n int) { wrote <- n }))
	close(wrote)
	sum, txns := 0, 0
	for n := range wrote {
		sum += n
		txns++
	}
	require.Equal(t, o.Keys, sum)
	require.Equal(t, (o.Keys+txnOps-1)/txnOps, txns)

	for _, name := range load.Workloads() {
		t.Run(name, func(t *testing.T) {
			o.Workload = name
			report, err := load.Run(t.Context(), target, o, nil)
			require.NoError(t, err)
			require.Empty(t, report.Errors)
			if name == "counter" {
				require.True(t, report.Counter.Exact, "%+v", report.Counter)
			}
		})
	}
}

// TestErrorsHaveKinds: an operation that is not answered in time is counted as that.
func TestErrorsHaveKinds(t *testing.T) {
	target, err := openTarget([]string{server(t)}, 1, time.Nanosecond)
	require.NoError(t, err)
	defer func() { require.NoError(t, target.close()) }()
	e := new(load.Error)
	require.ErrorAs(t, target.Put(t.Context(), []byte("a"), nil), &e)
	require.Equal(t, load.KindTimeout, e.Kind)
}

// TestLargeValuesFit: transactions stay below etcd's limit whatever the size of the values.
func TestLargeValuesFit(t *testing.T) {
	for _, size := range []int{0, 128, 100_000, load.MaxValueSize} {
		o := load.Defaults()
		o.Keys, o.ValueSize = 300, size
		work, keys := newTxns(o), 0
		for values := load.NewValues(1, size); ; {
			ops := work.take(values)
			if len(ops) == 0 {
				break
			}
			require.LessOrEqual(t, len(ops), txnOps)
			require.LessOrEqual(t, (len(ops)-1)*(size+load.KeySize), txnBytes)
			keys += len(ops)
		}
		require.Equal(t, o.Keys, keys)
	}
}
