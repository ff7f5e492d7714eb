package client

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// Stream runs a map function over a span and yields its outputs as the nodes make them: those of one page (some
// hundred KiB) of a range in the order of its keys, the pages of different ranges as they come; with KeyOrder
// all of them in key order. Each key of the span is visited exactly once, at one timestamp, and its outputs are
// yielded exactly once, whatever becomes of ranges, nodes and the gateway meanwhile. By default that timestamp
// is above every write acknowledged before; AtTimestamp gives another one, OnProgress says how far the run is.
//
// The nodes work no further ahead than some megabytes: a slow loop holds them up. But the timestamp must stay
// readable until the end (10 min by default; Hold makes it longer). Leaving the loop, or the end of ctx, ends the work on every
// node. Without a deadline of ctx the stream takes as long as it takes.
//
// An error is the last thing that is yielded. What was yielded before it stands; the rest is missing. Errors
// are those of Run, and *LimitError for outputs of one batch of records above 4 MiB.
func (f RangeFunc[In, Out]) Stream(ctx context.Context, span Span, in In, opts ...RunOption) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		var none Out
		argument, err := encode(f.o.codec, in)
		if err == nil && span.ks == nil {
			err = errNoKeyspace
		}
		if err != nil {
			yield(none, err)
			return
		}
		s := mapStream[Out]{codec: f.o.codec, yield: yield}
		err = span.ks.twice(ctx, func(l *keys.Layout) error {
			req, global, err := f.request(l, span, argument)
			if err != nil {
				return err
			}
			if err = s.run(ctx, span.ks.db, req, global, opts); err != nil {
				span.ks.doubt(err)
			}
			if err = public(err, span.ks); s.begun {
				s.failed = err // what was yielded can't be taken back
				return nil
			}
			return err
		})
		if err == nil {
			err = s.failed
		}
		if err != nil && !s.left {
			yield(none, err)
		}
	}
}

// mapStream is one loop over a Stream.
type mapStream[Out any] struct {
	codec Codec
	yield func(Out, error) bool
	rest  []keys.Span // not yet covered by what was yielded, in key order
	// continued: an earlier process was yielded some of it, and the first answer says what is left.
	continued bool
	begun     bool // an output was yielded
	left      bool // the loop was left
	failed    error
}

// run streams the function's outputs. A gateway that takes over from one that failed is given its continuation, which says
// what is left to do, at which timestamp and by which version. A page comes together with the continuation behind it; what
// was yielded is counted here too, because a node that says something twice, or leaves it out, must not get away with it.
func (s *mapStream[Out]) run(ctx context.Context, db *DB, req *locuspb.RunRequest, span keys.Span, opts []RunOption) error {
	o := runOptionsOf(opts)
	req.Stream, req.KeyOrder = true, o.keyOrder
	s.rest, s.continued = []keys.Span{span}, len(o.from) > 0
	var bad error
	err := runOnSome(ctx, db, req, span, o, func(m *locuspb.RunResponse) bool {
		if req.Timestamp == 0 {
			req.Timestamp = m.Timestamp
		}
		if req.Version == 0 {
			req.Version = m.Version
		}
		var more bool
		more, bad = s.take(m)
		return more
	})
	if bad == nil && err == nil && !s.left && len(s.rest) > 0 {
		bad = badStream(fmt.Sprintf("an end before %s was covered", s.rest[0]))
	}
	if bad != nil {
		return bad
	}
	return err
}

// take yields a message's outputs; false if that was the end.
func (s *mapStream[Out]) take(m *locuspb.RunResponse) (more bool, err error) {
	if s.continued && len(m.Rest) > 0 {
		// What was yielded to an earlier process is for the gateway to know; from now on it is known here.
		s.rest, s.continued = nil, false
		for _, r := range m.Rest {
			s.rest = append(s.rest, api.SpanFromProto(r))
		}
	}
	if m.Covered == nil {
		if len(m.Outputs) > 0 {
			return false, badStream("outputs of no span")
		}
		return true, nil
	}
	if s.rest, err = without(s.rest, api.SpanFromProto(m.Covered)); err != nil {
		return false, err
	}
	for _, o := range m.Outputs {
		v, err := decode[Out](s.codec, o)
		if err != nil {
			return false, err
		}
		s.begun = true
		if !s.yield(v, nil) {
			s.left = true
			return false, nil
		}
	}
	return true, nil
}

// without takes a span out of disjoint ones in key order, one of which must contain it.
func without(rest []keys.Span, covered keys.Span) ([]keys.Span, error) {
	i := slices.IndexFunc(rest, func(r keys.Span) bool { return r.ContainsSpan(covered) })
	if i < 0 || covered.Empty() {
		return rest, badStream(fmt.Sprintf("outputs of %s, which was done before or never asked for", covered))
	}
	r := rest[i]
	var left []keys.Span
	if before := (keys.Span{Start: r.Start, End: covered.Start}); bytes.Compare(r.Start, covered.Start) < 0 {
		left = append(left, before)
	}
	if after := (keys.Span{Start: covered.End, End: r.End}); covered.End != nil && !after.Empty() {
		left = append(left, after)
	}
	return slices.Replace(rest, i, i+1, left...), nil
}

func badStream(what string) error {
	return &InternalError{Reason: "a node answered a stream with " + what}
}
