package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func TestEvenSplit(t *testing.T) {
	grouped := keys.Layout{ID: 2, Group: keys.GroupRule{Delimiter: '/', Depth: 1}}
	hashed := keys.Layout{ID: 3, Partition: keys.PartitionHash}
	sample := func(l keys.Layout, n int, key func(i int) string) (out [][]byte) {
		for i := range n {
			out = append(out, l.Encode([]byte(key(i))))
		}
		rand.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
	even := func(i int) string { return fmt.Sprintf("%03d", i) }
	hot := func(percent int, key string) func(int) string {
		return func(i int) string {
			if i < 2*percent {
				return key
			}
			return even(i)
		}
	}
	want := func(l keys.Layout, user string) []byte { return l.Encode([]byte(user)) }
	for _, tc := range []struct {
		name    string
		sampled [][]byte
		span    keys.Span
		layout  keys.Layout
		want    []byte
	}{
		{"even load", sample(defaultLayout, 200, even), defaultLayout.All(), defaultLayout, want(defaultLayout, "100")},
		{"in a part of the keyspace", sample(defaultLayout, 200, even), keys.Span{Start: want(defaultLayout, "100"), End: defaultLayout.All().End}, defaultLayout, want(defaultLayout, "150")},
		{"too few", sample(defaultLayout, leastLoadKeys-1, even), defaultLayout.All(), defaultLayout, nil},
		{"too few inside", sample(defaultLayout, 200, even), keys.Span{Start: want(defaultLayout, "150"), End: defaultLayout.All().End}, defaultLayout, nil},
		{"one key", sample(defaultLayout, 200, hot(100, "k")), defaultLayout.All(), defaultLayout, nil},
		{"one key has most", sample(defaultLayout, 200, hot(60, "")), defaultLayout.All(), defaultLayout, nil},
		{"one key has half", sample(defaultLayout, 200, hot(50, "0")), defaultLayout.All(), defaultLayout, want(defaultLayout, "100")},
		{"one in the middle has half", sample(defaultLayout, 200, hot(50, "150")), defaultLayout.All(), defaultLayout, nil},
		{"one in the middle has too much", sample(defaultLayout, 200, hot(45, "150")), defaultLayout.All(), defaultLayout, nil},
		{"two groups", sample(grouped, 200, func(i int) string { return fmt.Sprintf("%d/%d", i%2, i) }), grouped.All(), grouped, want(grouped, "1/")},
		{"two groups, uneven", sample(grouped, 200, func(i int) string { return fmt.Sprintf("%d/%d", min(i%10, 1), i) }), grouped.All(), grouped, nil},
		{"one group", sample(grouped, 200, func(i int) string { return fmt.Sprintf("a/%d", i) }), grouped.All(), grouped, nil},
	} {
		require.Equal(t, tc.want, evenSplit(tc.sampled, tc.span, tc.layout), tc.name)
	}
	at := evenSplit(sample(hashed, 200, even), hashed.All(), hashed)
	require.Equal(t, at, hashed.SplitKey(at))
	left := 0
	for _, k := range sample(hashed, 200, even) {
		if (keys.Span{End: at}).Contains(k) {
			left++
		}
	}
	require.Equal(t, 100, left)
}

// TestLoads: a range is busy once it has been so for the whole time, and what is known of it is of its bounds.
func TestLoads(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLoads(100, 1, 3*time.Second)
	l.now = func() time.Time { return now }
	l.mu.turned = now
	d := &topology.Descriptor{ID: 7, Span: defaultLayout.All(), Epoch: topology.Epoch{Conf: 1, Bounds: 1}}
	n := 0
	second := func(requests int) *locuspb.SplitWish {
		for range requests {
			n++
			key := defaultLayout.Encode(fmt.Appendf(nil, "%02d", n%100))
			l.note(&locuspb.Request{RangeId: 7, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}})
		}
		now = now.Add(time.Second)
		l.turn()
		return l.wish(d, defaultLayout)
	}
	require.Nil(t, second(101))
	require.Equal(t, uint64(101), l.requests())
	require.Nil(t, second(101))
	require.Nil(t, second(100), "not more than the limit")
	require.Nil(t, second(101), "so it begins anew")
	require.Nil(t, second(200))
	w := second(300)
	require.Equal(t, uint64(300), w.GetRequests())
	require.Contains(t, w.Reason, "100 requests per second")
	require.InDelta(t, 50, int(w.Key[4]-'0')*10+int(w.Key[5]-'0'), 12.5, "five eighths on one side at most")

	// It has been split: what was sampled before says nothing of it now.
	d.Epoch.Bounds = 2
	require.Nil(t, l.wish(d, defaultLayout))
	for range 2 {
		require.Nil(t, second(200))
	}
	require.NotNil(t, second(200))
	require.Nil(t, second(0), "it is quiet, and forgotten")
	require.Empty(t, l.mu.ranges)
	require.Zero(t, l.requests())

	// A turn that comes late counts no rate that was not there, one that comes early none at all.
	now = now.Add(9 * time.Second)
	require.Nil(t, second(500))
	require.Equal(t, uint64(50), l.requests())
	l.turn()
	require.Equal(t, uint64(50), l.requests())
}

