package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// ring is a cluster's keys.
type ring []Key

func (r ring) Current(context.Context) (Key, bool) {
	if len(r) == 0 {
		return Key{}, false
	}
	return r[len(r)-1], true
}

func (r ring) Find(_ context.Context, id uint64) (Key, bool, error) {
	i := slices.IndexFunc(r, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return Key{}, false, nil
	}
	return r[i], true, nil
}

func newRing(id uint64) ring { return ring{{ID: id, Secret: bytes.Repeat([]byte{byte(id)}, 32)}} }

// evenRanges are n ranges over the fake's records, on three stores in turn.
func evenRanges(f *fake, n, records int) {
	f.manyRecords(records)
	var routes []api.Route
	for i := range n {
		start, end := fmt.Sprintf("k%04d", i*records/n), fmt.Sprintf("k%04d", (i+1)*records/n)
		if i == 0 {
			start = ""
		}
		if i == n-1 {
			end = ""
		}
		routes = append(routes, kroute(ids.RangeID(i+1), start, end, 1, ids.StoreID(i%3+1)))
	}
	f.change(routes...)
	f.Learn(routes)
}

// TestWorkIsCut: a range is done part by part, and what a split or a change of leader interrupts is the part under way.
func TestWorkIsCut(t *testing.T) {
	f := newFake()
	evenRanges(f, 3, 300)
	var once sync.Once
	f.onRefresh = func(f *fake) { f.Learn(f.truth()) }
	f.before = func(f *fake, req *locuspb.RunRangeRequest) {
		if bytes.Compare(req.Span.Start, []byte(prefix+"k0150")) >= 0 {
			once.Do(func() {
				f.change(kroute(2, "k0100", "k0170", 2, 3), kroute(9, "k0170", "k0200", 2, 1))
			})
		}
	}
	got, last, err := runAll(t, f, Options{WorkBytes: 10}, 42)
	require.NoError(t, err)
	require.Equal(t, strings.Join(f.records, ""), got)
	require.Equal(t, uint64(300), last.Progress.Records)
	require.Equal(t, uint64(4), last.Progress.RangesDone)
	require.Equal(t, uint64(4), last.Progress.RangesTotal)
	require.LessOrEqual(t, f.runs, 30+4, "what was done is not done again")
	require.GreaterOrEqual(t, f.runs, 30)
}

// endAfter ends a run at its n-th message that has a continuation, as if its gateway died right behind it.
type endAfter struct {
	left  int
	token []byte
	out   streamed
}

var errDied = errors.New("the gateway died")

func (e *endAfter) emit(m *locuspb.RunResponse) error {
	e.out.take(m)
	if len(m.Continuation) == 0 {
		return nil
	}
	e.token = m.Continuation
	if e.left--; e.left == 0 {
		return errDied
	}
	return nil
}

// TestGoingOn: gateways die at random after a continuation, ranges split and leaders move meanwhile; each key is in the
// result once and in its place, at one timestamp, and the records that the run counts are those in the result.
func TestGoingOn(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		f := newFake()
		evenRanges(f, 1+rnd.IntN(6), 300)
		want := f.records
		f.onRefresh = func(f *fake) { f.Learn(f.truth()) }
		req := &locuspb.RunRequest{Function: "keys", Argument: []byte("x"), Span: api.SpanToProto(kspan("", "")), Timestamp: 42}
		req.Stream, req.KeyOrder = seed%3 > 0, seed%3 == 1
		o := Options{
			Cluster: f, Clock: testClock(), Keys: newRing(1), Patience: 5 * time.Second, ProgressEvery: time.Nanosecond,
			WorkBytes: 1 + rnd.IntN(9), PageBytes: 1 + rnd.IntN(9), Parallel: 1 + rnd.IntN(5),
			TokenBytes: []int{0, 700}[rnd.IntN(2)],
		}
		var outputs []string
		gateways, moves := 0, 0
		for {
			gateways++
			e := &endAfter{left: 1 + rnd.IntN(6) + gateways}
			err := New(o).Run(context.Background(), req, fixed(&joinAll{}), e.emit)
			outputs = append(outputs, e.out.outputs...)
			if err == nil {
				require.Equal(t, uint64(300), e.out.last.Progress.Records, "seed %d", seed)
				require.Equal(t, uint64(42), e.out.last.Timestamp)
				require.Equal(t, e.out.last.Progress.RangesTotal, e.out.last.Progress.RangesDone)
				if !req.Stream {
					outputs = []string{string(e.out.last.Result)}
					want = []string{strings.Join(want, "")}
				}
				break
			}
			require.ErrorIs(t, err, errDied, "seed %d", seed)
			req.Continuation, req.Timestamp = e.token, 0
			if moves++; moves < 8 {
				all := f.truth()
				r := all[rnd.IntN(len(all))]
				moved := kroute(r.Descriptor.ID, strings.TrimPrefix(string(r.Descriptor.Span.Start), prefix), endOf(r.Descriptor.Span), r.Descriptor.Epoch.Bounds, r.Leaseholder%3+1)
				moved.Term = r.Term + 1
				f.change(moved)
			}
			require.Less(t, gateways, 2000, "no progress")
		}
		require.Greater(t, gateways, 2, "seed %d: nothing died", seed)
		if req.Stream && !req.KeyOrder {
			slices.Sort(outputs)
		}
		require.Equal(t, want, outputs, "seed %d", seed)
	}
}

