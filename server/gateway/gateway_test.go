package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/server/clustermap"
)

// fake is a cluster of ranges, with a map that may know less. A function over it collects keys, so that
// the result shows what was visited, how often and in which order. A record counts one byte of work.
type fake struct {
	clustermap.Map
	mu      sync.Mutex
	ranges  map[ids.RangeID]api.Route // the truth
	records []string
	clocks  map[ids.StoreID]hlc.Timestamp
	down    map[ids.StoreID]bool
	// before is called, unlocked, before a segment is run.
	before    func(f *fake, req *locuspb.RunRangeRequest)
	refreshes int
	onRefresh func(f *fake)
	runs      int
	asked     []int // sizes of Do's rounds
	fail      error // of the function
	// begins is when the replicas of a store begin; with any of these, followers answer too.
	begins map[ids.StoreID]hlc.Timestamp
	kept   hlc.Timestamp       // by the cluster
	lags   map[ids.StoreID]int // so many times a store has not applied enough yet
	silent bool                // nodes don't say what they read at
}

// splitting is a fake whose map hears of the truth after it was looked at once.
type splitting struct {
	*fake
	looks int
}

func (s *splitting) Tile(span keys.Span) []clustermap.Piece {
	pieces := s.fake.Tile(span)
	if s.looks++; s.looks == 1 {
		var all []api.Route
		for _, r := range s.ranges {
			all = append(all, r)
		}
		s.Learn(all)
	}
	return pieces
}

const prefix = "\x00\x00\x00\x01"

func kspan(start, end string) keys.Span {
	s := keys.Span{Start: []byte(prefix + start), End: []byte(prefix + end)}
	if end == "" {
		s.End = []byte("\x00\x00\x00\x02")
	}
	return s
}

func kroute(id ids.RangeID, start, end string, bounds uint64, leader ids.StoreID) api.Route {
	return api.Route{
		Descriptor: &topology.Descriptor{
			ID: id, Span: kspan(start, end), Epoch: topology.Epoch{Conf: 1, Bounds: bounds},
			Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}, {Store: 2, ID: 2, Role: topology.Voter}, {Store: 3, ID: 3, Role: topology.Voter}},
		},
		Leaseholder: leader, Term: 5,
	}
}

func newFake(routes ...api.Route) *fake {
	f := &fake{
		ranges: map[ids.RangeID]api.Route{}, clocks: map[ids.StoreID]hlc.Timestamp{}, down: map[ids.StoreID]bool{},
		records: []string{"a", "b", "f", "g", "h", "m", "n", "t", "x"},
	}
	f.change(routes...)
	f.Learn(routes)
	return f
}

// change alters the truth and not the map.
func (f *fake) change(routes ...api.Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range routes {
		f.ranges[r.Descriptor.ID] = r
	}
}

func (f *fake) Refresh() {
	f.mu.Lock()
	f.refreshes++
	on := f.onRefresh
	f.mu.Unlock()
	if on != nil {
		on(f)
	}
}

// check is what a range says of a request for it.
func (f *fake) check(store ids.StoreID, id, bounds uint64) error {
	r, ok := f.ranges[ids.RangeID(id)]
	switch {
	case f.down[store]:
		return &api.RetryError{Reason: "connection refused"}
	case !ok:
		return &api.RangeNotFoundError{Range: ids.RangeID(id)}
	case f.begins != nil && f.lags[store] > 0:
		f.lags[store]--
		return &api.NotLeaseholderError{Range: r.Descriptor.ID, Leaseholder: r.Leaseholder, Routes: []api.Route{r}}
	case f.begins != nil:
	case r.Leaseholder != store:
		return &api.NotLeaseholderError{Range: r.Descriptor.ID, Leaseholder: r.Leaseholder, Routes: []api.Route{r}}
	case r.Descriptor.Epoch.Bounds != bounds:
		var all []api.Route
		for _, o := range f.ranges {
			all = append(all, o)
		}
		return &api.EpochMismatchError{Range: r.Descriptor.ID, Routes: all}
	}
	return nil
}

