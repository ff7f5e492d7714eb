package client

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

func scanAll(t *testing.T, ks *Keyspace, span Span, opts ...ReadOption) (out []string) {
	for item, err := range ks.Scan(ctx, span, opts...) {
		require.NoError(t, err)
		out = append(out, string(item.Key))
	}
	return out
}

func TestScan(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	ks := db.Keyspace("default")
	require.Empty(t, scanAll(t, ks, ks.All()))
	var all []string
	for i := range 100 {
		k := fmt.Sprintf("k%02d", i)
		all = append(all, k)
		_, err := ks.Put(ctx, []byte(k), []byte("value of "+k))
		require.NoError(t, err)
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for _, splits := range []int{0, 1, 6} {
		for i := range splits {
			f.split(keys.Layout{ID: 1}.Encode(fmt.Appendf(nil, "k%02d", 7+13*i)))
		}
		for _, page := range []ReadOption{PageBytes(0), PageBytes(1), PageBytes(300)} {
			require.Equal(t, all, scanAll(t, ks, ks.All(), page))
			require.Equal(t, reversed, scanAll(t, ks, ks.All(), page, Reverse()))
			require.Equal(t, all[20:30], scanAll(t, ks, ks.Prefix([]byte("k2")), page))
			require.Equal(t, all[15:42], scanAll(t, ks, ks.Span([]byte("k15"), []byte("k42")), page))
			require.Equal(t, all[:3], scanAll(t, ks, ks.Span(nil, nil), page, Limit(3)))
			require.Equal(t, all[:50], scanAll(t, ks, ks.All(), page, Limit(50)))
			require.Equal(t, reversed[:50], scanAll(t, ks, ks.All(), page, Limit(50), Reverse()))
			require.Equal(t, all, scanAll(t, ks, ks.All(), page, Limit(1000)))
			require.Equal(t, all, scanAll(t, ks, ks.All(), page, Eventual()))
			require.Empty(t, scanAll(t, ks, ks.Span([]byte("k5"), []byte("k5")), page))
		}
	}
	for item, err := range ks.Scan(ctx, ks.All()) {
		require.NoError(t, err)
		require.Equal(t, "value of "+string(item.Key), string(item.Value))
		if string(item.Key) == "k50" {
			break
		}
	}
	for _, err := range db.Keyspace("default").Scan(ctx, db.Keyspace("system").All()) {
		var invalid *InvalidArgumentError
		require.ErrorAs(t, err, &invalid)
	}
}

// TestScanIsOneTimestamp: a scan over several ranges, with writes and splits between its pages, sees what
// there was when it began.
func TestScanIsOneTimestamp(t *testing.T) {
	f := newFake(t, 3)
	ks := f.open().Keyspace("default")
	for i := range 50 {
		_, err := ks.Put(ctx, fmt.Appendf(nil, "k%02d", i), []byte("old"))
		require.NoError(t, err)
	}
	for _, splits := range []int{0, 3} {
		for i := range splits {
			f.split(keys.Layout{ID: 1}.Encode(fmt.Appendf(nil, "k%02d", 10+10*i)))
		}
		n := 0
		for item, err := range ks.Scan(ctx, ks.All(), PageBytes(100)) {
			require.NoError(t, err)
			require.Equal(t, "old", string(item.Value), "%s", item.Key)
			if n == 5 {
				for i := range 50 {
					_, err := ks.Put(ctx, fmt.Appendf(nil, "k%02d", i), []byte("new"))
					require.NoError(t, err)
				}
				f.split(keys.Layout{ID: 1}.Encode(fmt.Appendf(nil, "k%02d", 30+splits)))
				f.elect()
			}
			n++
		}
		require.Equal(t, 50, n)
		for i := range 50 {
			_, err := ks.Put(ctx, fmt.Appendf(nil, "k%02d", i), []byte("old"))
			require.NoError(t, err)
		}
	}
}

// TestSplitBeforeTheFirstPage: the only range of a span is split between the look at the routes and the
// first page, and its right half moves to a leaseholder with a clock ahead. What that acknowledged before
// the scan has to be seen.
func TestSplitBeforeTheFirstPage(t *testing.T) {
	f := newFake(t, 3)
	ks := f.open().Keyspace("default")
	for _, k := range []string{"a", "z"} {
		_, err := ks.Put(ctx, []byte(k), []byte("1"))
		require.NoError(t, err)
	}
	f.mu.Lock()
	split := false
	ahead := hlc.Timestamp(0)
	f.intercept = func(store ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		if r.GetScan() == nil || split {
			return nil, true
		}
		split = true
		f.mu.Unlock()
		f.split(keys.Layout{ID: 1}.Encode([]byte("m")))
		f.mu.Lock()
		// The right half's leaseholder writes at a timestamp that the left one has not reached.
		ahead = f.ts.Add(100_000_000)
		f.put(keys.Layout{ID: 1}.Encode([]byte("z")), fakeVersion{ts: ahead, value: []byte("2")})
		keep := f.intercept
		f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
			if r.GetClockAt() != nil && hlc.Timestamp(f.ts) < ahead {
				return &locuspb.Response{Result: &locuspb.Response_ClockAt{ClockAt: &locuspb.ClockResponse{Clock: uint64(ahead)}}}, true
			}
			return nil, true
		}
		_ = keep
		return nil, true
	}
	f.mu.Unlock()
	got := map[string]string{}
	for item, err := range ks.Scan(ctx, ks.All()) {
		require.NoError(t, err)
		got[string(item.Key)] = string(item.Value)
	}
	require.True(t, split)
	require.Equal(t, map[string]string{"a": "1", "z": "2"}, got)
}

