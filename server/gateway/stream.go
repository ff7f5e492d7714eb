package gateway

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// A stream is a run of a map function. Its segments are done page by page: a page is the outputs of the
// segment's beginning, the segment then begins behind it. A page is taken only from an answer that came back
// complete, and emitted with the part of the span that it covers in one message, so its outputs reach the
// client exactly once or not at all, whatever happens to the range in between.
//
// Nothing is kept on the leaseholder between two pages. A client that reads slowly blocks emit; then no
// further pages are asked for, and what is held is at most Parallel+1 pages, those in flight included.

// page is one answer that waits to be emitted.
type page struct {
	segment *segment
	outputs [][]byte
	covered keys.Span
}

// ahead is how many pages of segment i may wait while another one is asked for: one of the segment whose
// turn it is, so that its next page is made while this one is sent, and none of the others.
func (r *run) ahead(i int) int {
	if i == 0 || r.req.Stream && !r.req.KeyOrder {
		return 1
	}
	return 0
}

// takePage takes a page of a segment, which begins behind it from now on.
func (r *run) takePage(s *segment, answer *locuspb.RunRangeResponse) error {
	covered := s.span
	if at := answer.Resume; len(at) > 0 {
		if bytes.Compare(at, s.span.Start) <= 0 || !s.span.Contains(at) {
			return &api.InternalError{Reason: "a node answered with a page that does not end in its span"}
		}
		covered.End, s.span.Start = at, at
	} else {
		s.done = true
		r.progress.RangesDone++
	}
	s.attempt, s.patience = 0, nil
	s.held++
	r.pages = append(r.pages, page{s, answer.Outputs, covered})
	return nil
}

// next is the page to emit; -1 if there is none. In key order that is one of the first segment.
func (r *run) next() int {
	if r.req.KeyOrder {
		return slices.IndexFunc(r.pages, func(p page) bool { return p.segment == r.segments[0] })
	}
	return min(len(r.pages), 1) - 1
}

// emitPage hands page i on, and forgets its segment if that was all of it.
func (r *run) emitPage(ctx context.Context, i int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := r.pages[i]
	r.pages = slices.Delete(r.pages, i, i+1)
	m := r.message()
	m.Outputs, m.Covered = p.outputs, api.SpanToProto(p.covered)
	began := time.Now()
	if err := r.emit(m); err != nil {
		return err
	}
	r.excuse(time.Since(began))
	if p.segment.held--; p.segment.done && p.segment.held == 0 {
		i := slices.Index(r.segments, p.segment)
		r.segments = slices.Delete(r.segments, i, i+1)
	}
	return nil
}

// excuse gives segments that wait for their next attempt the time that the client took to read: nobody tried
// meanwhile.
func (r *run) excuse(d time.Duration) {
	if d < firstPause {
		return
	}
	for _, s := range r.segments {
		if s.patience != nil {
			own := *s.patience
			own.until = own.until.Add(d)
			s.patience = &own
		}
	}
}