// tokenOfRun is a continuation from the middle of a run, or of a stream.
func tokenOfRun(t *testing.T, o Options, req *locuspb.RunRequest) []byte {
	t.Helper()
	f := newFake()
	evenRanges(f, 3, 300)
	o.Cluster = f
	if o.Clock == nil {
		o.Clock = testClock()
	}
	o.WorkBytes, o.PageBytes, o.ProgressEvery = 10, 10, time.Nanosecond
	e := &endAfter{left: 3}
	require.ErrorIs(t, New(o).Run(context.Background(), req, fixed(&joinAll{}), e.emit), errDied)
	return e.token
}

func TestContinuationsAreRefused(t *testing.T) {
	request := func() *locuspb.RunRequest {
		return &locuspb.RunRequest{Function: "keys", Argument: []byte("x"), Codec: locuspb.Codec_JSON, Span: api.SpanToProto(kspan("", "")), Timestamp: 42}
	}
	good := tokenOfRun(t, Options{Keys: newRing(1)}, request())
	at, ok := api.ContinuationTimestamp(good)
	require.True(t, ok)
	require.Equal(t, hlc.Timestamp(42), at)
	require.NotContains(t, string(good), "k00", "neither keys nor accumulators can be read")

	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	run := func(o Options, req *locuspb.RunRequest, r Reducer) error {
		f := newFake()
		evenRanges(f, 3, 300)
		o.Cluster, o.Patience = f, time.Second
		if o.Clock == nil {
			o.Clock = testClock()
		}
		return New(o).Run(context.Background(), req, fixed(r), func(*locuspb.RunResponse) error { return nil })
	}
	for name, c := range map[string]struct {
		change  func(req *locuspb.RunRequest, o *Options)
		reducer Reducer
		reason  string
	}{
		"a header byte":         {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(12) }, nil, "altered"},
		"salt":                  {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(tokenHeader) }, nil, "altered"},
		"nonce":                 {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(tokenHeader + tokenSalt) }, nil, "altered"},
		"body":                  {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(-40) }, nil, "altered"},
		"tag":                   {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(-1) }, nil, "altered"},
		"cut off":               {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = good[:len(good)-1] }, nil, "altered"},
		"cut off in the header": {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = good[:20] }, nil, "cut off"},
		"another format":        {func(r *locuspb.RunRequest, _ *Options) { r.Continuation = flip(0) }, nil, "format"},
		"another cluster":       {func(_ *locuspb.RunRequest, o *Options) { o.Keys = newRing(2) }, nil, "key 0000000000000001, which"},
		"a forged key": {func(_ *locuspb.RunRequest, o *Options) {
			o.Keys = ring{{ID: 1, Secret: bytes.Repeat([]byte{9}, 32)}}
		}, nil, "altered"},
		"no keys":          {func(_ *locuspb.RunRequest, o *Options) { o.Keys = nil }, nil, "takes none"},
		"another function": {func(r *locuspb.RunRequest, _ *Options) { r.Function = "other" }, nil, `of function "keys", not "other"`},
		"another version":  {func(r *locuspb.RunRequest, _ *Options) { r.Version = 4 }, nil, "version 3"},
		"another argument": {func(r *locuspb.RunRequest, _ *Options) { r.Argument = []byte("y") }, nil, "argument"},
		"another codec":    {func(r *locuspb.RunRequest, _ *Options) { r.Codec = locuspb.Codec_RAW }, nil, "argument"},
		"another span":     {func(r *locuspb.RunRequest, _ *Options) { r.Span = api.SpanToProto(kspan("a", "")) }, nil, "span"},
		"a stream":         {func(r *locuspb.RunRequest, _ *Options) { r.Stream = true }, nil, "another way"},
		"another time":     {func(r *locuspb.RunRequest, _ *Options) { r.Timestamp = 43 }, nil, "timestamp"},
		"another module":   {func(*locuspb.RunRequest, *Options) {}, &otherModule{}, "not the one"},
		"expired": {func(_ *locuspb.RunRequest, o *Options) {
			o.Clock = hlc.NewClock(func() time.Time { return time.Now().Add(2 * time.Hour) }, 0)
		}, nil, "could be used until"},
	} {
		req, o := request(), Options{Keys: newRing(1)}
		req.Timestamp, req.Continuation = 0, good
		c.change(req, &o)
		if c.reducer == nil {
			c.reducer = &joinAll{}
		}
		err := run(o, req, c.reducer)
		var refused *api.ContinuationError
		require.ErrorAs(t, err, &refused, name)
		require.Contains(t, refused.Reason, c.reason, name)
	}
	req := request()
	req.Continuation = good
	require.NoError(t, run(Options{Keys: newRing(1)}, req, &joinAll{}), "the same, as it is")
	require.NoError(t, run(Options{Keys: append(newRing(1), newRing(2)...)}, req, &joinAll{}), "after a rotation")
	req.Continuation = make([]byte, maxToken+1)
	var limit *api.LimitError
	require.ErrorAs(t, run(Options{Keys: newRing(1)}, req, &joinAll{}), &limit)
}

