package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/clustermap"
)

// outcome is what a segment's goroutine reports.
type outcome struct {
	segment *segment
	answer  *locuspb.RunRangeResponse
	err     error
}

// run is one execution. Everything in it belongs to the goroutine of loop.
type run struct {
	g       *Gateway
	req     *locuspb.RunRequest
	span    keys.Span
	ts      hlc.Timestamp // 0: the first answer brings it, and until then there is one segment (Gateway.newest)
	reducer Reducer
	emit    func(*locuspb.RunResponse) error

	segments []*segment // in key order; exactly the span
	undone   int        // those that are not done
	pages    []*segment // those that are held, in the order they came (stream.go)
	outcomes chan outcome
	running  map[ids.StoreID]int
	inFlight int
	pending  int // bytes of accumulators in segments
	largest  int // of an accumulator that a range answered with

	total    uint64 // ranges
	took     took   // of all segments that are done
	fuel     uint64 // of merges
	reported time.Time
	dirty    bool       // the progress has changed since it was reported
	token    tokenPace  // (checkpoint.go)
	accounts accounting // (plan.go)
}

// newRun is a run with some parts of the span done, in key order and disjoint.
func newRun(g *Gateway, req *locuspb.RunRequest, ts hlc.Timestamp, reducer Reducer, finished []*segment, emit func(*locuspb.RunResponse) error) *run {
	r := &run{
		g: g, req: req, span: api.SpanFromProto(req.Span), ts: ts, reducer: reducer, emit: emit,
		outcomes: make(chan outcome, g.o.Parallel), running: make(map[ids.StoreID]int), dirty: true,
	}
	left := r.span
	tile := func(end []byte) {
		if gap := (keys.Span{Start: left.Start, End: end}); !gap.Empty() {
			for _, p := range g.o.Cluster.Tile(gap) {
				r.segments = append(r.segments, &segment{span: p.Span})
			}
		}
	}
	for _, s := range finished {
		tile(s.span.Start)
		r.segments = append(r.segments, s)
		r.count(s)
		left.Start = s.span.End
	}
	if left.Start != nil { // else the last part ends where all keys do
		tile(left.End)
	}
	r.undone = len(r.segments) - len(finished)
	r.total = uint64(r.undone) + r.took.ranges
	return r
}

// count takes a segment that is done into the progress.
func (r *run) count(s *segment) {
	r.took.add(s.took)
	r.pending += len(s.acc)
	r.dirty = true
}

// loop dispatches segments and takes their outcomes until none is left, or one failed for good.
func (r *run) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.drain()
	defer cancel()
	ticker := time.NewTicker(r.g.o.ProgressEvery)
	defer ticker.Stop()
	for r.undone > 0 {
		wake, err := r.dispatch(ctx)
		if err != nil {
			return err
		}
		if s := r.next(); s != nil {
			if err := r.emitPage(ctx, s); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-r.outcomes:
			err = r.take(ctx, o)
		case <-wake:
		case <-ticker.C:
			err = r.report(ctx)
		}
		if err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// drain waits for the goroutines of segments; their contexts are cancelled.
func (r *run) drain() {
	for ; r.inFlight > 0; r.inFlight-- {
		<-r.outcomes
	}
}

// dispatch starts what may run now. The channel, if any, says when a paused segment wants its next attempt.
func (r *run) dispatch(ctx context.Context) (wake <-chan time.Time, err error) {
	now := time.Now()
	var soonest time.Time
	turn := r.turn()
	for i := 0; i < len(r.segments); i++ {
		s := r.segments[i]
		if s.status != open || s.running || s.pages > r.ahead(s, turn) {
			continue
		}
		if s.resume.After(now) {
			if soonest.IsZero() || s.resume.Before(soonest) {
				soonest = s.resume
			}
			continue
		}
		// Held back, but never the one whose turn it is: all others wait for it.
		if s != turn && r.crowded() {
			break
		}
		if err := r.start(ctx, i); err != nil {
			return nil, err
		}
	}
	if soonest.IsZero() {
		return nil, nil
	}
	return time.After(time.Until(soonest)), nil
}

// turn is the segment that the first part which is not done belongs to; it is open, or about to be emitted.
func (r *run) turn() *segment {
	for _, s := range r.segments {
		switch {
		case s.status == open:
			return s
		case s.status == held:
			return s.of
		}
	}
	return nil
}

// crowded: as much is in flight, and waits, as may. What is in flight may become as large as the largest so far.
func (r *run) crowded() bool {
	return r.inFlight+len(r.pages) >= r.g.o.Parallel || r.pending+r.inFlight*r.largest > r.g.o.PendingBytes
}

// start sends segment i to a store, or cuts it where the map has other bounds now.
func (r *run) start(ctx context.Context, i int) error {
	s := r.segments[i]
	pieces := r.g.o.Cluster.Tile(s.span)
	if r.ts == 0 && (len(pieces) > 1 || len(r.segments) > 1) {
		var err error
		if r.ts, err = r.g.Fresh(ctx, r.span, hlc.Timestamp(r.req.Token)); err != nil {
			return err
		}
	}
	if len(pieces) > 1 {
		r.cut(i, pieces)
		r.undone += len(pieces) - 1
	}
	p := pieces[0]
	if p.Hole() {
		return r.postpone(ctx, s, errHole)
	}
	store := target(p.Route, s.attempt)
	if s.refusals.Any() {
		left := s.refusals.Left(p.Route.Descriptor)
		if len(left) == 0 {
			return s.refusals.Err()
		}
		store = left[s.attempt/2%len(left)]
	}
	if r.running[store] >= r.g.o.PerStore {
		return nil
	}
	s.running, s.store, s.rangeID, s.began = true, store, p.Route.Descriptor.ID, time.Now()
	r.running[store]++
	r.inFlight++
	r.accounts.asked(s.rangeID)
	req := r.request(ctx, p, s.span)
	if r.req.Stream {
		req.PageBytes = uint64(r.g.o.PageBytes)
	}
	go func() {
		answer, err := r.g.runRange(ctx, store, req)
		r.outcomes <- outcome{segment: s, answer: answer, err: err}
	}()
	return nil
}

// request is for a part of a range.
func (r *run) request(ctx context.Context, p clustermap.Piece, span keys.Span) *locuspb.RunRangeRequest {
	req := &locuspb.RunRangeRequest{
		Function: r.req.Function, Version: r.reducer.Version(), Argument: r.req.Argument, Codec: r.req.Codec,
		RangeId: uint64(p.Route.Descriptor.ID), BoundsEpoch: p.Route.Descriptor.Epoch.Bounds,
		Span: api.SpanToProto(span), Timestamp: uint64(r.ts), Clock: uint64(r.g.o.Clock.Hint()),
		WorkBytes: uint64(r.g.o.WorkBytes),
	}
	if deadline, ok := ctx.Deadline(); ok {
		req.TimeoutMs = max(1, time.Until(deadline).Milliseconds())
	}
	return req
}

// runRange makes the error that an answer says one of the call.
func (g *Gateway) runRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	answer, err := g.o.Cluster.RunRange(ctx, store, req)
	if err == nil && answer.Error != nil {
		err = api.FromProto(answer.Error)
	}
	return answer, err
}

