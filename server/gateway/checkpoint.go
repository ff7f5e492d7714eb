package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// How often a run tells a continuation. A stream does so with each page. Another run does with each report while
// that is cheap, else once in tokenEvery, at most tokenRate bytes a second, and in at most 1 of tokenShare of its
// time, because accumulators have to be merged for it.
const (
	tokenEvery = time.Second
	tokenSmall = 4 << 10 // bytes of accumulators
	tokenRate  = 1 << 20 // bytes a second
	tokenShare = 20
)

// tokenPace says when the next continuation may be made.
type tokenPace struct {
	next     time.Time
	asked    bool   // for the key
	argument []byte // SHA-256 of the request's, once it was needed
}

// keyPatience is how long a run waits for the cluster's key.
const keyPatience = 250 * time.Millisecond

func (r *run) tokenDue() bool {
	return r.pending <= tokenSmall || time.Now().After(r.token.next)
}

// checkpoint is the run's continuation: what is done now stays done. Without the cluster's key there is none, and a
// run whose gateway fails begins again.
func (r *run) checkpoint(ctx context.Context) ([]byte, error) {
	key, ok := r.key(ctx)
	if !ok {
		return nil, nil
	}
	began := time.Now()
	if err := r.merge(ctx, 2); err != nil {
		return nil, err
	}
	plain, err := proto.Marshal(r.state())
	if err != nil {
		return nil, err
	}
	token, err := seal(key, r.ts, plain)
	pause := max(tokenEvery, time.Since(began)*tokenShare, time.Duration(len(token))*time.Second/tokenRate)
	r.token.next = began.Add(pause)
	return token, err
}

// key is the cluster's key. A node that has just started may not have it yet: a run waits a moment for it, once.
func (r *run) key(ctx context.Context) (Key, bool) {
	if r.g.o.Keys == nil {
		return Key{}, false
	}
	wait := keyPatience
	if r.token.asked {
		wait = 0
	}
	r.token.asked = true
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return r.g.o.Keys.Current(ctx)
}

// state is what the continuation says. Parts that are too large for it are left out, the last ones first where all are
// alike: they are done again then, so nothing is lost but their work.
func (r *run) state() *locuspb.RunState {
	if r.token.argument == nil {
		sum := sha256.Sum256(r.req.Argument)
		r.token.argument = sum[:]
	}
	m := &locuspb.RunState{
		Function: r.req.Function, Version: r.reducer.Version(), Hash: r.reducer.Hash(), ArgumentSha256: r.token.argument,
		Codec: uint32(r.req.Codec), Stream: r.req.Stream, KeyOrder: r.req.KeyOrder, Span: r.req.Span,
		Expires: uint64(r.g.o.Clock.Now().Add(r.g.o.TokenLife)), Fuel: r.fuel,
	}
	size := proto.Size(m)
	for _, s := range r.segments {
		if s.status != done {
			continue
		}
		p := &locuspb.RunPiece{
			Span: api.SpanToProto(s.span), Accumulator: s.acc, Ranges: s.took.ranges, Records: s.took.records,
			Bytes: s.took.bytes, Fuel: s.took.fuel,
		}
		if n := proto.Size(p) + 8; size+n <= r.g.o.TokenBytes {
			size += n
			m.Done = append(m.Done, p)
		}
	}
	return m
}

// continuation is a run that is gone on with; nil: a new one.
type continuation struct {
	ts    hlc.Timestamp
	state *locuspb.RunState
}

// resume reads a request's continuation, and refuses one that is not of this cluster, of this request, and of now.
func (g *Gateway) resume(ctx context.Context, req *locuspb.RunRequest) (*continuation, error) {
	if len(req.Continuation) == 0 {
		return nil, nil
	}
	ts, plain, err := unseal(ctx, g.o.Keys, req.Continuation)
	if err != nil {
		return nil, err
	}
	m := new(locuspb.RunState)
	if err := proto.Unmarshal(plain, m); err != nil {
		return nil, refuse("it can't be read: %v", err)
	}
	if expires := hlc.Timestamp(m.Expires); g.o.Clock.Now() >= expires {
		return nil, refuse("it could be used until %s", expires.Time().UTC().Format(time.RFC3339))
	}
	if err := belongs(m, ts, req); err != nil {
		return nil, err
	}
	if err := checkDone(m); err != nil {
		return nil, err
	}
	return &continuation{ts, m}, nil
}

// belongs refuses a continuation of another run than the request's.
func belongs(m *locuspb.RunState, ts hlc.Timestamp, req *locuspb.RunRequest) error {
	sum := sha256.Sum256(req.Argument)
	switch {
	case m.Function != req.Function:
		return refuse("it is of function %q, not %q", m.Function, req.Function)
	case req.Version != 0 && m.Version != req.Version:
		return refuse("it is of version %d of the function, not %d", m.Version, req.Version)
	case !bytes.Equal(m.ArgumentSha256, sum[:]) || m.Codec != uint32(req.Codec):
		return refuse("it is of another argument of the function")
	case !api.SpanFromProto(m.Span).Equal(api.SpanFromProto(req.Span)):
		return refuse("it is of another span")
	case m.Stream != req.Stream || m.KeyOrder != req.KeyOrder:
		return refuse("it is of a run whose results come in another way")
	case req.Timestamp != 0 && ts != hlc.Timestamp(req.Timestamp):
		return refuse("it is of timestamp %s, not %s", ts, hlc.Timestamp(req.Timestamp))
	}
	return nil
}

// checkDone checks that what is done is of the span, in key order and disjoint, so that with what lies between it tiles
// the span. A node that made the token saw to that.
func checkDone(m *locuspb.RunState) error {
	span := api.SpanFromProto(m.Span)
	at := span.Start
	for _, p := range m.Done {
		s := api.SpanFromProto(p.Span)
		if at == nil || s.Empty() || !span.ContainsSpan(s) || bytes.Compare(s.Start, at) < 0 { // nil: the end of all keys
			return refuse("what it says is done is not in key order, or not of its span")
		}
		at = s.End
	}
	return nil
}

func (c *continuation) version(req *locuspb.RunRequest) uint32 {
	if c == nil {
		return req.Version
	}
	return c.state.Version
}

func (c *continuation) timestamp(req *locuspb.RunRequest) hlc.Timestamp {
	if c == nil {
		return hlc.Timestamp(req.Timestamp)
	}
	return c.ts
}

func (c *continuation) fuel() uint64 {
	if c == nil {
		return 0
	}
	return c.state.Fuel
}

// checkFunction refuses to go on with other code than the run began with.
func (c *continuation) checkFunction(f Reducer) error {
	if c == nil || f.Version() == c.state.Version && f.Hash() == c.state.Hash {
		return nil
	}
	return refuse("function %q is not the one that it was made with", c.state.Function)
}

// segments are the parts that are done.
func (c *continuation) segments() []*segment {
	if c == nil {
		return nil
	}
	out := make([]*segment, len(c.state.Done))
	for i, p := range c.state.Done {
		s := api.SpanFromProto(p.Span)
		out[i] = &segment{
			status: done, span: keys.Span{Start: s.Start, End: s.End}, acc: p.Accumulator,
			took: took{ranges: p.Ranges, records: p.Records, bytes: p.Bytes, fuel: p.Fuel},
		}
	}
	return out
}
