package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// page answers with the keys of as many records as the page may have bytes.
func (f *fake) page(req *locuspb.RunRangeRequest) *locuspb.RunRangeResponse {
	resp := &locuspb.RunRangeResponse{}
	for _, k := range f.records {
		if !api.SpanFromProto(req.Span).Contains([]byte(prefix + k)) {
			continue
		}
		if resp.Records == req.PageBytes {
			resp.Resume = []byte(prefix + k)
			break
		}
		resp.Outputs = append(resp.Outputs, []byte(k))
		resp.Records++
	}
	return resp
}

// manyRecords makes the fake's records k0000, k0001 and so on.
func (f *fake) manyRecords(n int) (want []string) {
	f.records = nil
	for i := range n {
		f.records = append(f.records, fmt.Sprintf("k%04d", i))
	}
	return f.records
}

// streamed is what a client gets of a stream.
type streamed struct {
	outputs []string
	covered []keys.Span
	last    *locuspb.RunResponse
}

func (s *streamed) take(m *locuspb.RunResponse) {
	for _, o := range m.Outputs {
		s.outputs = append(s.outputs, string(o))
	}
	if m.Covered != nil {
		s.covered = append(s.covered, api.SpanFromProto(m.Covered))
	}
	s.last = m
}

func streamRequest() *locuspb.RunRequest {
	return &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Timestamp: 42, Stream: true}
}

func streamAll(f *fake, o Options, req *locuspb.RunRequest) (s streamed, err error) {
	o.Cluster, o.Clock = f, testClock()
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	err = New(o).Run(context.Background(), req, fixed(&joinAll{}), func(m *locuspb.RunResponse) error {
		s.take(m)
		return nil
	})
	return s, err
}

// requireTiles checks that spans are disjoint and make up the whole.
func requireTiles(t *testing.T, whole keys.Span, spans []keys.Span) {
	t.Helper()
	spans = slices.SortedFunc(slices.Values(spans), func(a, b keys.Span) int { return strings.Compare(string(a.Start), string(b.Start)) })
	at := whole.Start
	for _, s := range spans {
		require.Equal(t, at, s.Start)
		at = s.End
	}
	require.Equal(t, whole.End, at)
}

func TestStream(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("key order %v", inOrder), func(t *testing.T) {
			f := newFake(kroute(1, "", "k0100", 1, 1), kroute(2, "k0100", "k0105", 1, 2), kroute(3, "k0105", "", 1, 3))
			want := f.manyRecords(300)
			req := streamRequest()
			req.KeyOrder = inOrder
			got, err := streamAll(f, Options{PageBytes: 7}, req)
			require.NoError(t, err)
			if !inOrder {
				slices.Sort(got.outputs)
			}
			require.Equal(t, want, got.outputs)
			requireTiles(t, kspan("", ""), got.covered)
			require.True(t, got.last.Done)
			require.Empty(t, got.last.Outputs)
			require.Equal(t, uint64(42), got.last.Timestamp)
			require.Equal(t, uint64(300), got.last.Progress.Records)
			require.Equal(t, uint64(3), got.last.Progress.RangesDone)
		})
	}
}

// TestStreamThroughChanges: ranges split and change hands between and during pages, at random; every key
// comes exactly once, and in key order where that was asked for.
func TestStreamThroughChanges(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		f := newFake(kroute(1, "", "", 1, 1))
		want := f.manyRecords(400)
		next, runs := ids.RangeID(2), 0
		f.onRefresh = func(f *fake) { f.Learn(f.truth()) }
		var mu sync.Mutex
		f.before = func(f *fake, _ *locuspb.RunRangeRequest) {
			mu.Lock()
			defer mu.Unlock()
			if runs++; runs%3 != 0 || next > 12 {
				return
			}
			all := f.truth()
			slices.SortFunc(all, func(a, b api.Route) int { return int(a.Descriptor.ID) - int(b.Descriptor.ID) })
			r := all[rnd.IntN(len(all))]
			bounds, span := r.Descriptor.Epoch.Bounds, r.Descriptor.Span
			at := []byte(prefix + fmt.Sprintf("k%04d", rnd.IntN(400)))
			if rnd.IntN(3) == 0 || !span.Contains(at) || string(at) == string(span.Start) {
				moved := kroute(r.Descriptor.ID, strings.TrimPrefix(string(span.Start), prefix), endOf(span), bounds, r.Leaseholder%3+1)
				moved.Term = r.Term + 1
				f.change(moved)
				return
			}
			cut := strings.TrimPrefix(string(at), prefix)
			left := kroute(r.Descriptor.ID, strings.TrimPrefix(string(span.Start), prefix), cut, bounds+1, r.Leaseholder)
			left.Term = r.Term
			f.change(left, kroute(next, cut, endOf(span), bounds+1, ids.StoreID(rnd.IntN(3)+1)))
			next++
		}
		req := streamRequest()
		req.KeyOrder = seed%2 == 0
		got, err := streamAll(f, Options{PageBytes: 1 + rnd.IntN(20), Parallel: 1 + rnd.IntN(5)}, req)
		require.NoError(t, err, "seed %d", seed)
		require.Greater(t, len(f.ranges), 1, "seed %d: nothing was split", seed)
		if !req.KeyOrder {
			slices.Sort(got.outputs)
		}
		require.Equal(t, want, got.outputs, "seed %d", seed)
		requireTiles(t, kspan("", ""), got.covered)
		require.Equal(t, uint64(400), got.last.Progress.Records, "seed %d", seed)
	}
}