func (f *fake) Do(_ context.Context, store ids.StoreID, reqs []*locuspb.Request) ([]*locuspb.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, len(reqs))
	if f.down[store] {
		return nil, &api.RetryError{Reason: "connection refused"}
	}
	var out []*locuspb.Response
	for _, r := range reqs {
		if err := f.check(store, r.RangeId, r.BoundsEpoch); err != nil {
			out = append(out, &locuspb.Response{Error: api.ToProto(err)})
			continue
		}
		out = append(out, &locuspb.Response{Result: &locuspb.Response_ClockAt{ClockAt: &locuspb.ClockResponse{Clock: uint64(f.clocks[store])}}})
	}
	return out, nil
}

func (f *fake) RunRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	if f.before != nil {
		f.before(f, req)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs++
	if err := f.check(store, req.RangeId, req.BoundsEpoch); err != nil {
		if f.down[store] {
			return nil, err
		}
		return &locuspb.RunRangeResponse{Error: api.ToProto(err)}, nil
	}
	if at, begins := hlc.Timestamp(req.Timestamp), f.begins[store]; at < begins {
		return &locuspb.RunRangeResponse{Error: api.ToProto(&api.TimestampUnavailableError{
			Timestamp: at, Oldest: begins, Reason: "younger", Elsewhere: f.kept < begins,
		})}, nil
	}
	if f.fail != nil {
		return &locuspb.RunRangeResponse{Error: api.ToProto(f.fail)}, nil
	}
	if req.PageBytes > 0 {
		return f.page(req), nil
	}
	var acc []byte
	n := 0
	var resume []byte
	for _, k := range f.records {
		if !api.SpanFromProto(req.Span).Contains([]byte(prefix + k)) {
			continue
		}
		if n == int(req.WorkBytes) {
			resume = []byte(prefix + k)
			break
		}
		acc = append(acc, k...)
		n++
	}
	at := req.Timestamp
	if at == 0 && !f.silent {
		at = newestOfFake
	}
	return &locuspb.RunRangeResponse{Accumulator: acc, Records: uint64(n), Bytes: uint64(n), Fuel: 1, Resume: resume, Timestamp: at}, nil
}

// newestOfFake is the timestamp of the newest data of all ranges.
const newestOfFake = 31

type joinAll struct{ merges int }

func (*joinAll) Version() uint32 { return 3 }

func (*joinAll) Hash() string { return "" }

// fixed resolves to a reducer, whatever the version.
func fixed(r Reducer) Resolve {
	return func(context.Context, uint32) (Reducer, error) { return r, nil }
}

func (j *joinAll) Merge(_ context.Context, accs [][]byte) ([]byte, uint64, error) {
	j.merges++
	return bytes.Join(accs, nil), 0, nil
}

func (*joinAll) Result(_ context.Context, accs [][]byte) ([]byte, uint64, error) {
	return bytes.Join(accs, nil), 0, nil
}

func testClock() *hlc.Clock { return hlc.NewClock(time.Now, 0) }

// runAll runs the function and returns its result with the last answer.
func runAll(t *testing.T, f *fake, o Options, ts hlc.Timestamp) (string, *locuspb.RunResponse, error) {
	t.Helper()
	o.Cluster, o.Clock = f, testClock()
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	var last *locuspb.RunResponse
	req := &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Timestamp: uint64(ts)}
	err := New(o).Run(context.Background(), req, fixed(&joinAll{}), func(r *locuspb.RunResponse) error {
		require.False(t, last.GetDone(), "nothing follows the result")
		last = r
		return nil
	})
	return string(last.GetResult()), last, err
}

const everything = "abfghmntx"

func TestRun(t *testing.T) {
	f := newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "n", 1, 2), kroute(3, "n", "", 1, 3))
	got, last, err := runAll(t, f, Options{}, 42)
	require.NoError(t, err)
	require.Equal(t, everything, got)
	require.Equal(t, uint64(42), last.Timestamp)
	require.Equal(t, uint32(3), last.Version)
	require.Equal(t, uint64(3), last.Progress.RangesDone)
	require.Equal(t, uint64(3), last.Progress.RangesTotal)
	require.Equal(t, uint64(len(everything)), last.Progress.Records)
	require.Equal(t, 3, f.runs)
}

