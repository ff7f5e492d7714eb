package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// RangeFunc is a registered range function by its name: it visits each key of a span exactly once, where the
// key lies, at one timestamp, and merges what it finds to one result (Run); or a map function, which makes
// outputs of the records it visits (Stream).
type RangeFunc[In, Out any] struct {
	name string
	o    funcOptions
}

// NewRangeFunc names a range function. Options are Version and a Codec (JSON by default).
func NewRangeFunc[In, Out any](name string, opts ...FuncOption) RangeFunc[In, Out] {
	return RangeFunc[In, Out]{name, funcOptionsOf(opts)}
}

// RunOption changes how a range function is run.
type RunOption interface{ applyRun(*runOptions) }

type runOptions struct {
	at       Timestamp
	progress func(Progress)
	keyOrder bool
	hold     time.Duration
	from     Continuation
	onToken  func(Continuation)
	explain  bool
	plan     func(Plan)
	account  func([]RangeAccount)
}

func (t TimestampOption) applyRun(o *runOptions) { o.at = t.at }

// Progress is how far a run of a range function is.
type Progress struct {
	RangesDone, RangesTotal uint64
	Records, Bytes          uint64 // read by the function, on the nodes
	Fuel                    uint64
}

type progressOption func(Progress)

func (f progressOption) applyRun(o *runOptions) { o.progress = f }

// OnProgress has f told now and then how far the run is; of a stream, how much of it was yielded. f runs on the
// goroutine of Run, or of the loop over Stream, and after an interruption may be told less than before.
func OnProgress(f func(Progress)) RunOption { return progressOption(f) }

type keyOrder struct{}

func (keyOrder) applyRun(o *runOptions) { o.keyOrder = true }

// KeyOrder has Stream yield outputs in the order of the keys they were made of (in a hash-partitioned keyspace,
// of the whole of it: in the order of buckets), not as they come. Ranges ahead of their turn then make one page
// of outputs each and wait, so that the stream is about as fast as one range at a time.
func KeyOrder() RunOption { return keyOrder{} }

// Run runs the function over a span and returns its result. By default it sees every write to the span acknowledged
// before; with AtTimestamp it runs as of that timestamp. It changes nothing. When its gateway fails another node goes
// on where that one was, as it last told (Continuation): at the same timestamp, by the same version, and what was done
// is not done again. Without a deadline of ctx it takes as long as it takes, unless 30 s pass without any progress.
//
// Errors are *SpanUnavailableError, *TimestampUnavailableError, *FunctionError, *FunctionNotFoundError,
// *FuelError, *PermissionError, *ResultError and ctx's.
func (f RangeFunc[In, Out]) Run(ctx context.Context, span Span, in In, opts ...RunOption) (Out, error) {
	r, err := f.do(ctx, span, in, true, opts)
	return r.Value, err
}

// Do is Run with more to tell: Result.Timestamp is the one that was read at, above every write acknowledged before. That costs a write to
// the log where Run costs none: where one range has all of the span, Run takes its newest data.
func (f RangeFunc[In, Out]) Do(ctx context.Context, span Span, in In, opts ...RunOption) (Result[Out], error) {
	return f.do(ctx, span, in, false, opts)
}

// do is Do. newest: nobody is told the timestamp.
func (f RangeFunc[In, Out]) do(ctx context.Context, span Span, in In, newest bool, opts []RunOption) (Result[Out], error) {
	var zero Result[Out]
	argument, err := encode(f.o.codec, in)
	if err != nil {
		return zero, err
	}
	if span.ks == nil {
		return zero, errNoKeyspace
	}
	var run ran
	err = span.ks.twice(ctx, func(l *keys.Layout) error {
		req, global, err := f.request(l, span, argument)
		if err != nil {
			return err
		}
		req.Newest = newest
		if run, err = runRange(ctx, span.ks.db, req, global, opts); err != nil {
			span.ks.doubt(err)
		}
		return public(err, span.ks)
	})
	if err != nil {
		return zero, err
	}
	r := Result[Out]{Timestamp: Timestamp(run.last.GetTimestamp()), Fuel: run.fuel, Version: run.last.GetVersion()}
	r.Value, err = decode[Out](f.o.codec, run.last.GetResult())
	return r, err
}

var errNoKeyspace = &InvalidArgumentError{Reason: "the span is of no keyspace"}

// request is for the span as the cluster sees it.
func (f RangeFunc[In, Out]) request(l *keys.Layout, span Span, argument []byte) (*locuspb.RunRequest, keys.Span, error) {
	global, err := span.in(l)
	return &locuspb.RunRequest{
		Function: f.name, Version: f.o.version, Argument: argument, Codec: wireCodecs[f.o.codec],
		Span: &locuspb.Span{Start: global.Start, End: global.End},
	}, global, err
}

// ran is what a run told in the end.
type ran struct {
	last *locuspb.RunResponse
	fuel uint64
}

// runPatience is how long a run is begun again on other nodes without any of them making progress.
const runPatience = 30 * time.Second