// TestLoadBounds: neither ranges nor keys grow without a bound.
func TestLoadBounds(t *testing.T) {
	l := newLoads(1, 1, time.Second)
	for i := range loadRanges + 10 {
		l.sample(ids.RangeID(i), []byte("k"))
	}
	require.Len(t, l.mu.ranges, loadRanges)
	r := l.mu.ranges[7]
	r.busy = time.Second
	for range 100_000 {
		l.sample(7, []byte("k"))
	}
	require.Len(t, r.keys, loadKeys)
}

// TestLoadSampling: one request of loadSampling takes the lock, and the rates are true all the same.
func TestLoadSampling(t *testing.T) {
	l := newLoads(1, loadSampling, time.Second)
	began := time.Unix(0, 0)
	l.mu.turned = began
	l.now = func() time.Time { return began.Add(time.Second) }
	req := &locuspb.Request{RangeId: 7, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: []byte("k")}}}
	const requests = 4000 * loadSampling
	for range requests {
		l.note(req)
	}
	require.InDelta(t, 4000, l.mu.count, 640) // ten times the standard deviation
	l.turn()
	require.InDelta(t, requests, l.requests(), 640*loadSampling)
}

func BenchmarkLoadNote(b *testing.B) {
	l := newLoads(DefaultMaxRangeRequests, loadSampling, loadHold)
	req := &locuspb.Request{RangeId: 7, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: []byte("some key")}}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.note(req)
		}
	})
}

// TestRangesSplitByLoad: of three nodes one gets all requests, of one range, which is split until they're spread or
// few; the load is on both sides of each split, and everything is there.
func TestRangesSplitByLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 3, func(o *Options) {
		o.MaxRangeRequests, o.loadSampling, o.loadHold = 20, 1, 2*time.Second
	})
	client := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(client)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3 && s.Ranges >= 3
	})
	const records = 100
	for n := range records {
		require.NoError(t, client.put(defaultLayout, fmt.Sprintf("%02d", n), "v"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, found, err := client.get(defaultLayout, fmt.Sprintf("%02d", rand.IntN(records)))
				assert.NoError(t, err)
				assert.True(t, found)
			}
		})
	}
	eventually(t, "a split", func() bool { return len(c.nodes()[0].cmap.Tile(defaultLayout.All())) > 1 })
	cancel()
	wg.Wait()
	first := c.nodes()[0].cmap.Tile(defaultLayout.All())
	for _, p := range first[1:] {
		user, err := defaultLayout.Decode(p.Span.Start)
		require.NoError(t, err)
		require.Regexp(t, "^[0-9][0-9]$", string(user), "a key that was asked for")
	}
	result, _, err := client.run(c.nodes()[0], defaultLayout, "rows", 0)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(records), result)
}