// TestNewest: where one range has all of the span, whoever wants no timestamp gets the newest data, and nobody is asked for a clock; the
// parts that follow are of the same data. Where the range turns out to be several, a fresh timestamp is taken after all.
func TestNewest(t *testing.T) {
	runOn := func(c Cluster, f *fake, o Options, change func(*locuspb.RunRequest)) *locuspb.RunResponse {
		o.Cluster, o.Clock = c, testClock()
		req := &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Newest: true}
		change(req)
		var last *locuspb.RunResponse
		err := New(o).Run(context.Background(), req, fixed(&joinAll{}), func(r *locuspb.RunResponse) error {
			last = r
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, everything, string(last.Result))
		return last
	}
	run := func(f *fake, o Options, change func(*locuspb.RunRequest)) *locuspb.RunResponse {
		return runOn(f, f, o, change)
	}
	as := func(*locuspb.RunRequest) {}
	one := func() (*fake, *[]uint64) {
		f, asked := newFake(kroute(1, "", "", 1, 1)), new([]uint64)
		f.clocks[1], f.clocks[2] = 1000, 1000
		f.before = func(f *fake, req *locuspb.RunRangeRequest) {
			f.mu.Lock()
			defer f.mu.Unlock()
			*asked = append(*asked, req.Timestamp)
		}
		return f, asked
	}
	f, asked := one()
	require.Equal(t, uint64(newestOfFake), run(f, Options{}, as).Timestamp)
	require.Equal(t, []uint64{0}, *asked)
	require.Empty(t, f.asked, "no clocks")

	f, asked = one()
	require.Equal(t, uint64(newestOfFake), run(f, Options{WorkBytes: 4}, as).Timestamp)
	require.Equal(t, []uint64{0, newestOfFake, newestOfFake}, *asked)

	for name, change := range map[string]func(*locuspb.RunRequest){
		"not wanted":  func(r *locuspb.RunRequest) { r.Newest = false },
		"a timestamp": func(r *locuspb.RunRequest) { r.Timestamp = 2000 },
	} {
		f, asked = one()
		require.GreaterOrEqual(t, run(f, Options{}, change).Timestamp, uint64(1000), name)
		require.Len(t, *asked, 1)
		require.GreaterOrEqual(t, (*asked)[0], uint64(1000), name)
	}

	// The map hears of a split between two looks.
	f, asked = one()
	f.change(kroute(1, "", "g", 2, 1), kroute(2, "g", "", 1, 2))
	split := &splitting{fake: f}
	require.GreaterOrEqual(t, runOn(split, f, Options{Parallel: 2}, as).Timestamp, uint64(1000))
	for _, at := range *asked {
		require.GreaterOrEqual(t, at, uint64(1000), "no part is of the newest data")
	}

	// A node of an earlier version does not say what it read at.
	f, asked = one()
	f.silent = true
	require.GreaterOrEqual(t, run(f, Options{}, as).Timestamp, uint64(1000))
	require.Len(t, *asked, 2)

	f, asked = one()
	f.change(kroute(1, "", "g", 2, 1), kroute(2, "g", "", 1, 2))
	require.GreaterOrEqual(t, run(f, Options{Parallel: 1}, as).Timestamp, uint64(1000))
	require.Len(t, *asked, 3)
	require.Equal(t, uint64(0), (*asked)[0])
	require.GreaterOrEqual(t, (*asked)[1], uint64(1000))
	require.Equal(t, (*asked)[1], (*asked)[2])
}

// Rule C6: where a leaseholder came by a snapshot that is younger than the timestamp, another replica runs the function.
func TestYoungLeaseholder(t *testing.T) {
	for _, tc := range []struct {
		name   string
		begins map[ids.StoreID]hlc.Timestamp
		kept   hlc.Timestamp
		lags   map[ids.StoreID]int
		runs   int
		oldest hlc.Timestamp // 0: it is answered
	}{
		{name: "a follower is older", begins: map[ids.StoreID]hlc.Timestamp{1: 60, 2: 50, 3: 10}, runs: 6},
		{name: "it lags", begins: map[ids.StoreID]hlc.Timestamp{1: 60, 2: 50, 3: 10}, lags: map[ids.StoreID]int{3: 3}, runs: 9},
		{name: "none is", begins: map[ids.StoreID]hlc.Timestamp{1: 60, 2: 44, 3: 50}, runs: 3, oldest: 44},
		{name: "one has all that is kept", begins: map[ids.StoreID]hlc.Timestamp{1: 60, 2: 45, 3: 43}, kept: 45, runs: 2, oldest: 45},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "", 1, 1))
			f.begins, f.kept, f.lags = tc.begins, tc.kept, tc.lags
			got, _, err := runAll(t, f, Options{Parallel: 1}, 42)
			require.Equal(t, tc.runs, f.runs)
			if tc.oldest == 0 {
				require.NoError(t, err)
				require.Equal(t, everything, got)
				return
			}
			require.Equal(t, &api.TimestampUnavailableError{Timestamp: 42, Oldest: tc.oldest, Reason: "younger"}, err)
		})
	}
}

