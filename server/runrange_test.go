package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/udf"
)

// keysOf are a range function's accumulator: the keys that it saw, in the order of its merges.
var keysOf = udf.Range("keys", udf.Aggregate[any, []string, []string]{
	Init: func(any) ([]string, error) { return nil, nil },
	Add: func(_ context.Context, acc []string, b udf.Batch) ([]string, error) {
		for key := range b.All() {
			acc = append(acc, string(key))
		}
		return acc, nil
	},
	Merge:  func(a, b []string) ([]string, error) { return append(a, b...), nil },
	Result: func(acc []string) ([]string, error) { return acc, nil },
})

// TestParts: a range function is run part by part; the parts are disjoint, in order and all of it, in hash-partitioned keyspaces
// too, and the last part of a span that ends right behind a key says that there is no more.
func TestParts(t *testing.T) {
	t.Parallel()
	r, err := udf.NewRegistry(keysOf, copyAll)
	require.NoError(t, err)
	o := testOptions(t, t.TempDir())
	o.Functions = r
	n := startNode(t, o)
	db := openClient(t, []*Node{n})
	for name, options := range map[string]client.KeyspaceOptions{
		"range": {}, "hash": {Partition: client.PartitionHash, SplitInto: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			ks, want := load(t, db, options, 400)
			defer func() { require.NoError(t, db.DropKeyspace(ctx, "s")) }()
			all, err := client.NewRangeFunc[any, []string]("keys").Run(ctx, ks.All(), nil)
			require.NoError(t, err)
			require.ElementsMatch(t, want, all)

			k, ok := n.cmap.Keyspace("s")
			require.True(t, ok)
			l, ok := n.cmap.Layout(ids.KeyspaceID(k.Id))
			require.True(t, ok)
			for _, stream := range []bool{false, true} {
				span := l.All()
				if l.Partition != keys.PartitionHash {
					span.End = append(l.Encode([]byte(want[len(want)-1])), 0)
				}
				piece := n.cmap.Tile(span)[0]
				require.True(t, piece.Span.Equal(span))
				var got []string
				parts := 0
				for {
					parts++
					req := &locuspb.RunRangeRequest{
						Function: "keys", Argument: []byte("null"), Codec: locuspb.Codec_JSON, RangeId: uint64(piece.Route.Descriptor.ID),
						BoundsEpoch: piece.Route.Descriptor.Epoch.Bounds, Span: api.SpanToProto(span), Timestamp: uint64(n.clock.Now()), WorkBytes: 1,
					}
					if stream {
						req.Function, req.PageBytes = "copy", 1<<20
					}
					resp := n.runner.run(ctx, req)
					require.NoError(t, api.FromProto(resp.Error))
					require.Less(t, resp.Records, uint64(400), "a part is not all of it")
					if stream {
						for _, out := range resp.Outputs {
							key, _, _ := strings.Cut(strings.Trim(string(out), `"`), "=")
							got = append(got, key)
						}
					} else {
						var part []string
						require.NoError(t, json.Unmarshal(resp.Accumulator, &part))
						require.Len(t, part, int(resp.Records))
						got = append(got, part...)
					}
					if len(resp.Resume) == 0 {
						break
					}
					require.True(t, span.Contains(resp.Resume) && bytes.Compare(resp.Resume, span.Start) > 0)
					span.Start = resp.Resume
				}
				require.Equal(t, all, got)
				require.Greater(t, parts, 4)
			}
		})
	}
}

