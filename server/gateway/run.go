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

// mergeBatch is how many accumulators are merged at a time: enough to make the call to the function worth
// it, few enough that the run's last merge is short.
const mergeBatch = 16

// segment is a part of the span that lies in one range, as far as is known, and is done whole or not at
// all; in a stream, page by page.
type segment struct {
	span     keys.Span
	attempt  int
	patience *patience // nil until it failed once
	resume   time.Time // not before
	running  bool
	store    ids.StoreID // while running
	done     bool
	acc      []byte
	refusals api.Refusals // of replicas that can't be read as far back; the others are asked
	held     int          // pages of it that wait to be emitted (stream.go)
}

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
	ts      hlc.Timestamp
	reducer Reducer
	emit    func(*locuspb.RunResponse) error

	segments []*segment // in key order; together with what is merged, exactly the span
	merged   [][]byte   // accumulators of everything before segments[0]
	outcomes chan outcome
	running  map[ids.StoreID]int
	inFlight int
	pending  int // bytes of accumulators in segments
	progress locuspb.Progress
	reported time.Time
	dirty    bool   // progress has changed since it was reported
	pages    []page // in the order they came (stream.go)
}

func newRun(g *Gateway, req *locuspb.RunRequest, spans []keys.Span, ts hlc.Timestamp, reducer Reducer, emit func(*locuspb.RunResponse) error) *run {
	r := &run{
		g: g, req: req, ts: ts, reducer: reducer, emit: emit,
		outcomes: make(chan outcome, g.o.Parallel), running: make(map[ids.StoreID]int),
	}
	for _, span := range spans {
		for _, p := range g.o.Cluster.Tile(span) {
			r.segments = append(r.segments, &segment{span: p.Span})
		}
	}
	r.progress.RangesTotal = uint64(len(r.segments))
	return r
}

// loop dispatches segments and takes their outcomes until none is left, or one failed for good.
func (r *run) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.drain()
	defer cancel()
	ticker := time.NewTicker(r.g.o.ProgressEvery)
	defer ticker.Stop()
	for len(r.segments) > 0 {
		wake, err := r.dispatch(ctx)
		if err != nil {
			return err
		}
		if i := r.next(); i >= 0 {
			if err := r.emitPage(ctx, i); err != nil {
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
			err = r.report()
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
	for i := 0; i < len(r.segments) && (r.inFlight+len(r.pages) < r.g.o.Parallel || i == 0); i++ {
		s := r.segments[i]
		if s.running || s.done || s.held > r.ahead(i) {
			continue
		}
		if s.resume.After(now) {
			if soonest.IsZero() || s.resume.Before(soonest) {
				soonest = s.resume
			}
			continue
		}
		// Held back, but never the first: all others wait for it.
		if i > 0 && r.pending > r.g.o.PendingBytes {
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

// start sends segment i to a store, or cuts it where the map has other bounds now.
func (r *run) start(ctx context.Context, i int) error {
	s := r.segments[i]
	pieces := r.g.o.Cluster.Tile(s.span)
	if len(pieces) > 1 {
		r.cut(i, pieces)
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
	s.running, s.store = true, store
	r.running[store]++
	r.inFlight++
	req := &locuspb.RunRangeRequest{
		Function: r.req.Function, Version: r.reducer.Version(), Argument: r.req.Argument, Codec: r.req.Codec,
		RangeId: uint64(p.Route.Descriptor.ID), BoundsEpoch: p.Route.Descriptor.Epoch.Bounds,
		Span: api.SpanToProto(s.span), Timestamp: uint64(r.ts), Clock: uint64(r.g.o.Clock.Hint()),
	}
	if r.req.Stream {
		req.PageBytes = uint64(r.g.o.PageBytes)
	}
	if deadline, ok := ctx.Deadline(); ok {
		req.TimeoutMs = max(1, time.Until(deadline).Milliseconds())
	}
	go func() {
		answer, err := r.g.o.Cluster.RunRange(ctx, store, req)
		if err == nil && answer.Error != nil {
			err = api.FromProto(answer.Error)
		}
		r.outcomes <- outcome{segment: s, answer: answer, err: err}
	}()
	return nil
}

// cut makes segment i one for each piece; they inherit its patience, and who can't show the timestamp: a split takes its
// history along. It stays the first of them, because pages
// may name it.
func (r *run) cut(i int, pieces []clustermap.Piece) {
	old := r.segments[i]
	old.span = pieces[0].Span
	parts := make([]*segment, len(pieces)-1)
	for j, p := range pieces[1:] {
		parts[j] = &segment{span: p.Span, attempt: old.attempt, patience: old.patience, refusals: old.refusals}
	}
	r.segments = slices.Insert(r.segments, i+1, parts...)
	r.progress.RangesTotal += uint64(len(pieces) - 1)
}

// take handles one outcome.
func (r *run) take(ctx context.Context, o outcome) error {
	s := o.segment
	r.inFlight--
	if r.running[s.store]--; r.running[s.store] == 0 {
		delete(r.running, s.store)
	}
	s.running = false
	var old *api.TimestampUnavailableError
	if errors.As(o.err, &old) {
		return s.tooOld(old)
	}
	if o.err != nil {
		r.g.o.Cluster.Learn(clustermap.Cure(o.err))
		return r.postpone(ctx, s, o.err)
	}
	r.progress.Records += o.answer.Records
	r.progress.Bytes += o.answer.Bytes
	r.progress.Fuel += o.answer.Fuel
	if r.req.Stream {
		return r.takePage(s, o.answer)
	}
	s.done, s.acc = true, o.answer.Accumulator
	r.pending += len(s.acc)
	r.progress.RangesDone++
	r.dirty = true
	return r.advance(ctx)
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

// advance moves finished segments at the front into the merged accumulators, and merges these when there
// are many.
func (r *run) advance(ctx context.Context) error {
	for len(r.segments) > 0 && r.segments[0].done {
		s := r.segments[0]
		r.segments = r.segments[1:]
		r.merged = append(r.merged, s.acc)
		r.pending -= len(s.acc)
	}
	if len(r.merged) < mergeBatch {
		return nil
	}
	acc, fuel, err := r.reducer.Merge(ctx, r.merged)
	if err != nil {
		return err
	}
	r.progress.Fuel += fuel
	r.merged = append(r.merged[:0], acc)
	return nil
}

// report sends the progress if it moved and the last report is long enough ago.
func (r *run) report() error {
	if !r.dirty || time.Since(r.reported) < r.g.o.ProgressEvery/2 {
		return nil
	}
	r.dirty, r.reported = false, time.Now()
	return r.emit(r.message())
}

// message is an answer with what all of them have.
func (r *run) message() *locuspb.RunResponse {
	return &locuspb.RunResponse{
		Clock: uint64(r.g.o.Clock.Hint()), Timestamp: uint64(r.ts), Version: r.reducer.Version(),
		Progress: &locuspb.Progress{
			RangesDone: r.progress.RangesDone, RangesTotal: r.progress.RangesTotal,
			Records: r.progress.Records, Bytes: r.progress.Bytes, Fuel: r.progress.Fuel,
		},
	}
}

func (r *run) finish(ctx context.Context) error {
	if r.req.Stream {
		m := r.message()
		m.Done = true
		return r.emit(m)
	}
	result, fuel, err := r.reducer.Result(ctx, r.merged)
	if err != nil {
		return err
	}
	r.progress.Fuel += fuel
	m := r.message()
	m.Result, m.Done = result, true
	return r.emit(m)
}