func TestHashKeyspace(t *testing.T) {
	f := newFake(t, 2)
	f.createKeyspace(&locuspb.Keyspace{Name: "h", Partition: uint32(PartitionHash), Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}})
	ks := f.open().Keyspace("h")
	want := map[string]bool{}
	for i := range 40 {
		k := fmt.Sprintf("u%d/%d", i%5, i)
		want[k] = true
		_, err := ks.Put(ctx, []byte(k), nil)
		require.NoError(t, err)
	}
	f.split([]byte{0, 0, 0, 2, 0x80, 0})
	got := map[string]bool{}
	layout := ks.layout.Load()
	last := -1
	for _, k := range scanAll(t, ks, ks.All()) {
		got[k] = true
		require.GreaterOrEqual(t, int(layout.Bucket([]byte(k))), last, "the order is that of buckets")
		last = int(layout.Bucket([]byte(k)))
	}
	require.Equal(t, want, got)
	require.Equal(t, []string{"u3/13", "u3/18"}, scanAll(t, ks, ks.Prefix([]byte("u3/1")))[0:2])
	require.Len(t, scanAll(t, ks, ks.Prefix([]byte("u3/"))), 8)
	require.Equal(t, []string{"u3/13", "u3/18"}, scanAll(t, ks, ks.Span([]byte("u3/1"), []byte("u3/2"))))
	for _, span := range []Span{ks.Prefix([]byte("u3")), ks.Span([]byte("u1/"), []byte("u3/")), ks.Span(nil, []byte("u1/x"))} {
		for _, err := range ks.Scan(ctx, span) {
			var invalid *InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
		}
	}
}

func TestSnapshot(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	ks := db.Keyspace("default")
	_, err := ks.Put(ctx, []byte("a"), []byte("1"))
	require.NoError(t, err)
	s, err := db.Snapshot(ctx)
	require.NoError(t, err)
	_, err = ks.Put(ctx, []byte("a"), []byte("2"))
	require.NoError(t, err)
	item, err := s.Keyspace("default").Get(ctx, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, "1", string(item.Value))
	for item, err := range s.Keyspace("default").Scan(ctx, ks.All()) {
		require.NoError(t, err)
		require.Equal(t, "1", string(item.Value))
	}
	require.NoError(t, s.Close())
	again, err := db.Snapshot(ctx, AtTimestamp(s.Timestamp()))
	require.NoError(t, err)
	require.Equal(t, s.Timestamp(), again.Timestamp())
	_, err = db.Snapshot(ctx, Eventual())
	require.Error(t, err)
}

// FuzzScanAnswer: whatever a node sends as an answer to a scan, the client ends with records or an error,
// and never panics or goes on for ever.
func FuzzScanAnswer(f *testing.F) {
	key := keys.Layout{ID: 1}.Encode([]byte("k"))
	good := packed.Append(nil, key, []byte("v"), 5, 0)
	f.Add(good, []byte{}, uint64(1), false)
	f.Add(good[:7], key, uint64(1), true)
	f.Add([]byte{0xff, 0xff, 1, 0}, []byte("\x00\x00\x00\x01m"), uint64(9), false)
	f.Fuzz(func(t *testing.T, batch, resume []byte, records uint64, reverse bool) {
		ks := &Keyspace{}
		layout := &keys.Layout{ID: 1}
		s := scanner{ks: ks, layout: layout, rest: layout.All(), o: readOptions{reverse: reverse}}
		answer := &locuspb.ScanResponse{Batches: [][]byte{batch, nil}, Resume: resume, Records: records}
		for range 10 {
			before := s.rest
			if err := s.advance(page{resp: answer, covered: s.rest}); err != nil || s.done {
				break
			}
			require.True(t, before.ContainsSpan(s.rest) && !before.Equal(s.rest), "no headway")
		}
		_, err := s.emit(answer, func(i Item, err error) bool {
			require.LessOrEqual(t, len(i.Key)+len(i.Value), len(batch))
			return true
		})
		if packed.Validate(batch) != nil {
			require.Error(t, err)
		}
	})
}
