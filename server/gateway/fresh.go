package gateway

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/clustermap"
)

// Fresh is a timestamp that no write acknowledged before the call began is above: the highest of the token
// and the clocks of the leaseholders of every range of the span, each read behind a check that it still is
// the leaseholder (rule C2, docs/invariants.md). What one node's clock says would not do: it may be behind.
func (g *Gateway) Fresh(ctx context.Context, span keys.Span, token hlc.Timestamp) (hlc.Timestamp, error) {
	if err := g.o.Clock.Update(token); err != nil {
		return 0, err
	}
	highest := max(token, g.o.Clock.Now())
	open := []keys.Span{span}
	patience := newPatience(g.o.Patience)
	for attempt := 0; ; attempt++ {
		var failed []keys.Span
		var cause error
		for _, s := range open {
			clock, bad, err := g.clocks(ctx, attempt, g.o.Cluster.Tile(s))
			if err != nil && !retryable(err) {
				return 0, err
			}
			if err != nil {
				cause = err
			}
			highest = max(highest, clock)
			failed = append(failed, bad...)
		}
		if len(failed) == 0 {
			// The other nodes' clocks are facts now, and so that this node's later timestamps are above.
			return highest, g.o.Clock.Update(highest)
		}
		open = failed
		g.o.Cluster.Refresh()
		if !patience.wait(ctx) {
			return 0, unavailable(ctx, open[0], cause)
		}
	}
}

// clocks asks the leaseholders of all pieces in one round, one message for each store. It returns the
// highest clock, the spans for which nobody gave one, and the last reason.
func (g *Gateway) clocks(ctx context.Context, attempt int, pieces []clustermap.Piece) (highest hlc.Timestamp, failed []keys.Span, err error) {
	byStore := make(map[ids.StoreID][]clustermap.Piece)
	for _, p := range pieces {
		if p.Hole() {
			failed, err = append(failed, p.Span), errHole
			continue
		}
		to := target(p.Route, attempt)
		byStore[to] = append(byStore[to], p)
	}
	type answer struct {
		highest hlc.Timestamp
		failed  []keys.Span
		err     error
	}
	answers := make(chan answer, len(byStore))
	var group errgroup.Group
	group.SetLimit(g.o.Parallel)
	for store, list := range byStore {
		group.Go(func() error {
			var a answer
			a.highest, a.failed, a.err = g.clocksOf(ctx, store, list)
			answers <- a
			return nil
		})
	}
	_ = group.Wait()
	close(answers)
	for a := range answers {
		highest = max(highest, a.highest)
		failed = append(failed, a.failed...)
		if a.err != nil && (err == nil || !retryable(a.err)) {
			err = a.err
		}
	}
	return highest, failed, err
}

// errHole is the cause of a span that no known descriptor covers.
var errHole error = &api.UnavailableError{Reason: "no range is known there"}

func (g *Gateway) clocksOf(ctx context.Context, store ids.StoreID, pieces []clustermap.Piece) (highest hlc.Timestamp, failed []keys.Span, err error) {
	reqs := make([]*locuspb.Request, len(pieces))
	for i, p := range pieces {
		reqs[i] = &locuspb.Request{
			Id: uint64(i + 1), RangeId: uint64(p.Route.Descriptor.ID), BoundsEpoch: p.Route.Descriptor.Epoch.Bounds,
			Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}},
		}
	}
	responses, err := g.o.Cluster.Do(ctx, store, reqs)
	if err != nil {
		for _, p := range pieces {
			failed = append(failed, p.Span)
		}
		return 0, failed, err
	}
	for i, r := range responses {
		if r.Error != nil {
			failed, err = append(failed, pieces[i].Span), api.FromProto(r.Error)
			g.o.Cluster.Learn(clustermap.Cure(err))
			continue
		}
		highest = max(highest, hlc.Timestamp(r.GetClockAt().GetClock()))
	}
	return highest, failed, err
}

// target is the store to ask for a range: who is said to lead it, or, where nobody is known or that one
// has failed, its voters in turn.
func target(r api.Route, attempt int) ids.StoreID {
	voters := r.Descriptor.Voters()
	if r.Leaseholder != 0 && (attempt%2 == 0 || len(voters) == 0) {
		return r.Leaseholder
	}
	if len(voters) == 0 {
		return 0
	}
	return voters[attempt/2%len(voters)].Store
}

func unavailable(ctx context.Context, span keys.Span, cause error) error {
	if ctx.Err() != nil {
		cause = fmt.Errorf("%w (last: %w)", ctx.Err(), orUnknown(cause))
	}
	return &api.SpanUnavailableError{Span: span, Cause: cause}
}

func orUnknown(err error) error {
	if err == nil {
		return &api.UnavailableError{Reason: "no answer"}
	}
	return err
}
