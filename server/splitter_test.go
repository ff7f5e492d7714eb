package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/clustermap"
)

// rows is a range's content, as a splitter sees it: keys of the layout, each with bytes of value.
type rows struct {
	ranges   []raftstore.RangeInfo
	bytes    uint64
	middle   []byte
	keys     [][]byte
	err      error // of measuring
	scanErr  error
	measured int
}

func (r *rows) Ranges() []raftstore.RangeInfo { return r.ranges }

func (r *rows) MeasureRange(_ ids.RangeID, _ uint64, done func(raftstore.Measure, error)) {
	r.measured++
	if r.err == nil {
		r.ranges[0].Bytes = r.bytes // the store counts from what it has measured
	}
	done(raftstore.Measure{Bytes: r.bytes, Records: uint64(len(r.keys)), Middle: r.middle}, r.err)
}

func (r *rows) Do(req *locuspb.Request, done func(*locuspb.Response)) {
	if r.scanErr != nil {
		done(failed(r.scanErr))
		return
	}
	span, n := api.SpanFromProto(req.GetScan().Span), uint64(0)
	for _, k := range r.keys {
		if span.Contains(k) {
			n = 1
		}
	}
	done(&locuspb.Response{Result: &locuspb.Response_Scan{Scan: &locuspb.ScanResponse{Records: n}}})
}

func ledRange(id ids.RangeID, span keys.Span, counted uint64) raftstore.RangeInfo {
	return raftstore.RangeInfo{
		Descriptor:  &topology.Descriptor{ID: id, Span: span, Epoch: topology.Epoch{Conf: 1, Bounds: 1}},
		Leaseholder: true, Bytes: counted,
	}
}

// TestSplitter: where a range is split, and when it is measured at all.
func TestSplitter(t *testing.T) {
	plain := keys.Layout{ID: 1}
	byLength := keys.Layout{ID: 2, Group: keys.GroupRule{Length: 1}}
	hashed := keys.Layout{ID: 3, Partition: keys.PartitionHash, Group: keys.GroupRule{Delimiter: '/', Depth: 1}}
	layouts := func(id ids.KeyspaceID) (keys.Layout, bool) {
		l, ok := map[ids.KeyspaceID]keys.Layout{1: plain, 2: byLength, 3: hashed}[id]
		return l, ok
	}
	at := func(l keys.Layout, users ...string) (out [][]byte) {
		for _, u := range users {
			out = append(out, l.Encode([]byte(u)))
		}
		return out
	}
	for _, tc := range []struct {
		name     string
		span     keys.Span
		counted  uint64
		rows     rows
		want     []byte
		measured int
	}{
		{"small", plain.All(), 100, rows{}, nil, 0},
		{"counted too large, and small", plain.All(), 1000, rows{bytes: 100, middle: at(plain, "m")[0], keys: at(plain, "a", "m")}, nil, 1},
		{"too large", plain.All(), 1000, rows{bytes: 900, middle: at(plain, "m")[0], keys: at(plain, "a", "m")}, at(plain, "m")[0], 1},
		{"one record", plain.All(), 1000, rows{bytes: 900, keys: at(plain, "a")}, nil, 1},
		{"a group in the middle", byLength.All(), 1000, rows{bytes: 900, middle: at(byLength, "mm")[0], keys: at(byLength, "a", "ma", "mm", "z")}, at(byLength, "m")[0], 1},
		{"the first group is large", byLength.All(), 1000, rows{bytes: 900, middle: at(byLength, "mm")[0], keys: at(byLength, "ma", "mm", "z")}, at(byLength, "n")[0], 1},
		{"a single group", byLength.All(), 1000, rows{bytes: 900, middle: at(byLength, "mm")[0], keys: at(byLength, "ma", "mm")}, nil, 1},
		{"a single group, alone", byLength.GroupSpan([]byte("m")), 1000, rows{bytes: 900, middle: at(byLength, "mm")[0], keys: at(byLength, "ma", "mm")}, nil, 1},
		{"a hash keyspace", hashed.All(), 1000, rows{bytes: 900, middle: at(hashed, "m/m")[0], keys: append(at(hashed, "m/m"), hashed.All().Start)}, at(hashed, "m/")[0], 1},
		{"can't be measured", plain.All(), 1000, rows{err: errors.New("no")}, nil, 1},
		{"can't be scanned", plain.All(), 1000, rows{bytes: 900, middle: at(plain, "m")[0], scanErr: errors.New("no")}, nil, 1},
		{"the tail", keys.Span{Start: plain.All().Start}, 1000, rows{}, nil, 0},
		{"of no keyspace that lives", keys.KeyspaceSpan(9), 1000, rows{}, nil, 0},
	} {
		s := newSplitter(&tc.rows, layouts, 500, newLoads(1, 1, time.Second), func() {}, slog.New(slog.DiscardHandler))
		i := ledRange(7, tc.span, tc.counted)
		tc.rows.ranges = []raftstore.RangeInfo{i}
		for range 3 {
			s.look()
		}
		require.Equal(t, tc.want, s.wish(i).GetKey(), tc.name)
		require.Equal(t, tc.measured, tc.rows.measured, tc.name)
		i.Descriptor = &topology.Descriptor{ID: 7, Span: tc.span, Epoch: topology.Epoch{Conf: 1, Bounds: 2}}
		require.Nil(t, s.wish(i), "%s: a wish is for the bounds that it was made for", tc.name)
	}
	system := &rows{bytes: 900, ranges: []raftstore.RangeInfo{ledRange(ids.SystemRange, keys.KeyspaceSpan(0), 1000)}}
	s := newSplitter(system, func(ids.KeyspaceID) (keys.Layout, bool) { return keys.Layout{}, true }, 500, newLoads(1, 1, time.Second), func() {}, slog.Default())
	s.look()
	require.Zero(t, system.measured)
}