func TestSplitInTheMiddle(t *testing.T) {
	f := newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "", 1, 2))
	split := sync.OnceFunc(func() { f.change(kroute(2, "g", "n", 2, 2), kroute(4, "n", "", 2, 3)) })
	f.before = func(_ *fake, req *locuspb.RunRangeRequest) {
		if req.RangeId == 2 {
			split()
		}
	}
	got, last, err := runAll(t, f, Options{}, 42)
	require.NoError(t, err)
	require.Equal(t, everything, got)
	require.Equal(t, uint64(len(everything)), last.Progress.Records, "nothing twice")
	require.Equal(t, uint64(3), last.Progress.RangesDone)
	require.Equal(t, 4, f.runs, "what was done is not redone")
}

func TestLeaderChange(t *testing.T) {
	for name, down := range map[string]bool{"told": false, "dead": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "", 1, 2))
			moved := kroute(2, "g", "", 1, 3)
			moved.Term = 6
			f.change(moved)
			f.down[2] = down
			got, _, err := runAll(t, f, Options{}, 42)
			require.NoError(t, err)
			require.Equal(t, everything, got)
		})
	}
}

func TestNobodyKnownToLead(t *testing.T) {
	f := newFake(kroute(1, "", "", 1, 0))
	known := kroute(1, "", "", 1, 3)
	f.change(known)
	got, _, err := runAll(t, f, Options{}, 42)
	require.NoError(t, err)
	require.Equal(t, everything, got)
}

func TestHole(t *testing.T) {
	missing := kroute(2, "g", "n", 1, 2)
	t.Run("filled in time", func(t *testing.T) {
		f := newFake(kroute(1, "", "g", 1, 1), kroute(3, "n", "", 1, 3))
		f.change(missing)
		f.onRefresh = func(f *fake) { f.Learn([]api.Route{missing}) }
		got, _, err := runAll(t, f, Options{}, 42)
		require.NoError(t, err)
		require.Equal(t, everything, got)
	})
	t.Run("never skipped", func(t *testing.T) {
		f := newFake(kroute(1, "", "g", 1, 1), kroute(3, "n", "", 1, 3))
		_, last, err := runAll(t, f, Options{Patience: 30 * time.Millisecond}, 42)
		var span *api.SpanUnavailableError
		require.ErrorAs(t, err, &span)
		require.True(t, span.Span.Equal(kspan("g", "n")), "%s", span.Span)
		require.False(t, last.GetDone())
	})
}

func TestErrorsOfTheFunctionEndTheRun(t *testing.T) {
	f := newFake(kroute(1, "", "", 1, 1))
	f.fail = &api.FunctionError{Function: "keys", Code: 7, Message: "no"}
	_, _, err := runAll(t, f, Options{}, 42)
	var own *api.FunctionError
	require.ErrorAs(t, err, &own)
	require.Equal(t, int64(7), own.Code)
	require.Equal(t, 1, f.runs, "not repeated")
}

func TestManyRangesInOrder(t *testing.T) {
	// 200 ranges of one key each, answered in any order, some of them only at the second attempt.
	f := newFake()
	f.records = nil
	var routes []api.Route
	name := func(i int) string { return string(binary.BigEndian.AppendUint16([]byte{'k'}, uint16(i))) }
	var want []byte
	for i := range 200 {
		start, end := name(i), name(i+1)
		if i == 0 {
			start = ""
		}
		if i == 199 {
			end = ""
		}
		routes = append(routes, kroute(ids.RangeID(i+1), start, end, 1, ids.StoreID(i%3+1)))
		f.records = append(f.records, name(i))
		want = append(want, name(i)...)
	}
	f.change(routes...)
	f.Learn(routes)
	var once sync.Map
	f.before = func(f *fake, req *locuspb.RunRangeRequest) {
		if _, seen := once.LoadOrStore(req.RangeId, true); !seen && req.RangeId%7 == 0 {
			r := routes[req.RangeId-1]
			r.Leaseholder, r.Term = r.Leaseholder%3+1, 6
			f.change(r)
		}
	}
	got, last, err := runAll(t, f, Options{PendingBytes: 4}, 42)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.Equal(t, uint64(200), last.Progress.RangesDone)
	require.Equal(t, uint64(200), last.Progress.Records)
}