// TestWaitingForASlot: a request's time is that of its work; while others work it waits as long as its caller does.
func TestWaitingForASlot(t *testing.T) {
	t.Parallel()
	r, err := udf.NewRegistry(keysOf)
	require.NoError(t, err)
	o := testOptions(t, t.TempDir())
	o.Functions = r
	n := startNode(t, o)
	piece := n.cmap.Tile(defaultLayout.All())[0]
	eventually(t, "a range", func() bool {
		piece = n.cmap.Tile(defaultLayout.All())[0]
		return !piece.Hole() && piece.Route.Leaseholder != 0
	})
	request := func() *locuspb.RunRangeRequest {
		return &locuspb.RunRangeRequest{
			Function: "keys", Argument: []byte("null"), Codec: locuspb.Codec_JSON, RangeId: uint64(piece.Route.Descriptor.ID), TimeoutMs: 20_000,
			BoundsEpoch: piece.Route.Descriptor.Epoch.Bounds, Span: api.SpanToProto(piece.Span), Timestamp: uint64(n.clock.Now()), WorkBytes: 1,
		}
	}
	require.NoError(t, api.FromProto(n.runner.run(context.Background(), request()).Error))
	for range cap(n.runner.slots) {
		n.runner.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answers := make(chan *locuspb.RunRangeResponse, 2)
	ask := func(ctx context.Context) {
		req := request()
		req.TimeoutMs = 1
		answers <- n.runner.run(ctx, req)
	}
	go ask(ctx)
	go ask(context.Background())
	select {
	case a := <-answers:
		t.Fatalf("a request did not wait: %v", a.Error)
	case <-time.After(50 * time.Millisecond): // were it to fail, it would within its millisecond
	}
	cancel()
	require.ErrorIs(t, api.FromProto((<-answers).Error), context.Canceled)
	for range cap(n.runner.slots) {
		<-n.runner.slots
	}
	<-answers // in its millisecond, or not
}

// TestNewest: a run that nobody asks for its timestamp writes nothing to the log, and sees what was acknowledged before. What has expired
// by the clock it does not see, although no entry of the log says so (rule C7); and of what takes more than one part, all parts are of
// one timestamp, which can be read at again.
func TestNewest(t *testing.T) {
	t.Parallel()
	r, err := udf.NewRegistry(keysOf, udf.Range("picky", udf.Aggregate[any, int, int]{
		Init: func(any) (int, error) { return 0, nil },
		Add: func(_ context.Context, n int, b udf.Batch) (int, error) {
			for key := range b.All() {
				if string(key) == "bad" {
					return 0, errors.New("a bad record")
				}
				n++
			}
			return n, nil
		},
		Merge:  func(a, b int) (int, error) { return a + b, nil },
		Result: func(n int) (int, error) { return n, nil },
	}))
	require.NoError(t, err)
	o := testOptions(t, t.TempDir())
	o.Functions = r
	n := startNode(t, o)
	db := openClient(t, []*Node{n})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ks, want := load(t, db, client.KeyspaceOptions{}, 400)
	put := func(_ client.Timestamp, err error) { t.Helper(); require.NoError(t, err) }
	run := client.NewRangeFunc[any, []string]("keys")
	seen := func() []string {
		t.Helper()
		got, err := run.Run(ctx, ks.All(), nil)
		require.NoError(t, err)
		return got
	}
	k, ok := n.cmap.Keyspace("s")
	require.True(t, ok)
	l, ok := n.cmap.Layout(ids.KeyspaceID(k.Id))
	require.True(t, ok)
	state := func() raftstore.RangeInfo {
		info, ok := n.store.Lookup(l.All().Start)
		require.True(t, ok)
		return info
	}
	require.Equal(t, want, seen())
	before := state().Applied
	require.Equal(t, want, seen())
	require.Equal(t, before, state().Applied, "nothing is written")
	result, err := run.Do(ctx, ks.All(), nil)
	require.NoError(t, err)
	require.Greater(t, state().Applied, before, "a timestamp that can be read at again is closed")
	require.LessOrEqual(t, result.Timestamp, client.Timestamp(state().Closed))
	for i := range 20 {
		key := fmt.Sprintf("l%05d", i)
		put(ks.Put(ctx, []byte(key), []byte("v")))
		want = append(want, key)
		require.Equal(t, want, seen())
	}

	put(ks.Put(ctx, []byte("z"), []byte("v"), client.TTL(time.Hour)))
	before = state().Applied
	require.Equal(t, append(slices.Clone(want), "z"), seen())
	require.Equal(t, before, state().Applied, "it is far away")
	picky := client.NewRangeFunc[any, int]("picky")
	const ttl = 50 * time.Millisecond
	_, err = ks.Delete(ctx, []byte("z"))
	require.NoError(t, err)
	for range 5 { // a range that goes quiet has its log say what has expired: so not once, after a long wait
		put(ks.Put(ctx, []byte("bad"), []byte("v"), client.TTL(ttl)))
		time.Sleep(ttl + 20*time.Millisecond)
		count, err := picky.Run(ctx, ks.All(), nil)
		require.NoError(t, err, "the record that it fails on has expired")
		require.Equal(t, len(want), count)
		put(ks.Put(ctx, []byte("z"), []byte("v"), client.TTL(ttl)))
		time.Sleep(ttl + 20*time.Millisecond)
		require.Equal(t, want, seen())
	}

	piece := n.cmap.Tile(l.All())[0]
	req := &locuspb.RunRangeRequest{
		Function: "keys", Codec: locuspb.Codec_JSON, RangeId: uint64(piece.Route.Descriptor.ID), BoundsEpoch: piece.Route.Descriptor.Epoch.Bounds,
		Span: api.SpanToProto(piece.Span), WorkBytes: 1,
	}
	first := n.runner.run(ctx, req)
	require.Nil(t, first.Error)
	require.NotEmpty(t, first.Resume)
	require.LessOrEqual(t, first.Timestamp, uint64(state().Closed))
	put(ks.Put(ctx, []byte("m"), []byte("later")))
	req.Timestamp, req.WorkBytes, req.Span.Start = first.Timestamp, 0, first.Resume
	rest := n.runner.run(ctx, req)
	require.Nil(t, rest.Error)
	require.Equal(t, first.Timestamp, rest.Timestamp)
	require.Equal(t, uint64(len(want)), first.Records+rest.Records)
}

// TestUnboundedWork: who does not ask for parts gets all.
func TestUnboundedWork(t *testing.T) {
	enough := (&work{req: &locuspb.RunRangeRequest{}}).workload()
	require.False(t, enough(1<<40))
	enough = (&work{req: &locuspb.RunRangeRequest{}, enough: 10}).workload()
	require.False(t, enough(9))
	require.True(t, enough(1))
}

// TestCancelReachesEveryRange: when a caller goes, by its context or by leaving the loop, the work on all leaseholders ends. How
// long that took is logged: what has to end is a function that looks at its context, and one that does not and takes a while for
// a batch.
func TestCancelReachesEveryRange(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	var deaf, calls atomic.Int64 // calls that are running, and that have begun, on all nodes
	work := func(ctx context.Context, listens bool) error {
		deaf.Add(1)
		defer deaf.Add(-1)
		calls.Add(1)
		if listens {
			<-ctx.Done()
			return ctx.Err()
		}
		for until := time.Now().Add(10 * time.Millisecond); time.Now().Before(until); { // as a native function may
		}
		return nil
	}
	functions, err := udf.NewRegistry(
		udf.Range("fold", udf.Aggregate[bool, int, int]{
			Init:   func(listens bool) (int, error) { return 0, nil },
			Add:    func(ctx context.Context, n int, _ udf.Batch) (int, error) { return n, work(ctx, true) },
			Merge:  func(a, b int) (int, error) { return a + b, nil },
			Result: func(n int) (int, error) { return n, nil },
		}),
		udf.Range("deaf", udf.Aggregate[bool, int, int]{
			Init:   func(bool) (int, error) { return 0, nil },
			Add:    func(ctx context.Context, n int, _ udf.Batch) (int, error) { return n, work(ctx, false) },
			Merge:  func(a, b int) (int, error) { return a + b, nil },
			Result: func(n int) (int, error) { return n, nil },
		}),
		udf.Map("map", func(ctx context.Context, _ bool, b udf.Batch, _ func(string) error) error { return work(ctx, true) }),
	)
	require.NoError(t, err)
	c := startCluster(t, 3, func(o *Options) { o.Functions = functions })
	db := openClient(t, c.nodes())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	eventually(t, "three replicas of everything", func() bool {
		s, err := db.Status(ctx)
		return err == nil && s.LiveNodes == 3 && s.UnderReplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	var at [][]byte
	for i := range 5 {
		at = append(at, fmt.Appendf(nil, "k%05d", (i+1)*500))
	}
	ks, _ := load(t, db, client.KeyspaceOptions{SplitAt: at}, 3000)
	slots := func() (n int) {
		for _, node := range c.nodes() {
			n += takeSample(node).working
		}
		return n
	}
	leaders := func() (n int) {
		for _, node := range c.nodes() {
			if len(node.runner.slots) > 0 {
				n++
			}
		}
		return n
	}
	eventually(t, "leases on more than one node", func() bool {
		ranges, err := db.Ranges(ctx)
		require.NoError(t, err)
		by := map[client.StoreID]bool{}
		for _, r := range ranges {
			if r.Keyspace == "s" {
				by[r.Leaseholder] = true
			}
		}
		return len(by) == 3
	})
	for _, how := range []string{"fold", "deaf", "map"} {
		t.Run(how, func(t *testing.T) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			var done sync.WaitGroup
			done.Go(func() {
				if how == "map" {
					for range client.NewRangeFunc[bool, string](how).Stream(ctx, ks.All(), true) {
					}
					return
				}
				_, err := client.NewRangeFunc[bool, int](how).Run(ctx, ks.All(), true)
				require.ErrorIs(t, err, context.Canceled)
			})
			eventually(t, "work on every node", func() bool { return leaders() == 3 && deaf.Load() > 0 })
			began := time.Now()
			cancel()
			eventually(t, "the end of all work", func() bool { return slots() == 0 && deaf.Load() == 0 })
			took := time.Since(began)
			done.Wait()
			after := calls.Load()
			t.Logf("all work on three nodes ended %s after the caller's", took.Round(time.Microsecond))
			require.Less(t, took, 10*time.Second, "100 ms on a machine with nothing else to do")
			require.Equal(t, after, calls.Load(), "nothing begins again")
		})
	}
}

// TestRunSecrets: the keys that sign continuations are made once for all nodes; clients and functions can't read them.
func TestRunSecrets(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	nodes := c.nodes()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	first, ok := nodes[0].runKeys.Current(ctx)
	require.True(t, ok)
	second, ok := nodes[1].runKeys.Current(ctx)
	require.True(t, ok)
	require.Equal(t, first, second)
	require.Len(t, first.Secret, 32)
	again := newRunKeys(nodes[1].system, nodes[1].clock, nodes[1].log)
	require.NoError(t, again.create(ctx), "that there is one already is not an error")
	_, ok, err := again.Find(ctx, first.ID+1)
	require.NoError(t, err)
	require.False(t, ok)
	third, ok := again.Current(ctx)
	require.True(t, ok)
	require.Equal(t, first, third, "and changes nothing")

	client := newTestClient(t, c.nodes)
	for name, span := range map[string]keys.Span{"key": keys.KeySpan(runKeysKey), "all": systemLayout.All(), "prefix": secretSpan} {
		_, err := client.do(span.Start, &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(span)}}})
		require.ErrorIs(t, err, api.ErrPermission, name)
		stream, err := client.locus(nodes[0]).Run(ctx, &locuspb.RunRequest{
			Function: "copy", Argument: []byte("null"), Codec: locuspb.Codec_JSON, Span: api.SpanToProto(span), Stream: true,
		})
		require.NoError(t, err)
		m, err := stream.Recv()
		require.NoError(t, err)
		require.ErrorIs(t, api.FromProto(m.Error), api.ErrPermission, name)
		resp := nodes[0].runner.run(ctx, &locuspb.RunRangeRequest{Function: "copy", Codec: locuspb.Codec_JSON, Span: api.SpanToProto(span), PageBytes: 1})
		require.ErrorIs(t, api.FromProto(resp.Error), api.ErrPermission, name)
	}
	_, err = client.do(runKeysKey, &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: runKeysKey}}})
	require.ErrorIs(t, err, api.ErrPermission)
	_, _, err = client.get(systemLayout, "fn/")
	require.NoError(t, err, "the rest of the system keyspace can be read")
}