// truth is every range there is.
func (f *fake) truth() (all []api.Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.ranges {
		all = append(all, r)
	}
	return all
}

// endOf is a span's end as kroute takes it.
func endOf(s keys.Span) string {
	if string(s.End) == "\x00\x00\x00\x02" {
		return ""
	}
	return strings.TrimPrefix(string(s.End), prefix)
}

// TestSlowReaderBlocksTheProducers: while the client does not read, no more pages are made than are held.
func TestSlowReaderBlocksTheProducers(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("key order %v", inOrder), func(t *testing.T) {
			f := newFake()
			var routes []api.Route
			f.manyRecords(1000)
			for i := range 10 {
				start, end := fmt.Sprintf("k%04d", i*100), fmt.Sprintf("k%04d", i*100+100)
				if i == 0 {
					start = ""
				}
				if i == 9 {
					end = ""
				}
				routes = append(routes, kroute(ids.RangeID(i+1), start, end, 1, ids.StoreID(i%3+1)))
			}
			f.change(routes...)
			f.Learn(routes)
			const parallel = 6
			var made, read, most atomic.Int64
			f.before = func(*fake, *locuspb.RunRangeRequest) {
				if ahead := made.Add(1) - read.Load(); ahead > most.Load() {
					most.Store(ahead) // a maximum of racing numbers: it may only be too small
				}
			}
			req := streamRequest()
			req.KeyOrder = inOrder
			var got streamed
			err := New(Options{Cluster: f, Clock: testClock(), Parallel: parallel, PageBytes: 5}).Run(context.Background(), req, fixed(&joinAll{}), func(m *locuspb.RunResponse) error {
				if m.Covered != nil {
					// Whoever may run while the reader is slow has run.
					for before := int64(-1); before != made.Load(); time.Sleep(time.Millisecond) {
						before = made.Load()
					}
					read.Add(1)
				}
				got.take(m)
				return nil
			})
			require.NoError(t, err)
			require.Len(t, got.outputs, 1000)
			require.LessOrEqual(t, most.Load(), int64(parallel+2), "one is being sent")
			require.Greater(t, most.Load(), int64(1), "nothing ran at the same time")
		})
	}
}

// TestStreamEnds: when emit fails, as it does when the client is gone, the leaseholders' calls are cancelled
// and waited for.
func TestStreamEnds(t *testing.T) {
	f := newFake(kroute(1, "", "k0050", 1, 1), kroute(2, "k0050", "", 1, 2))
	f.manyRecords(100)
	c := &hanging{fake: f, begun: make(chan struct{})}
	gone := fmt.Errorf("client is gone")
	err := New(Options{Cluster: c, Clock: testClock(), PageBytes: 5}).Run(context.Background(), streamRequest(), fixed(&joinAll{}), func(*locuspb.RunResponse) error {
		<-c.begun
		return gone
	})
	require.ErrorIs(t, err, gone)
	require.Equal(t, int64(1), c.cancelled.Load())
}

// hanging is a cluster whose second range never answers.
type hanging struct {
	*fake
	begun     chan struct{}
	cancelled atomic.Int64
}

func (h *hanging) RunRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	if req.RangeId == 2 {
		close(h.begun)
		<-ctx.Done()
		h.cancelled.Add(1)
		return nil, ctx.Err()
	}
	return h.fake.RunRange(ctx, store, req)
}

// TestBadPage: a node that says to go on outside of what it was asked for ends the stream.
func TestBadPage(t *testing.T) {
	for name, at := range map[string]string{"the start": "", "behind the end": "z"} {
		t.Run(name, func(t *testing.T) {
			f := newFake(kroute(1, "", "", 1, 1))
			req := streamRequest()
			req.Span = api.SpanToProto(kspan("", "x"))
			_, err := streamAll(f, Options{Cluster: nil}, req)
			require.NoError(t, err)
			c := &misleading{fake: f, at: []byte(prefix + at)}
			err = New(Options{Cluster: c, Clock: testClock()}).Run(context.Background(), req, fixed(&joinAll{}), func(*locuspb.RunResponse) error { return nil })
			var internal *api.InternalError
			require.ErrorAs(t, err, &internal)
		})
	}
}

type misleading struct {
	*fake
	at []byte
}

func (m *misleading) RunRange(context.Context, ids.StoreID, *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	return &locuspb.RunRangeResponse{Resume: m.at}, nil
}