// TestSplitterMeasuresRarely: not again before the count has grown by a tenth; a group that is too large is told of
// once, until it is no longer.
func TestSplitterMeasuresRarely(t *testing.T) {
	l := keys.Layout{ID: 2, Group: keys.GroupRule{Length: 1}}
	r := &rows{bytes: 1000, middle: l.Encode([]byte("mm")), keys: [][]byte{l.Encode([]byte("mm"))}}
	var log bytes.Buffer
	s := newSplitter(r, func(ids.KeyspaceID) (keys.Layout, bool) { return l, true }, 500, newLoads(1, 1, time.Second), func() {}, slog.New(slog.NewTextHandler(&log, nil)))
	look := func(counted uint64, want int) {
		t.Helper()
		r.ranges = []raftstore.RangeInfo{ledRange(7, l.All(), counted)}
		s.look()
		require.Equal(t, want, r.measured)
	}
	look(1000, 1)
	look(1000, 1)
	look(1099, 1)
	require.Equal(t, splitterStats{measures: 1, indivisible: 1}, s.stats())
	look(1100, 2)
	r.bytes = 1100
	require.Equal(t, 1, strings.Count(log.String(), "single group"))
	r.bytes = 100
	look(1500, 3)
	require.Zero(t, s.stats().indivisible)
	r.bytes = 1000
	look(1500, 4)
	require.Equal(t, 2, strings.Count(log.String(), "single group"))

	// Somebody else leads it for a while: who knows what it holds now?
	r.ranges = []raftstore.RangeInfo{ledRange(7, l.All(), 1000)}
	r.ranges[0].Leaseholder = false
	s.look()
	look(1000, 5)
}

// TestSplitterMeasuresOneAtATime: and what it found about a range that has changed meanwhile is dropped.
func TestSplitterMeasuresOneAtATime(t *testing.T) {
	l := keys.Layout{ID: 1}
	r := &rows{keys: [][]byte{l.Encode([]byte("a"))}}
	var done []func(raftstore.Measure, error)
	slow := slowRows{r, &done}
	s := newSplitter(slow, func(ids.KeyspaceID) (keys.Layout, bool) { return l, true }, 500, newLoads(1, 1, time.Second), func() {}, slog.New(slog.DiscardHandler))
	a := ledRange(7, keys.Span{Start: l.All().Start, End: l.Encode([]byte("m"))}, 1000)
	b := ledRange(8, keys.Span{Start: l.Encode([]byte("m")), End: l.All().End}, 1000)
	both := []raftstore.RangeInfo{a, b}
	r.ranges = both
	s.look()
	s.look()
	require.Len(t, done, 1)
	split := *a.Descriptor
	split.Epoch.Bounds++
	both[0].Descriptor = &split
	s.look()
	done[0](raftstore.Measure{Bytes: 900, Middle: l.Encode([]byte("c"))}, nil)
	require.Nil(t, s.wish(a))
	require.Nil(t, s.wish(both[0]))
	require.Len(t, done, 2)
}

