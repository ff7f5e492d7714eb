package server

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/server/gateway"
	"github.com/locuskv/locus/udf"
)

// chain is an accumulator that shows in which order records were seen: a polynomial over their hashes. Its merge is
// associative and not commutative, so a record that is seen twice, never, or in another place makes another H.
type chain struct{ H, P, N uint64 }

const chainBase = 0x9E3779B97F4A7C15

func (c chain) add(key, value []byte) chain {
	h := fnv.New64a()
	h.Write(key)
	h.Write([]byte{0})
	h.Write(value)
	return chain{c.H*chainBase + h.Sum64(), c.P * chainBase, c.N + 1}
}

func (c chain) then(o chain) chain { return chain{c.H*o.P + o.H, c.P * o.P, c.N + o.N} }

// gate lets batches through as the test's faults go on, so that runs last as long as these, however fast the machine is.
type gate struct{ permits chan struct{} }

func (g *gate) pass(ctx context.Context) error {
	select {
	case <-g.permits:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) let(n int) {
	for range n {
		select {
		case g.permits <- struct{}{}:
		default: // nobody needs more
		}
	}
}

// partBytes make parts of two batches.
const partBytes = 100 << 10

func gatedFunctions(t *testing.T, g *gate) *udf.Registry {
	t.Helper()
	r, err := udf.NewRegistry(
		udf.Range("chain", udf.Aggregate[any, chain, chain]{
			Init: func(any) (chain, error) { return chain{P: 1}, nil },
			Add: func(ctx context.Context, c chain, b udf.Batch) (chain, error) {
				if err := g.pass(ctx); err != nil {
					return c, err
				}
				for k, v := range b.All() {
					c = c.add(k, v)
				}
				return c, nil
			},
			Merge:  func(a, b chain) (chain, error) { return a.then(b), nil },
			Result: func(c chain) (chain, error) { return c, nil },
		}),
		udf.Map("each", func(ctx context.Context, _ any, b udf.Batch, emit func(string) error) error {
			if err := g.pass(ctx); err != nil {
				return err
			}
			for k, v := range b.All() {
				if err := emit(fmt.Sprintf("%s=%d", k, len(v))); err != nil {
					return err
				}
			}
			return nil
		}),
	)
	require.NoError(t, err)
	return r
}

// TestRunsThroughFaults: runs of native functions with one result, with outputs as they come, and with outputs in key order, while each
// node is crashed and started again (so the gateway is, too), ranges are split, leases move and everything is overwritten.
// Each key is in the results once, in its place, as it was at the run's timestamp. bench/kill does it with processes and WebAssembly.
func TestRunsThroughFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes, each of which crashes")
	}
	g := &gate{permits: make(chan struct{}, 1000)}
	functions := gatedFunctions(t, g)
	c := startCluster(t, 3, func(o *Options) { o.Functions, o.workBytes = functions, partBytes })
	db := openClient(t, c.nodes())
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	healthy := func() bool {
		s, err := db.Status(ctx)
		return err == nil && s.LiveNodes == 3 && s.UnderReplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	}
	eventually(t, "three replicas of everything", healthy)
	ks, want := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00900"), []byte("k01800")}}, 3000)
	truth := chain{P: 1}
	var outputs []string
	for item, err := range ks.Scan(ctx, ks.All()) {
		require.NoError(t, err)
		truth = truth.add(item.Key, item.Value)
		outputs = append(outputs, fmt.Sprintf("%s=%d", item.Key, len(item.Value)))
	}
	require.Equal(t, uint64(len(want)), truth.N)

	var runs sync.WaitGroup
	var begun atomic.Int64 // runs that have got somewhere
	progress := func(last *client.Progress) client.RunOption {
		once := sync.OnceFunc(func() { begun.Add(1) })
		return client.OnProgress(func(p client.Progress) {
			if *last = p; p.Records > 0 {
				once()
			}
		})
	}
	at, err := db.Snapshot(ctx)
	require.NoError(t, err)
	defer at.Close()
	runs.Go(func() {
		var last client.Progress
		r, err := client.NewRangeFunc[any, chain]("chain").Do(ctx, ks.All(), nil, client.AtTimestamp(at.Timestamp()), progress(&last))
		check(t, err == nil && r.Value == truth, "the run: %v, %+v and not %+v", err, r.Value, truth)
		check(t, last.Records == truth.N && r.Timestamp == at.Timestamp(), "the run counts %+v, at %s", last, r.Timestamp)
	})
	for _, o := range [][]client.RunOption{{client.KeyOrder()}, nil} {
		runs.Go(func() {
			var got []string
			var last client.Progress
			o = append(o, client.AtTimestamp(at.Timestamp()), progress(&last))
			for s, err := range client.NewRangeFunc[any, string]("each").Stream(ctx, ks.All(), nil, o...) {
				check(t, err == nil, "a stream: %v", err)
				got = append(got, s)
			}
			if len(o) == 2 {
				slices.Sort(got)
			}
			check(t, slices.Equal(got, outputs), "a stream of %d outputs, not %d", len(got), len(outputs))
			check(t, last.Records == truth.N, "a stream counts %+v", last)
		})
	}
	faults := 0
	gateways := c.nodes()
	hurt := func(what string, f func() error) {
		g.let(4)
		if err := f(); err != nil {
			t.Logf("%s: %v", what, err) // a range that moved, or was split, meanwhile
			return
		}
		faults++
	}
	eventually(t, "all runs are on their way", func() bool { g.let(1); return begun.Load() == 3 })
	for i, n := range c.nodes() {
		hurt("split", func() error { return c.splitSome(ctx, db, i) })
		hurt("transfer", func() error { return c.transferSome(ctx, db, i) })
		w := ks.BulkWriter(ctx, client.BulkOptions{})
		for j := i; j < len(want); j += 3 {
			require.NoError(t, w.Put([]byte(want[j]), []byte("overwritten")))
		}
		require.NoError(t, w.Put(fmt.Appendf(nil, "k%05d-new", i), nil))
		require.NoError(t, w.Close())
		hurt("crash", func() error {
			c.set(n.o.Data, nil)
			crash(t, n)
			g.let(4)
			back := testOptions(t, n.o.Data, c.nodes()[0].Addr())
			back.Functions, back.workBytes = functions, partBytes
			again := startNode(t, back)
			c.set(n.o.Data, again)
			gateways = append(gateways, again)
			return nil
		})
		eventually(t, "the node is back", healthy)
	}
	require.GreaterOrEqual(t, faults, 6)
	done := make(chan struct{})
	go func() { runs.Wait(); close(done) }()
	eventually(t, "the end of all runs", func() bool {
		g.let(8)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	var stats gateway.Stats
	for _, n := range gateways {
		s := n.gateway.Stats()
		stats = gateway.Stats{Runs: stats.Runs + s.Runs, Continued: stats.Continued + s.Continued, Parts: stats.Parts + s.Parts, Failed: stats.Failed + s.Failed}
	}
	t.Logf("%d faults; gateways: %+v", faults, stats)
	require.GreaterOrEqual(t, stats.Continued, uint64(3), "every run lost its gateway once at least, and went on")
}

// check is an assertion for goroutines of a test.
func check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}

// splitSome splits one of keyspace s's ranges.
func (c *testCluster) splitSome(ctx context.Context, db *client.DB, i int) error {
	r, err := some(ctx, db, i)
	if err == nil {
		_, err = db.SplitRange(ctx, r.ID)
	}
	return err
}

// transferSome moves the lease of one of keyspace s's ranges.
func (c *testCluster) transferSome(ctx context.Context, db *client.DB, i int) error {
	r, err := some(ctx, db, i+1)
	if err != nil {
		return err
	}
	for _, replica := range r.Replicas {
		if replica.Store != r.Leaseholder {
			return db.TransferRange(ctx, r.ID, replica.Store)
		}
	}
	return nil
}

func some(ctx context.Context, db *client.DB, i int) (client.RangeInfo, error) {
	all, err := db.Ranges(ctx)
	all = slices.DeleteFunc(all, func(r client.RangeInfo) bool { return r.Keyspace != "s" })
	if err != nil || len(all) == 0 {
		return client.RangeInfo{}, err
	}
	return all[i%len(all)], nil
}
