package gateway

import (
	"bytes"
	"context"
	"fmt"
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
	// Merge makes one accumulator of several, in key order.
	Merge(ctx context.Context, accs [][]byte) (merged []byte, fuel uint64, err error)
	Result(ctx context.Context, accs [][]byte) (result []byte, fuel uint64, err error)
}

// Options of a Gateway. Zero values are the defaults named.
type Options struct {
	Cluster Cluster
	Clock   *hlc.Clock
	// Parallel segments of one run. Default 16.
	Parallel int
	// PerStore segments of one run. Default 4: a store has few cores for functions, and other runs.
	PerStore int
	// PageBytes of outputs that a stream asks for at once. One batch more may come with them, whose outputs are
	// bounded by udf.MaxOutputBytes. Default 256 KiB.
	PageBytes int
	// PendingBytes of accumulators that wait for one before them, before later segments are held back.
	// Default 64 MiB.
	PendingBytes int
	// Patience is how long a segment may fail to be reached before the run fails. Default 20 s: several
	// elections.
	Patience time.Duration
	// ProgressEvery is the least time between two reports. Default 100 ms.
	ProgressEvery time.Duration
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
	set(&o.PendingBytes, 64<<20)
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	if o.ProgressEvery == 0 {
		o.ProgressEvery = 100 * time.Millisecond
	}
	return o
}

// Gateway runs range functions. It is safe for concurrent use.
type Gateway struct{ o Options }

// New makes a gateway.
func New(o Options) *Gateway { return &Gateway{o: o.withDefaults()} }

// Run executes a range function and hands its progress and then its result to emit; or, if the request says
// stream, a map function, and hands its outputs to emit page by page. An error of the run is returned, not
// emitted; an error of emit ends the run. While emit blocks, the run asks for nothing.
func (g *Gateway) Run(ctx context.Context, req *locuspb.RunRequest, reducer Reducer, emit func(*locuspb.RunResponse) error) error {
	span := api.SpanFromProto(req.Span)
	if err := checkSpan(span); err != nil {
		return err
	}
	spans, err := rest(req, span)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	if req.TimeoutMs > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(req.TimeoutMs)*time.Millisecond)
	}
	defer cancel()
	ts := hlc.Timestamp(req.Timestamp)
	if ts == 0 {
		if ts, err = g.Fresh(ctx, span, hlc.Timestamp(req.Token)); err != nil {
			return err
		}
	}
	r := newRun(g, req, spans, ts, reducer, emit)
	return r.loop(ctx)
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

// rest is what a request leaves to be done: its span, or the parts of it that are left of an earlier stream.
func rest(req *locuspb.RunRequest, span keys.Span) ([]keys.Span, error) {
	if len(req.Rest) == 0 {
		return []keys.Span{span}, nil
	}
	if !req.Stream {
		return nil, &api.InvalidArgumentError{Reason: "only a stream can be taken up again"}
	}
	out := make([]keys.Span, len(req.Rest))
	at := span.Start
	for i, p := range req.Rest {
		s := api.SpanFromProto(p)
		if s.Empty() || !span.ContainsSpan(s) || bytes.Compare(s.Start, at) < 0 {
			return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("the rest %s is empty, outside of %s, or not in key order", s, span)}
		}
		out[i], at = s, s.End
	}
	return out, nil
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