type slowRows struct {
	*rows
	done *[]func(raftstore.Measure, error)
}

func (r slowRows) MeasureRange(_ ids.RangeID, _ uint64, done func(raftstore.Measure, error)) {
	*r.done = append(*r.done, done)
}

// TestRangesSplitBySize: three nodes with tiny ranges are loaded; all ranges become small enough, at boundaries of
// groups, and everything is there.
func TestRangesSplitBySize(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	const limit = 32 << 10
	c := startCluster(t, 3, func(o *Options) { o.MaxRangeBytes = limit })
	client := newTestClient(t, c.nodes)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	layouts := map[string]keys.Layout{"default": defaultLayout}
	for _, req := range []*locuspb.CreateKeyspaceRequest{
		{Name: "grouped", Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}},
		{Name: "hashed", Partition: 1, SplitInto: 2},
	} {
		created, err := client.locus(c.nodes()[0]).CreateKeyspace(ctx, req)
		require.NoError(t, err)
		layouts[req.Name] = clustermap.LayoutOf(created.Keyspace)
	}
	const (
		each = 160 // records of 1 KiB
		big  = each/2 + each/20
	)
	fewest := map[string]int{ // ranges that can hold them
		"default": 5, "hashed": 5,
		"grouped": 4, // the large group's own, one with the 16 KiB before it, two with the 56 KiB after it
	}
	var wg sync.WaitGroup
	value := strings.Repeat("x", 1<<10)
	for name, l := range layouts {
		for part := range 2 {
			wg.Go(func() {
				for n := part; n < each; n += 2 {
					key := fmt.Sprintf("%04d", n)
					if name == "grouped" { // one group with more than all others together
						key = fmt.Sprintf("%02d/%04d", n%20, n)
						if n%2 == 0 {
							key = fmt.Sprintf("05/%04d", n)
						}
					}
					assert.NoError(t, client.put(l, key, value))
				}
			})
		}
	}
	wg.Wait()

	eventually(t, "ranges that are small enough", func() bool {
		for name, l := range layouts {
			for _, p := range c.nodes()[0].cmap.Tile(l.All()) {
				n := c.leader(p.Route.Descriptor.ID)
				if n == nil {
					return false
				}
				if now, ok := n.store.Range(p.Route.Descriptor.ID); !ok || now.Descriptor.Epoch != p.Route.Descriptor.Epoch {
					return false // the map has yet to hear of the last split
				}
				m, err := measure(n, p.Route.Descriptor)
				if err != nil || m.Bytes > limit && !(name == "grouped" && m.Records == big) {
					return false
				}
			}
		}
		return true
	})
	for name, l := range layouts {
		pieces := c.nodes()[0].cmap.Tile(l.All())
		require.GreaterOrEqual(t, len(pieces), fewest[name], name)
		require.Less(t, len(pieces), 20, name)
		for _, p := range pieces {
			require.Equal(t, p.Span.Start, l.SplitKey(p.Span.Start), "%s: a range begins in a group's middle", name)
		}
		for _, n := range c.nodes() {
			result, _, err := client.run(n, l, "rows", 0)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(each), result, name)
		}
	}
	eventually(t, "the group that is too large is known", func() bool {
		indivisible := 0
		for _, n := range c.nodes() {
			indivisible += n.reporter.splitter.stats().indivisible
		}
		return indivisible == 1
	})
}

func measure(n *Node, d *topology.Descriptor) (raftstore.Measure, error) {
	type result struct {
		m   raftstore.Measure
		err error
	}
	ch := make(chan result, 1)
	n.store.MeasureRange(d.ID, d.Epoch.Bounds, func(m raftstore.Measure, err error) { ch <- result{m, err} })
	r := <-ch
	return r.m, r.err
}