func TestFresh(t *testing.T) {
	f := newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "n", 1, 2), kroute(3, "n", "", 1, 2))
	g := New(Options{Cluster: f, Clock: testClock(), Patience: 5 * time.Second})
	ahead := hlc.FromTime(time.Now().Add(200 * time.Millisecond))
	f.clocks[2] = ahead
	ts, err := g.Fresh(context.Background(), kspan("", ""), 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ts, ahead, "the highest leaseholder's clock")
	require.ElementsMatch(t, []int{1, 2}, f.asked, "one message for each store")
	require.Greater(t, g.o.Clock.Now(), ts)

	token := ahead.Add(50 * time.Millisecond)
	ts, err = g.Fresh(context.Background(), kspan("", ""), token)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ts, token)

	_, err = g.Fresh(context.Background(), kspan("", ""), hlc.FromTime(time.Now().Add(time.Hour)))
	var offset *hlc.OffsetError
	require.ErrorAs(t, err, &offset)

	// A leader that is gone is asked for elsewhere; only what failed is asked again.
	moved := kroute(1, "", "g", 1, 3)
	moved.Term = 6
	f.change(moved)
	f.down[1] = true
	f.clocks[3] = ahead.Add(100 * time.Millisecond)
	ts, err = g.Fresh(context.Background(), kspan("", ""), 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ts, f.clocks[3])

	impatient := New(Options{Cluster: newFake(kroute(1, "", "g", 1, 1)), Clock: testClock(), Patience: 20 * time.Millisecond})
	_, err = impatient.Fresh(context.Background(), kspan("", ""), 0)
	var span *api.SpanUnavailableError
	require.ErrorAs(t, err, &span)
	require.True(t, span.Span.Equal(kspan("g", "")))
}

func TestSpansAreChecked(t *testing.T) {
	f := newFake(kroute(1, "", "", 1, 1))
	g := New(Options{Cluster: f, Clock: testClock()})
	for _, s := range []keys.Span{{}, kspan("b", "a"), kspan("b", "b"), {Start: []byte(prefix)}, {Start: []byte(prefix), End: []byte("\x00\x00\x00\x03")}} {
		err := g.Run(context.Background(), &locuspb.RunRequest{Span: api.SpanToProto(s)}, fixed(&joinAll{}), nil)
		var invalid *api.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, "%s", s)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	f := newFake(kroute(1, "", "", 1, 1))
	ctx, cancel := context.WithCancel(context.Background())
	f.before = func(*fake, *locuspb.RunRangeRequest) { cancel() }
	f.down[1], f.down[2], f.down[3] = true, true, true
	g := New(Options{Cluster: f, Clock: testClock()})
	err := g.Run(ctx, &locuspb.RunRequest{Span: api.SpanToProto(kspan("", "")), Timestamp: 1}, fixed(&joinAll{}), nil)
	require.ErrorIs(t, err, context.Canceled)

	f.before = nil
	err = g.Run(context.Background(), &locuspb.RunRequest{Span: api.SpanToProto(kspan("", "")), Timestamp: 1, TimeoutMs: 30}, fixed(&joinAll{}), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestEmitErrorEndsTheRun(t *testing.T) {
	f := newFake(kroute(1, "", "", 1, 1))
	gone := errors.New("client is gone")
	err := New(Options{Cluster: f, Clock: testClock()}).Run(context.Background(),
		&locuspb.RunRequest{Span: api.SpanToProto(kspan("", "")), Timestamp: 1}, fixed(&joinAll{}),
		func(*locuspb.RunResponse) error { return gone })
	require.ErrorIs(t, err, gone)
}