// take handles one outcome.
func (r *run) take(ctx context.Context, o outcome) error {
	s := o.segment
	r.inFlight--
	if r.running[s.store]--; r.running[s.store] == 0 {
		delete(r.running, s.store)
	}
	s.running = false
	r.accounts.note(s, o)
	var old *api.TimestampUnavailableError
	if errors.As(o.err, &old) {
		r.g.failed.Add(1)
		return s.tooOld(old)
	}
	if o.err != nil {
		r.g.failed.Add(1)
		r.g.o.Cluster.Learn(clustermap.Cure(o.err))
		return r.postpone(ctx, s, o.err)
	}
	r.g.parts.Add(1)
	switch at := hlc.Timestamp(o.answer.Timestamp); {
	case r.ts != 0:
	case at != 0:
		r.ts = at
	default: // a node of an earlier version, which does not say what it read at
		var err error
		r.ts, err = r.g.Fresh(ctx, r.span, hlc.Timestamp(r.req.Token))
		return err
	}
	part, err := r.split(s, o.answer)
	if err != nil {
		return err
	}
	if part != s {
		r.undone++
	}
	if r.req.Stream {
		r.hold(part)
		return nil
	}
	part.status = done
	r.undone--
	r.largest = max(r.largest, len(part.acc))
	r.count(part)
	return r.merge(ctx, mergeBatch)
}

// tooOld takes a replica's refusal of the timestamp: start asks another, unless the cluster does not keep it at all.
func (s *segment) tooOld(e *api.TimestampUnavailableError) error {
	s.refusals.Add(s.store, e)
	if e.Elsewhere {
		return nil
	}
	return s.refusals.Err()
}

// postpone makes a segment wait for its next attempt, or gives up. An error with a cure costs no pause the
// first time.
func (r *run) postpone(ctx context.Context, s *segment, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !retryable(cause) {
		return cause
	}
	cured := len(clustermap.Cure(cause)) > 0
	s.attempt++
	if cured { // even: ask whom the cure names
		s.attempt = (s.attempt + 1) &^ 1
	}
	if s.patience == nil {
		p := newPatience(r.g.o.Patience)
		s.patience = &p
		if cured {
			return nil
		}
	} else {
		own := *s.patience // parts of a cut segment share the deadline, not the pace
		s.patience = &own
	}
	pause, ok := s.patience.next()
	if !ok {
		return unavailable(ctx, s.span, cause)
	}
	s.resume = time.Now().Add(pause)
	r.g.o.Cluster.Refresh()
	return nil
}

// report sends the progress if it moved and the last report is long enough ago.
func (r *run) report(ctx context.Context) error {
	if !r.dirty || time.Since(r.reported) < r.g.o.ProgressEvery/2 {
		return nil
	}
	m := r.message()
	if r.ts != 0 && r.tokenDue() {
		var err error
		if m.Continuation, err = r.checkpoint(ctx); err != nil {
			return err
		}
	}
	r.dirty, r.reported = false, time.Now()
	return r.emit(m)
}

// message is an answer with what all of them have.
func (r *run) message() *locuspb.RunResponse {
	return &locuspb.RunResponse{
		Clock: uint64(r.g.o.Clock.Hint()), Timestamp: uint64(r.ts), Version: r.reducer.Version(),
		Progress: &locuspb.Progress{
			RangesDone: r.took.ranges, RangesTotal: r.total,
			Records: r.took.records, Bytes: r.took.bytes, Fuel: r.took.fuel + r.fuel,
		},
	}
}

func (r *run) finish(ctx context.Context) error {
	if err := r.complete(); err != nil {
		return err
	}
	var result []byte
	if !r.req.Stream {
		out, fuel, err := r.reducer.Result(ctx, accumulators(r.segments))
		if err != nil {
			return err
		}
		r.fuel += fuel
		result = out
	}
	m := r.message()
	m.Result, m.Done, m.Account = result, true, slices.Clone(r.accounts.list)
	return r.emit(m)
}
