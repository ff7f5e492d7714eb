package client

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// RangeFunc is a registered range function by its name: it visits each key of a span exactly once, where the
// key lies, at one timestamp, and merges what it finds to one result.
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

// OnProgress has f told now and then how far the run is. f runs on the goroutine of Run, and after an
// interruption may be told less than before.
func OnProgress(f func(Progress)) RunOption { return progressOption(f) }

// Run runs the function over a span and returns its result. By default it sees every write acknowledged
// before; with AtTimestamp it runs as of that timestamp. It changes nothing, and is repeated on another
// node when its gateway fails. Without a deadline of ctx it takes as long as it takes.
//
// Errors are *SpanUnavailableError, *TimestampUnavailableError, *FunctionError, *FunctionNotFoundError,
// ErrFuelExhausted, *ResultError and ctx's.
func (f RangeFunc[In, Out]) Run(ctx context.Context, span Span, in In, opts ...RunOption) (Out, error) {
	r, err := f.Do(ctx, span, in, opts...)
	return r.Value, err
}

// Do is Run with more to tell: Result.Timestamp is the one that was read at.
func (f RangeFunc[In, Out]) Do(ctx context.Context, span Span, in In, opts ...RunOption) (Result[Out], error) {
	var zero Result[Out]
	argument, err := encode(f.o.codec, in)
	if err != nil {
		return zero, err
	}
	if span.ks == nil {
		return zero, &InvalidArgumentError{Reason: "the span is of no keyspace"}
	}
	var run ran
	err = span.ks.twice(ctx, func(l *keys.Layout) error {
		global, err := span.in(l)
		if err != nil {
			return err
		}
		req := &locuspb.RunRequest{
			Function: f.name, Version: f.o.version, Argument: argument, Codec: wireCodecs[f.o.codec],
			Span: &locuspb.Span{Start: global.Start, End: global.End},
		}
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

// ran is what the stream of a run told in the end.
type ran struct {
	last *locuspb.RunResponse
	fuel uint64
}

// runPatience is how long a run is begun again on other nodes without any of them making progress.
const runPatience = 30 * time.Second

// runRange runs a range function on one gateway after another until one ends it.
func runRange(ctx context.Context, db *DB, req *locuspb.RunRequest, span keys.Span, opts []RunOption) (ran, error) {
	var o runOptions
	for _, f := range opts {
		if f != nil {
			f.applyRun(&o)
		}
	}
	if req.Function == "" {
		return ran{}, &InvalidArgumentError{Reason: "the function has no name"}
	}
	if span.Empty() {
		return ran{}, &InvalidArgumentError{Reason: "the span is empty"}
	}
	req.Timestamp = uint64(o.at)
	req.Token = max(uint64(db.Token()), uint64(tokenOf(ctx)))
	patience := time.Now().Add(runPatience)
	for {
		for _, addr := range db.nodes.order() {
			if at, ok := ctx.Deadline(); ok {
				req.TimeoutMs = max(time.Until(at).Milliseconds(), 1)
			}
			r, progressed, err := runOn(ctx, db, addr, req, o.progress)
			if err == nil {
				return r, nil
			}
			if progressed {
				patience = time.Now().Add(runPatience)
			}
			if ctx.Err() != nil {
				return ran{}, ended(ctx, err)
			}
			if !elsewhere(err) || time.Now().After(patience) {
				return ran{}, err
			}
		}
		select {
		case <-ctx.Done():
			return ran{}, reason(ctx)
		case <-db.life.ctx.Done():
			return ran{}, ErrClosed
		case <-time.After(roundPause):
		}
	}
}

// runOn runs a range function with one node as its gateway.
func runOn(ctx context.Context, db *DB, addr string, req *locuspb.RunRequest, tell func(Progress)) (r ran, progressed bool, err error) {
	cc, err := db.conns.get(addr)
	if err != nil {
		return ran{}, false, err
	}
	if err := ready(ctx, cc); err != nil {
		return ran{}, false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := service(cc).Run(ctx, req)
	if err != nil {
		return ran{}, false, api.FromStatus(err)
	}
	for {
		m, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return ran{}, progressed, &UnavailableError{Reason: "the node " + addr + " ended a run without a result"}
		case err != nil:
			return ran{}, progressed, api.FromStatus(err)
		case m.Error != nil:
			return ran{}, progressed, api.FromProto(m.Error)
		}
		if p := m.Progress; p != nil {
			progressed = true
			r.fuel = p.Fuel
			if tell != nil {
				tell(Progress{p.RangesDone, p.RangesTotal, p.Records, p.Bytes, p.Fuel})
			}
		}
		if m.Done {
			r.last = m
			return r, progressed, nil
		}
	}
}
