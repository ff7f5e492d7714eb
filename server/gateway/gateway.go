package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/clustermap"
)

// Cluster is what the gateway needs of the node.
type Cluster interface {
	// Tile cuts a span into pieces of known ranges and holes.
	Tile(span keys.Span) []clustermap.Piece
	// Learn takes over routes from an error's cure.
	Learn(routes []api.Route)
	// Refresh has a newer map fetched soon; it does not wait for it.
	Refresh()
	// Do sends requests to one store and waits for all answers, in the order of the requests.
	Do(ctx context.Context, store ids.StoreID, reqs []*locuspb.Request) ([]*locuspb.Response, error)
	// RunRange executes the function on one range of a store.
	RunRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error)
}

// Reducer is the gateway's half of one run of a function: it merges accumulators and makes the result.
type Reducer interface {
	Version() uint32
	// Hash is that of the version's module; empty for a native function.
	Hash() string
	// Merge makes one accumulator of several, in key order.
	Merge(ctx context.Context, accs [][]byte) (merged []byte, fuel uint64, err error)
	Result(ctx context.Context, accs [][]byte) (result []byte, fuel uint64, err error)
}

// Resolve finds a version of the request's function; 0 is the active one.
type Resolve func(ctx context.Context, version uint32) (Reducer, error)

// Options of a Gateway. Zero values are the defaults named.
type Options struct {
	Cluster Cluster
	Clock   *hlc.Clock
	// Keys are those of continuation tokens. Without any, runs tell none and can't be gone on with.
	Keys Keyring
	// Parallel segments of one run. Default 16.
	Parallel int
	// PerStore segments of one run. Default 4: a store has few cores for functions, and other runs.
	PerStore int
	// PageBytes of outputs that a stream asks for at once. One batch more may come with them, whose outputs are
	// bounded by udf.MaxOutputBytes. Default 256 KiB.
	PageBytes int
	// WorkBytes of records that a range is asked to read at once; it stops by itself after about 250 ms. What a split, a
	// move, a change of leader or a crash makes void is no more than that. Default 32 MiB: at the speed of memory some
	// milliseconds, so that the requests cost nothing.
	WorkBytes int
	// PendingBytes of accumulators that wait for one before them, before later segments are held back.
	// Default 64 MiB.
	PendingBytes int
	// Patience is how long a segment may fail to be reached before the run fails. Default 20 s: several
	// elections.
	Patience time.Duration
	// ProgressEvery is the least time between two reports. Default 100 ms.
	ProgressEvery time.Duration
	// TokenBytes bound a continuation token. Default 8 MiB: the longest accumulator, and as much again.
	TokenBytes int
	// TokenLife is how long a continuation can be used. Default 1 h, as long as a timestamp can be held.
	TokenLife time.Duration
}

func (o Options) withDefaults() Options {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.Parallel, 16)
	set(&o.PerStore, 4)
	set(&o.PageBytes, 256<<10)
	set(&o.WorkBytes, 32<<20)
	set(&o.PendingBytes, 64<<20)
	set(&o.TokenBytes, 8<<20)
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	if o.ProgressEvery == 0 {
		o.ProgressEvery = 100 * time.Millisecond
	}
	if o.TokenLife == 0 {
		o.TokenLife = time.Hour
	}
	return o
}

// Gateway runs range functions. It is safe for concurrent use.
type Gateway struct {
	o Options

	runs, continued, parts, failed atomic.Uint64
}

// Stats count what the gateway did.
type Stats struct {
	Runs      uint64 // begun, by their request or by a continuation
	Continued uint64 // of them by a continuation
	Parts     uint64 // of ranges that were done
	Failed    uint64 // requests for a part that have to be, or had to be, sent again
}

// Stats are the counts up to now.
func (g *Gateway) Stats() Stats {
	return Stats{g.runs.Load(), g.continued.Load(), g.parts.Load(), g.failed.Load()}
}

// New makes a gateway.
func New(o Options) *Gateway { return &Gateway{o: o.withDefaults()} }

// Run executes a range function and hands its progress and then its result to emit; or, if the request says
// stream, a map function, and hands its outputs to emit page by page. A request with a continuation goes on where that
// was made: its timestamp, the version, and what is done stay. An error of the run is returned, not
// emitted; an error of emit ends the run. While emit blocks, the run asks for nothing.
func (g *Gateway) Run(ctx context.Context, req *locuspb.RunRequest, resolve Resolve, emit func(*locuspb.RunResponse) error) error {
	span := api.SpanFromProto(req.Span)
	if err := checkSpan(span); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	if req.TimeoutMs > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(req.TimeoutMs)*time.Millisecond)
	}
	defer cancel()
	from, err := g.resume(ctx, req)
	if err != nil {
		return err
	}
	reducer, err := resolve(ctx, from.version(req))
	if err != nil {
		return err
	}
	if err := from.checkFunction(reducer); err != nil {
		return err
	}
	ts := from.timestamp(req)
	switch {
	case ts != 0:
	case g.newest(req, span):
		err = g.o.Clock.Update(hlc.Timestamp(req.Token))
	default:
		ts, err = g.Fresh(ctx, span, hlc.Timestamp(req.Token))
	}
	if err != nil {
		return err
	}
	g.runs.Add(1)
	if from != nil {
		g.continued.Add(1)
	}
	r := newRun(g, req, ts, reducer, from.segments(), emit)
	r.fuel = from.fuel()
	if err := r.announce(ctx, from); err != nil {
		return err
	}
	return r.loop(ctx)
}

// newest says whether a run reads the newest data of the one range that is known to have all of its span: nothing written before is
// missing there, and no other range has to agree. The timestamp comes with the answer. It costs two round trips and a write to the
// log less than a fresh one.
func (g *Gateway) newest(req *locuspb.RunRequest, span keys.Span) bool {
	if !req.Newest || req.Stream || req.Explain {
		return false
	}
	pieces := g.o.Cluster.Tile(span)
	return len(pieces) == 1 && !pieces[0].Hole()
}

// announce says what is told before anything is done: the plan, and of a stream that goes on what is left of it.
func (r *run) announce(ctx context.Context, from *continuation) error {
	m := r.message()
	if r.req.Explain {
		plan, err := r.plan(ctx)
		if err != nil {
			return err
		}
		m.Plan, r.accounts.on = plan, true
	}
	if r.req.Stream && from != nil {
		for _, s := range r.segments {
			if s.status == open {
				m.Rest = append(m.Rest, api.SpanToProto(s.span))
			}
		}
	}
	if m.Plan == nil && len(m.Rest) == 0 {
		return nil
	}
	return r.emit(m)
}

// checkSpan refuses a span that is empty or not inside one keyspace, whose layout the function's keys need.
func checkSpan(span keys.Span) error {
	if span.Empty() {
		return &api.InvalidArgumentError{Reason: "the span is empty"}
	}
	id, ok := keys.KeyspaceOf(span.Start)
	if !ok || !keys.KeyspaceSpan(id).ContainsSpan(span) {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("the span %s is not inside one keyspace", span)}
	}
	return nil
}

// retryable says whether an error of one segment may go away when the segment is tiled and sent again:
// those of routing, those of nodes that can't be reached, and those that say so.
func retryable(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeRangeNotFound, api.CodeEpochMismatch, api.CodeNotLeaseholder, api.CodeRetry,
		api.CodeUnavailable, api.CodeOverloaded:
		return true
	}
	return false
}
