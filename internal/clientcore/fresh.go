package clientcore

import (
	"bytes"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// gather begins a fresh timestamp: it asks the leaseholders of all ranges of the span for their clocks, each
// behind a leadership check, all at once. The highest of them and of the token is above every write that
// was acknowledged before, whatever the clocks of clients and gateways say (rule C2).
func (c *Core) gather(o *op) {
	tiles, ok := c.routes.tile(o.span)
	if !ok {
		c.park(o)
		return
	}
	o.phase = phaseGather
	c.timers.set(o, o.deadline)
	o.pending = len(tiles)
	for _, tile := range tiles {
		c.addChild(o, tile)
		if o.phase == phaseDone {
			return
		}
	}
}

func (c *Core) addChild(parent *op, tile keys.Span) {
	child := &op{
		slot: -1, kind: kindRead, key: tile.Start, span: tile, deadline: parent.deadline, parent: parent,
		token: parent.token,
		tmpl:  &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}},
	}
	c.add(child)
	c.dispatch(child)
}

// childDone takes the clock of one range. If the range covered less than the child stood for, because it
// was split since, the rest is asked for too: a span is never skipped.
func (c *Core) childDone(child *op, d Done) {
	parent := child.parent
	if parent.phase == phaseDone {
		return
	}
	if d.Err != nil {
		c.finish(parent, Done{Err: d.Err})
		return
	}
	parent.clock = max(parent.clock, hlc.Timestamp(d.Response.GetClockAt().GetClock()))
	rest := keys.Span{Start: d.Covered.End, End: child.span.End}
	if d.Covered.End != nil && (rest.End == nil || bytes.Compare(rest.Start, rest.End) < 0) {
		c.addChild(parent, rest)
		return
	}
	if parent.pending--; parent.pending == 0 {
		c.finish(parent, Done{Timestamp: max(parent.clock, parent.token, c.token)})
	}
}

// dropChildren forgets what a fresh timestamp that has ended still waits for.
func (c *Core) dropChildren(parent *op) {
	if parent.pending == 0 {
		return
	}
	for o := c.live.first; o != nil; {
		next := o.next
		if o.parent == parent {
			c.finish(o, Done{})
		}
		o = next
	}
}
