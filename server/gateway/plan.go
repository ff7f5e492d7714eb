package gateway

import (
	"context"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// A plan's sample: the function is run on the beginnings of so many ranges, on about so many bytes of each, and what
// it makes of them is dropped.
const (
	sampleRanges = 3
	sampleBytes  = 256 << 10
)

// plan says which ranges will be asked, about what is in them, and what the function read and used on a sample.
// Ranges that don't answer are not part of the sample, and the plan says what is known.
func (r *run) plan(ctx context.Context) (*locuspb.Plan, error) {
	p := &locuspb.Plan{Timestamp: uint64(r.ts)}
	var left []*segment
	for _, s := range r.segments {
		if s.status != open {
			continue
		}
		left = append(left, s)
		for _, piece := range r.g.o.Cluster.Tile(s.span) {
			one := &locuspb.PlannedRange{Span: api.SpanToProto(piece.Span)}
			if d := piece.Route.Descriptor; d != nil {
				one.RangeId, one.LeaseholderStore = uint64(d.ID), uint64(piece.Route.Leaseholder)
				one.Records, one.Bytes, one.Part = piece.Route.Records, piece.Route.Bytes, !d.Span.Equal(piece.Span)
			}
			p.Ranges = append(p.Ranges, one)
		}
	}
	n := min(sampleRanges, len(left))
	for i := range n {
		if err := r.sample(ctx, left[i*len(left)/n], p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// sample runs the function on the beginning of a segment.
func (r *run) sample(ctx context.Context, s *segment, into *locuspb.Plan) error {
	piece := r.g.o.Cluster.Tile(s.span)[0]
	if piece.Hole() {
		return nil
	}
	req := r.request(ctx, piece, piece.Span)
	req.WorkBytes = sampleBytes
	if r.req.Stream {
		req.PageBytes = sampleBytes
	}
	answer, err := r.g.runRange(ctx, target(piece.Route, 0), req)
	if err != nil {
		if retryable(err) {
			return nil
		}
		return err
	}
	into.SampleRanges++
	into.SampleRecords += answer.Records
	into.SampleBytes += answer.Bytes
	into.SampleFuel += answer.Fuel
	return nil
}

// accounting is what ranges took, in the order in which they were first asked.
type accounting struct {
	on   bool
	list []*locuspb.RangeAccount
	by   map[ids.RangeID]*locuspb.RangeAccount
}

// asked has an account begun, if it is the first request to the range.
func (a *accounting) asked(id ids.RangeID) {
	if !a.on || a.by[id] != nil {
		return
	}
	if a.by == nil {
		a.by = make(map[ids.RangeID]*locuspb.RangeAccount)
	}
	a.by[id] = &locuspb.RangeAccount{RangeId: uint64(id)}
	a.list = append(a.list, a.by[id])
}

// note takes an outcome down.
func (a *accounting) note(s *segment, o outcome) {
	if !a.on {
		return
	}
	one := a.by[s.rangeID]
	one.TimeUs += time.Since(s.began).Microseconds()
	if o.err != nil {
		one.Failed++
		return
	}
	one.Store = uint64(s.store)
	one.Requests++
	one.Records += o.answer.Records
	one.Bytes += o.answer.Bytes
	one.Fuel += o.answer.Fuel
}