// TestDoneToTheEndOfAllKeys: the last keyspace's span has no end, and neither has a part that reaches it.
func TestDoneToTheEndOfAllKeys(t *testing.T) {
	last := keys.KeyspaceSpan(1<<32 - 1)
	require.Nil(t, last.End)
	at := append(bytes.Clone(last.Start), 'm')
	g := New(Options{Cluster: newFake(), Clock: testClock()})
	req := &locuspb.RunRequest{Span: api.SpanToProto(last)}
	piece := func(start, end []byte) *locuspb.RunPiece {
		return &locuspb.RunPiece{Span: &locuspb.Span{Start: start, End: end}}
	}
	for name, c := range map[string]struct {
		done []*locuspb.RunPiece
		open int
	}{
		"nothing":  {nil, 1},
		"the rest": {[]*locuspb.RunPiece{piece(at, nil)}, 1},
		"all":      {[]*locuspb.RunPiece{piece(last.Start, at), piece(at, nil)}, 0},
	} {
		m := &locuspb.RunState{Span: req.Span, Done: c.done}
		require.NoError(t, checkDone(m), name)
		from := &continuation{42, m}
		r := newRun(g, req, 42, &joinAll{}, from.segments(), nil)
		require.Equal(t, c.open, r.undone, name)
		require.Len(t, r.segments, c.open+len(c.done), name)
	}
	require.Error(t, checkDone(&locuspb.RunState{Span: req.Span, Done: []*locuspb.RunPiece{piece(last.Start, nil), piece(at, nil)}}))
}

type otherModule struct{ joinAll }

func (*otherModule) Hash() string { return "ab" }

// TestLargeContinuations: a token stays within its bound; what is left out of it is done again, and no more than that.
func TestLargeContinuations(t *testing.T) {
	req := &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Timestamp: 42}
	const bound = 600
	f := newFake()
	evenRanges(f, 3, 300)
	o := Options{Cluster: f, Clock: testClock(), Keys: newRing(1), WorkBytes: 10, ProgressEvery: time.Nanosecond, TokenBytes: bound, Patience: time.Second}
	var last []byte
	err := New(o).Run(context.Background(), req, fixed(&joinAll{}), func(m *locuspb.RunResponse) error {
		require.LessOrEqual(t, len(m.Continuation), bound+tokenHeader+tokenSalt+28)
		if len(m.Continuation) > 0 {
			last = m.Continuation
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, last)
	f.runs = 0
	req.Continuation = last
	e := &endAfter{}
	require.NoError(t, New(o).Run(context.Background(), req, fixed(&joinAll{}), e.emit))
	require.Equal(t, strings.Join(f.records, ""), string(e.out.last.Result))
	require.Equal(t, uint64(300), e.out.last.Progress.Records)
}

// TestRunsWithoutAKey: while the cluster's key can't be had, runs are as good as ever, and tell no continuation.
func TestRunsWithoutAKey(t *testing.T) {
	f := newFake()
	evenRanges(f, 3, 300)
	req := &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Timestamp: 42}
	o := Options{Cluster: f, Clock: testClock(), Keys: ring{}, WorkBytes: 10, ProgressEvery: time.Nanosecond}
	e := &endAfter{}
	require.NoError(t, New(o).Run(context.Background(), req, fixed(&joinAll{}), e.emit))
	require.Empty(t, e.token)
	require.Equal(t, strings.Join(f.records, ""), string(e.out.last.Result))
}

