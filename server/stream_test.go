package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/udf"
)

// streamNode is a node with map functions of the test's own, and a client of it.
func streamNode(t *testing.T, functions ...udf.Function) *client.DB {
	t.Helper()
	r, err := udf.NewRegistry(functions...)
	require.NoError(t, err)
	o := testOptions(t, t.TempDir())
	o.Functions = r
	return openClient(t, []*Node{startNode(t, o)})
}

// load puts n records of 1 KiB into a new keyspace and returns their keys.
func load(t *testing.T, db *client.DB, o client.KeyspaceOptions, n int) (ks *client.Keyspace, want []string) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, db.CreateKeyspace(ctx, "s", o))
	ks = db.Keyspace("s")
	w := ks.BulkWriter(ctx, client.BulkOptions{})
	for i := range n {
		want = append(want, fmt.Sprintf("k%05d", i))
		require.NoError(t, w.Put([]byte(want[i]), []byte(strings.Repeat("v", 1<<10))))
	}
	require.NoError(t, w.Close())
	return ks, want
}

// copyAll emits records, each value 16 times, so that much of a stream is left when its first output arrives: the
// way to the client holds some megabytes.
var copyAll = udf.Map("copy", func(_ context.Context, _ any, b udf.Batch, emit func(string) error) error {
	for key, value := range b.All() {
		if err := emit(string(key) + "=" + strings.Repeat(string(value), 16)); err != nil {
			return err
		}
	}
	return nil
})

// TestStreamThroughSplits: while a stream runs, ranges are split and everything is overwritten; it yields each
// record once, as it was when the stream began.
func TestStreamThroughSplits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options client.KeyspaceOptions
		run     []client.RunOption
		sorted  bool
	}{
		"as they come": {client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00700")}}, nil, false},
		"key order":    {client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00700")}}, []client.RunOption{client.KeyOrder()}, true},
		"hash":         {client.KeyspaceOptions{Partition: client.PartitionHash, SplitInto: 2}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			db := streamNode(t, copyAll)
			ks, want := load(t, db, c.options, 2000)
			var got []string
			var last client.Progress
			run := append(c.run, client.OnProgress(func(p client.Progress) { last = p }))
			for record, err := range client.NewRangeFunc[any, string]("copy").Stream(ctx, ks.All(), nil, run...) {
				require.NoError(t, err)
				key, value, _ := strings.Cut(record, "=")
				require.True(t, value == strings.Repeat("v", 16<<10), "%s was overwritten", key)
				if got = append(got, key); len(got) == 1 {
					ranges, err := db.Ranges(ctx)
					require.NoError(t, err)
					for _, r := range ranges {
						if r.Keyspace == "s" {
							_, err := db.SplitRange(ctx, r.ID)
							require.NoError(t, err)
						}
					}
					w := ks.BulkWriter(ctx, client.BulkOptions{})
					for i, k := range want {
						if i%2 == 0 {
							require.NoError(t, w.Put([]byte(k), []byte("new")))
						} else {
							require.NoError(t, w.Delete([]byte(k)))
						}
					}
					require.NoError(t, w.Put([]byte("k00000a"), []byte("new")))
					require.NoError(t, w.Close())
				}
			}
			if !c.sorted {
				slices.Sort(got)
			}
			require.Equal(t, want, got)
			require.Equal(t, uint64(2000), last.Records)
			require.Greater(t, last.RangesDone, uint64(2), "the stream did not see the splits")
			require.Equal(t, last.RangesTotal, last.RangesDone)
		})
	}
}

// TestStreamThroughACrash: a node dies in the middle of a stream, whether it leads ranges, is the gateway, or
// both; the stream goes on.
func TestStreamThroughACrash(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 3)
	db := openClient(t, c.nodes())
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	eventually(t, "three replicas of everything", func() bool {
		s, err := db.Status(ctx)
		return err == nil && s.LiveNodes == 3 && s.UnderReplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	ks, want := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00500"), []byte("k01000"), []byte("k01500")}}, 2000)
	var got []string
	for record, err := range client.NewRangeFunc[any, string]("copy").Stream(ctx, ks.All(), nil) {
		require.NoError(t, err)
		key, _, _ := strings.Cut(record, "=")
		if got = append(got, key); len(got) == 100 {
			crash(t, c.nodes()[0])
		}
	}
	slices.Sort(got)
	require.Equal(t, want, got)
}

// TestLeavingAStreamEndsIt: the function's context ends on every range when the loop is left, and when the
// caller's context ends.
func TestLeavingAStreamEndsIt(t *testing.T) {
	t.Parallel()
	var running atomic.Int64
	hang := udf.Map("hang", func(ctx context.Context, _ any, b udf.Batch, emit func(string) error) error {
		for key := range b.All() {
			if string(key) == "k00000" {
				return emit("first")
			}
			break
		}
		running.Add(1)
		defer running.Add(-1)
		<-ctx.Done()
		return ctx.Err()
	})
	db := streamNode(t, hang)
	ks, _ := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00001"), []byte("k00050")}}, 100)
	for _, byContext := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var last error
		for _, err := range client.NewRangeFunc[any, string]("hang").Stream(ctx, ks.All(), nil) {
			last = err
			if !byContext && err == nil {
				eventually(t, "both other ranges are at work", func() bool { return running.Load() == 2 })
				break
			}
			cancel()
		}
		if byContext {
			require.ErrorIs(t, last, context.Canceled)
		}
		eventually(t, "the functions end", func() bool { return running.Load() == 0 })
	}
}

// TestSlowReader: while nobody reads, the nodes make no more outputs than fit between them and the client.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	big := udf.Map("big", func(_ context.Context, _ []byte, _ udf.Batch, emit func([]byte) error) error {
		made.Add(1)
		return emit(make([]byte, 1<<20))
	}, udf.Raw())
	db := streamNode(t, big)
	ks, _ := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k01000"), []byte("k02000")}}, 3000)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := 0
	for b, err := range client.NewRangeFunc[[]byte, []byte]("big", client.Raw).Stream(ctx, ks.All(), nil) {
		require.NoError(t, err)
		require.Len(t, b, 1<<20)
		if got++; got == 1 {
			// Three ranges with two pages each, one being sent, and a window of 4 MiB: whoever makes more has not
			// noticed. Waiting longer could only find more.
			for before := int64(-1); before != made.Load(); time.Sleep(100 * time.Millisecond) {
				before = made.Load()
			}
			require.LessOrEqual(t, made.Load(), int64(3*2+1+5+1))
		}
	}
	require.Equal(t, int(made.Load()), got)
	require.Greater(t, got, 30, "too few to see anything")
}
