package gateway

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/clustermap"
)

// Neighbours that are done are merged when there are mergeBatch of them, enough to make the call to the function
// worth it and few enough that the run's last merge is short, or when they hold more than mergeBytes.
const (
	mergeBatch = 16
	mergeBytes = 8 << 20
)

type status int

const (
	open status = iota // to be done, or being done
	held               // a page that waits to be emitted (stream.go)
	done               // its accumulator is here, or its outputs were emitted
)

// segment is a part of the span. Those of a run tile the span at all times: a part that is done becomes a segment
// of its own, and what is left of the segment begins behind it. An open segment lies in one range, as far as is
// known.
type segment struct {
	span   keys.Span
	status status

	// Of an open one:
	attempt  int
	patience *patience // nil until it failed once
	resume   time.Time // not before
	running  bool
	store    ids.StoreID // while running, and its range
	rangeID  ids.RangeID
	began    time.Time
	pages    int          // held ones that were its beginning
	refusals api.Refusals // of replicas that can't be read as far back; the others are asked

	// Of one that is held or done:
	of      *segment // whose beginning it was; itself if that was all
	acc     []byte
	outputs [][]byte
	took    took
}

// took is what a part of a run read and used. It belongs to the part, so that what is redone is counted once.
type took struct{ ranges, records, bytes, fuel uint64 }

func (t *took) add(o took) {
	t.ranges, t.records, t.bytes, t.fuel = t.ranges+o.ranges, t.records+o.records, t.bytes+o.bytes, t.fuel+o.fuel
}

// split makes what an answer covers of an open segment a segment of its own, which is not open any more.
func (r *run) split(s *segment, answer *locuspb.RunRangeResponse) (*segment, error) {
	part := s
	if at := answer.Resume; len(at) > 0 {
		if bytes.Compare(at, s.span.Start) <= 0 || !s.span.Contains(at) {
			return nil, &api.InternalError{Reason: "a node answered with a part that does not end in its span"}
		}
		part = &segment{span: keys.Span{Start: s.span.Start, End: at}}
		r.segments = slices.Insert(r.segments, slices.Index(r.segments, s), part)
		s.span.Start = at
		s.attempt, s.patience = 0, nil
	} else {
		part.took.ranges = 1
	}
	part.of, part.acc, part.outputs = s, answer.Accumulator, answer.Outputs
	part.took.records, part.took.bytes, part.took.fuel = answer.Records, answer.Bytes, answer.Fuel
	return part, nil
}

// cut makes segment i one for each piece; they inherit its patience, and who can't show the timestamp: a split takes its
// history along. It stays the first of them, because pages may name it.
func (r *run) cut(i int, pieces []clustermap.Piece) {
	old := r.segments[i]
	old.span = pieces[0].Span
	parts := make([]*segment, len(pieces)-1)
	for j, p := range pieces[1:] {
		parts[j] = &segment{span: p.Span, attempt: old.attempt, patience: old.patience, refusals: old.refusals}
	}
	r.segments = slices.Insert(r.segments, i+1, parts...)
	r.total += uint64(len(parts))
}

// merge makes one of neighbours that are done, where there are so many of them, or where they are large.
func (r *run) merge(ctx context.Context, batch int) error {
	for i := 0; i < len(r.segments); i++ {
		end, size := i, 0
		for ; end < len(r.segments) && r.segments[end].status == done; end++ {
			size += len(r.segments[end].acc)
		}
		if n := end - i; n >= 2 && (n >= batch || size > mergeBytes) {
			one, err := r.join(ctx, r.segments[i:end])
			if err != nil {
				return err
			}
			r.pending += len(one.acc) - size
			r.segments = slices.Replace(r.segments, i, end, one)
		} else if n > 0 {
			i = end - 1
		}
	}
	return nil
}

// join makes one segment of neighbours that are done.
func (r *run) join(ctx context.Context, parts []*segment) (*segment, error) {
	one := &segment{status: done, span: keys.Span{Start: parts[0].span.Start, End: parts[len(parts)-1].span.End}}
	for _, p := range parts {
		one.took.add(p.took)
	}
	if r.req.Stream {
		return one, nil
	}
	acc, fuel, err := r.reducer.Merge(ctx, accumulators(parts))
	one.acc = acc
	r.fuel += fuel
	return one, err
}

// accumulators of segments that are done, in key order.
func accumulators(parts []*segment) [][]byte {
	accs := make([][]byte, len(parts))
	for i, p := range parts {
		accs[i] = p.acc
	}
	return accs
}

// complete checks that the segments are done and tile the span (promise P8). It can't fail; if it did, the result
// would be wrong and nobody would know.
func (r *run) complete() error {
	at := r.span.Start
	for _, s := range r.segments {
		if s.status != done || !bytes.Equal(s.span.Start, at) {
			return &api.InternalError{Reason: "a run ended with " + s.span.String() + " visited twice or not at all"}
		}
		at = s.span.End
	}
	if !bytes.Equal(at, r.span.End) {
		return &api.InternalError{Reason: "a run ended before its span did"}
	}
	return nil
}
