package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
)

// A stream is a run of a map function. A part of a segment that was answered is a page: it is taken only from an
// answer that came back complete, and emitted with the part of the span that it covers, and with the continuation
// that has it behind, in one message; so its outputs reach the client exactly once or not at all, whatever happens to
// the range, or to this gateway, in between.
//
// Nothing is kept on the leaseholder between two pages. A client that reads slowly blocks emit; then no
// further pages are asked for, and what is held is at most Parallel+1 pages, those in flight included.

// ahead is how many pages of an open segment may wait while another one is asked for: one of the segment whose
// turn it is, so that its next page is made while this one is sent, and none of the others.
func (r *run) ahead(s, turn *segment) int {
	if s == turn || r.req.Stream && !r.req.KeyOrder {
		return 1
	}
	return 0
}

// hold keeps a page until it is emitted.
func (r *run) hold(page *segment) {
	page.status = held
	page.of.pages++
	r.pages = append(r.pages, page)
}

// next is the page to emit; nil if there is none. In key order that is the first part which is not done.
func (r *run) next() *segment {
	if len(r.pages) == 0 {
		return nil
	}
	if !r.req.KeyOrder {
		return r.pages[0]
	}
	for _, s := range r.segments {
		if s.status == held {
			return s
		}
		if s.status == open {
			return nil
		}
	}
	return nil
}

// emitPage hands a page on.
func (r *run) emitPage(ctx context.Context, page *segment) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i := slices.Index(r.pages, page)
	r.pages = slices.Delete(r.pages, i, i+1)
	outputs, covered := page.outputs, page.span
	page.of.pages--
	page.outputs, page.of, page.status = nil, nil, done
	r.undone--
	r.count(page)
	if err := r.merge(ctx, 2); err != nil {
		return err
	}
	m := r.message()
	m.Outputs, m.Covered = outputs, api.SpanToProto(covered)
	var err error
	if m.Continuation, err = r.checkpoint(ctx); err != nil {
		return err
	}
	began := time.Now()
	r.dirty, r.reported = false, began
	if err := r.emit(m); err != nil {
		return err
	}
	r.excuse(time.Since(began))
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