func runOptionsOf(opts []RunOption) runOptions {
	var o runOptions
	for _, f := range opts {
		if f != nil {
			f.applyRun(&o)
		}
	}
	return o
}

// runRange runs a range function to its result.
func runRange(ctx context.Context, db *DB, req *locuspb.RunRequest, span keys.Span, opts []RunOption) (r ran, err error) {
	o := runOptionsOf(opts)
	err = runOnSome(ctx, db, req, span, o, func(m *locuspb.RunResponse) bool {
		if m.Progress != nil {
			r.fuel = m.Progress.Fuel
		}
		r.last = m
		return true
	})
	return r, err
}

// runOnSome runs a function over a span on one gateway after another until one ends it, and hands each answer
// to take, until that returns false.
func runOnSome(ctx context.Context, db *DB, req *locuspb.RunRequest, span keys.Span, o runOptions, take func(*locuspb.RunResponse) bool) error {
	if req.Function == "" {
		return &InvalidArgumentError{Reason: "the function has no name"}
	}
	if span.Empty() {
		return &InvalidArgumentError{Reason: "the span is empty"}
	}
	if len(o.from) > 0 {
		at, ok := api.ContinuationTimestamp(o.from)
		if !ok {
			return &ContinuationError{Reason: "it is none"}
		}
		if o.at != 0 && o.at != Timestamp(at) {
			return &ContinuationError{Reason: fmt.Sprintf("it is of timestamp %s, not %s", at, o.at)}
		}
		o.at, req.Continuation = Timestamp(at), o.from
	}
	at, held, err := db.hold(ctx, o.at, span, o.hold, "function "+req.Function)
	if err != nil {
		return err
	}
	defer func() { _ = held.release(ctx) }()
	req.Timestamp = uint64(at)
	req.Token = max(uint64(db.Token()), uint64(tokenOf(ctx)))
	req.Explain = o.explain
	req.Newest = req.Newest && o.onToken == nil // which names the timestamp
	take = told(req, o, take)
	var best advance
	patience := time.Now().Add(runPatience)
	for {
		for _, addr := range db.nodes.order() {
			if at, ok := ctx.Deadline(); ok {
				req.TimeoutMs = max(time.Until(at).Milliseconds(), 1)
			}
			err := runOn(ctx, db, addr, req, func(m *locuspb.RunResponse) bool {
				if best.further(m) {
					patience = time.Now().Add(runPatience)
				}
				return take(m)
			})
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return ended(ctx, err)
			}
			if !elsewhere(err) || time.Now().After(patience) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return reason(ctx)
		case <-db.life.ctx.Done():
			return ErrClosed
		case <-time.After(roundPause):
		}
	}
}

// told hands on what an answer says beside its outputs: before take what is of the way to them, after it where to go on
// behind them, which is also where the next gateway begins.
func told(req *locuspb.RunRequest, o runOptions, take func(*locuspb.RunResponse) bool) func(*locuspb.RunResponse) bool {
	return func(m *locuspb.RunResponse) bool {
		if m.Plan != nil && o.plan != nil {
			o.plan(planOf(m.Plan))
			o.plan = nil // one is enough, also where another gateway makes its own
		}
		if p := m.Progress; p != nil && o.progress != nil {
			o.progress(Progress{p.RangesDone, p.RangesTotal, p.Records, p.Bytes, p.Fuel})
		}
		if !take(m) {
			return false
		}
		if len(m.Continuation) > 0 {
			req.Continuation = m.Continuation
			if o.onToken != nil {
				o.onToken(m.Continuation)
			}
		}
		if m.Done && o.account != nil {
			o.account(accountOf(m.Account))
		}
		return true
	}
}

// advance is the furthest that a run got. Gateways that all fail at the same place make no progress, however much
// each of them did.
type advance struct{ ranges, records uint64 }

func (a *advance) further(m *locuspb.RunResponse) bool {
	now := advance{m.GetProgress().GetRangesDone(), m.GetProgress().GetRecords()}
	if now.ranges <= a.ranges && now.records <= a.records && m.Covered == nil {
		return false
	}
	a.ranges, a.records = max(a.ranges, now.ranges), max(a.records, now.records)
	return true
}

// runOn runs a function with one node as its gateway, until it is done or take has had enough. Answers are
// read when take asks for them: whoever is slow to take them holds up the nodes.
func runOn(ctx context.Context, db *DB, addr string, req *locuspb.RunRequest, take func(*locuspb.RunResponse) bool) error {
	cc, err := db.conns.get(addr)
	if err != nil {
		return err
	}
	if err := ready(ctx, cc); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := service(cc).Run(ctx, req)
	if err != nil {
		return api.FromStatus(err)
	}
	for {
		m, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return &UnavailableError{Reason: "the node " + addr + " ended a run before it was done"}
		case err != nil:
			return api.FromStatus(err)
		case m.Error != nil:
			return api.FromProto(m.Error)
		}
		if !take(m) || m.Done {
			return nil
		}
	}
}