// TestTokenPace: accumulators that are not small are merged and sent once a second at most, whatever the progress.
func TestTokenPace(t *testing.T) {
	r := &run{}
	require.True(t, r.tokenDue())
	r.token.next = time.Now().Add(time.Hour)
	require.True(t, r.tokenDue(), "small ones cost nothing")
	r.pending = tokenSmall + 1
	require.False(t, r.tokenDue())
	r.token.next = time.Now()
	require.True(t, r.tokenDue())
}

// FuzzContinuation: whatever a client sends is refused with a type, or is a run of exactly the request's span.
func FuzzContinuation(f *testing.F) {
	t := testing.TB(f)
	req := &locuspb.RunRequest{Function: "keys", Argument: []byte("x"), Span: api.SpanToProto(kspan("", ""))}
	state := func(change func(*locuspb.RunState)) []byte {
		c := newFake(kroute(1, "", "", 1, 1))
		r := newRun(New(Options{Cluster: c, Clock: testClock()}), req, 42, &joinAll{}, nil, nil)
		m := r.state()
		change(m)
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return b
	}
	sealed, err := seal(newRing(1)[0], 42, state(func(*locuspb.RunState) {}))
	require.NoError(t, err)
	f.Add(sealed, false)
	piece := func(a, b string) *locuspb.RunPiece {
		return &locuspb.RunPiece{Span: api.SpanToProto(kspan(a, b)), Records: 3}
	}
	f.Add(state(func(m *locuspb.RunState) { m.Done = append(m.Done, piece("b", "d"), piece("d", "x")) }), true)
	f.Add(state(func(m *locuspb.RunState) { m.Done = append(m.Done, piece("d", "x"), piece("b", "e")) }), true)
	f.Add(state(func(m *locuspb.RunState) { m.Done = append(m.Done, &locuspb.RunPiece{}) }), true)
	f.Fuzz(func(t *testing.T, data []byte, authentic bool) {
		g := New(Options{Cluster: newFake(kroute(1, "", "g", 1, 1), kroute(2, "g", "", 1, 2)), Clock: testClock(), Keys: newRing(1)})
		in := proto.CloneOf(req)
		in.Continuation = data
		if authentic { // as if a node of another version had made it
			var err error
			in.Continuation, err = seal(newRing(1)[0], 42, data)
			require.NoError(t, err)
		}
		c, err := g.resume(context.Background(), in)
		if err != nil {
			var refused *api.ContinuationError
			require.ErrorAs(t, err, &refused)
			return
		}
		var spans []keys.Span
		if c == nil {
			require.Empty(t, in.Continuation)
		}
		for _, s := range newRun(g, in, c.timestamp(in), &joinAll{}, c.segments(), nil).segments {
			spans = append(spans, s.span)
		}
		requireTiles(t, kspan("", ""), spans)
	})
}

// TestAccumulatorsAreBounded: while the first range does not answer, the others' accumulators pile up to PendingBytes, those that are
// in flight included, and no further.
func TestAccumulatorsAreBounded(t *testing.T) {
	const ranges, size, bound = 40, 1 << 20, 5 << 20
	f := newFake()
	evenRanges(f, ranges, 400)
	first := make(chan struct{})
	c := &large{fake: f, size: size, first: first}
	o := Options{Cluster: c, Clock: testClock(), PendingBytes: bound, Parallel: 8, PerStore: 8}
	g := New(o)
	ended := make(chan error, 1)
	var result []byte
	go func() {
		ended <- g.Run(context.Background(), &locuspb.RunRequest{Function: "keys", Span: api.SpanToProto(kspan("", "")), Timestamp: 42}, fixed(&joinAll{}), func(m *locuspb.RunResponse) error {
			result = m.Result
			return nil
		})
	}()
	// Whoever may run has run.
	for before := int64(-1); before != c.made.Load() || before == 0; time.Sleep(20 * time.Millisecond) {
		before = c.made.Load()
	}
	made := c.made.Load()
	close(first)
	require.NoError(t, <-ended)
	require.Len(t, result, ranges*size)
	// The first ones are sent before anybody knows how large they are.
	require.LessOrEqual(t, made, int64(bound/size+8))
	require.GreaterOrEqual(t, made, int64(bound/size))
	require.Equal(t, int64(ranges-1), c.made.Load())
}

// large answers with accumulators of a size; the first range waits.
type large struct {
	*fake
	size  int
	first chan struct{}
	made  atomic.Int64
}

func (l *large) RunRange(_ context.Context, _ ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	if req.RangeId == 1 {
		<-l.first
	} else {
		l.made.Add(1)
	}
	return &locuspb.RunRangeResponse{Accumulator: make([]byte, l.size)}, nil
}
