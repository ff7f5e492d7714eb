package clientcore

import (
	"slices"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// routesLimit is how many routes are asked for at once: enough that a client of a large cluster learns it in
// few rounds, and few enough for one small message.
const routesLimit = 512

// refreshEvery is the least time between two questions for routes that only doubt gave rise to.
const refreshEvery = 50 * time.Millisecond

// dispatch takes an operation as far as it goes: to a store, or to where it waits for what it lacks.
func (c *Core) dispatch(o *op) {
	c.leaveStore(o)
	switch o.kind {
	case kindFresh:
		c.gather(o)
		return
	case kindLocate:
		if tiles, ok := c.routes.tile(o.span); ok {
			c.finish(o, Done{Tiles: tiles})
		} else {
			c.park(o)
		}
		return
	case kindPure:
		c.dispatchAnywhere(o)
		return
	}
	r := c.lookup(o)
	if r == nil || o.kind == kindCommand && !c.numbered(o) {
		if o.phase != phaseHeld {
			c.park(o)
		}
		return
	}
	s := c.chooseStore(o, r)
	if s == nil {
		c.end(o, o.refusals.Err())
		return
	}
	o.rangeID, o.bounds = r.desc.ID, r.desc.Epoch.Bounds
	o.route, o.covered, o.term = r, r.desc.Span, 0
	if r.leaseholder != 0 {
		o.term = r.term
	}
	if _, scan := o.tmpl.Op.(*locuspb.Request_Scan); scan {
		o.covered = o.span.Intersect(r.desc.Span)
	}
	c.send(o, s)
}

func (c *Core) lookup(o *op) *route {
	if o.reverse {
		return c.routes.findBefore(o.span.End)
	}
	return c.routes.find(o.key)
}

// numbered gives a command its number and the time of its first attempt, once for all attempts. It is
// false when the command has to wait: for a clock, or (in phaseHeld) for a number.
func (c *Core) numbered(o *op) bool {
	if o.identity != nil || o.lane != nil {
		return true
	}
	if !c.clockIsFresh() {
		return false
	}
	if !c.sessions.assign(o) {
		o.phase = phaseHeld
		c.timers.set(o, o.deadline)
		c.held = queue(c.held, o)
		return false
	}
	o.firstAttempt = c.clock
	return true
}

func (c *Core) clockIsFresh() bool { return c.clock != 0 && c.now-c.clockAt <= c.o.ClockAge }

// releaseHeld lets commands that wait for a number go on, oldest first, as far as numbers last. They go by
// the timers, because this is called in the middle of other events.
func (c *Core) releaseHeld() {
	for free := c.sessions.free(); free > 0 && len(c.held) > 0; {
		o := c.held[0]
		if o.phase == phaseHeld {
			o.phase = phaseWaiting
			c.timers.set(o, 0)
			free--
		}
		c.held[0] = nil
		c.held = c.held[1:]
	}
}

// queue appends o to a list that operations leave only by changing their phase; those that did are dropped
// before the list would grow for them.
func queue(list []*op, o *op) []*op {
	if len(list) == cap(list) {
		list = slices.DeleteFunc(list, func(x *op) bool { return x.phase != o.phase })
	}
	return append(list, o)
}

// park keeps an operation until routes arrive, and asks for them.
func (c *Core) park(o *op) {
	o.phase = phaseRouting
	c.timers.set(o, o.deadline)
	c.parked = queue(c.parked, o)
	c.ask(o)
}

// ask asks for the routes that an operation needs, unless some are on their way already.
func (c *Core) ask(o *op) {
	if c.asked != nil {
		return
	}
	span, limit := keys.Span{Start: o.key}, uint64(routesLimit)
	switch {
	case o.kind == kindPure:
		span, limit = keys.KeyspaceSpan(0), 1
	case o.reverse || o.kind == kindFresh || o.kind == kindLocate:
		span, limit = o.span, 0
	default:
		if id, ok := keys.KeyspaceOf(o.key); ok {
			span.End = keys.KeyspaceSpan(id).End
		}
	}
	c.asked = &span
	c.out.Routes, c.out.RoutesLimit = c.asked, limit
}

// refresh asks for newer routes because of a doubt, not more often than refreshEvery.
func (c *Core) refresh(o *op) {
	if c.asked == nil && c.now >= c.routesSoonAt {
		c.routesSoonAt = c.now + refreshEvery
		c.ask(o)
	}
}

// dispatchAnywhere sends a call that touches no key to a store of the policy's choice.
func (c *Core) dispatchAnywhere(o *op) {
	c.candidates = c.candidates[:0]
	for _, s := range c.order {
		if s.listed && s.downUntil <= c.now && (s != o.store || len(c.order) == 1) {
			c.candidates = append(c.candidates, s)
		}
	}
	if len(c.candidates) == 0 {
		for _, s := range c.order {
			if s.listed {
				c.candidates = append(c.candidates, s)
			}
		}
	}
	s := pick(c.o.Policy, c.o.Rand, c.candidates)
	if s == nil {
		c.park(o)
		return
	}
	o.rangeID, o.bounds, o.route = 0, 0, nil
	c.send(o, s)
}

// chooseStore is where a request for a range goes: to its leaseholder, unless that is unknown or its
// connection just failed, and else to one replica after another. Stale reads go to any replica. Where replicas have refused
// a timestamp, the others are asked in turn; nil if none is left.
func (c *Core) chooseStore(o *op, r *route) *store {
	if o.refusals.Any() {
		return c.chooseLeft(o, r)
	}
	if o.stale && !o.pinned {
		if s := pick(c.o.Policy, c.o.Rand, c.replicas(r)); s != nil {
			return s
		}
	}
	if r.leaseholder != 0 {
		if s := c.store(r.leaseholder); s.downUntil <= c.now {
			return s
		}
	}
	n := len(r.desc.Replicas)
	var fallback *store
	for range n {
		replica := r.desc.Replicas[r.rotation%n]
		r.rotation++
		if replica.Role != topology.Voter && replica.Role != topology.VoterIncoming {
			continue // it is new, or on its way out
		}
		s := c.store(replica.Store)
		if s.downUntil <= c.now && (s != o.store || n == 1) {
			return s
		}
		if fallback == nil || s.downUntil < fallback.downUntil {
			fallback = s
		}
	}
	return fallback
}

// chooseLeft is the next of those that have not refused, one whose connection just failed last; nil if there is none.
func (c *Core) chooseLeft(o *op, r *route) (s *store) {
	left := o.refusals.Left(r.desc)
	for i := range left {
		x := c.store(left[(int(o.attempt)+i)%len(left)])
		if s == nil || s.downUntil > c.now && x.downUntil < s.downUntil {
			s = x
		}
	}
	return s
}

// replicas lists the stores of a range's replicas that are not known to be down.
func (c *Core) replicas(r *route) []*store {
	c.candidates = c.candidates[:0]
	for _, x := range r.desc.Replicas {
		if s := c.store(x.Store); s.downUntil <= c.now {
			c.candidates = append(c.candidates, s)
		}
	}
	return c.candidates
}

func (c *Core) store(id ids.StoreID) *store {
	s := c.stores[id]
	if s == nil {
		s = &store{id: id, weight: 1}
		c.stores[id] = s
		c.order = append(c.order, s)
	}
	return s
}

// send begins the next attempt.
func (c *Core) send(o *op, s *store) {
	if o.attempt > 0 {
		o.maybe = o.maybe || !o.refused
		c.stats.Retries++
	}
	c.stats.Requests++
	o.attempt++
	if o.attempt == 0 {
		o.attempt = 2 // 0 is "never sent", 1 is the caller's own message
	}
	o.refused = false
	o.phase, o.store, o.link = phaseSent, s, 0
	s.outstanding++
	c.timers.set(o, min(o.deadline, c.now+c.attemptTimeout(o)))
	timeout := o.deadline - c.now
	if o.kind != kindCommand {
		timeout = min(timeout, c.attemptTimeout(o))
	}
	c.out.Sends = append(c.out.Sends, Send{Store: s.id, Request: o.message(max(c.token, o.token), timeout), op: o})
}

// longestAttempt bounds what attemptTimeout comes to. A store that is cut off answers nothing at all, and while
// one attempt waits for it no other replica is asked: waiting longer than an election and a lease take together
// (about 4 s by default) is time in which another leaseholder could have answered.
const longestAttempt = 5 * time.Second

// attemptTimeout doubles once an attempt got no answer, up to longestAttempt: a cluster that is slow for the load
// it has must not get the load twice. Calls of functions have four times as long.
func (c *Core) attemptTimeout(o *op) time.Duration {
	d := c.o.AttemptTimeout
	d = min(d<<min(o.timeouts, 3), max(d, longestAttempt))
	if _, call := o.tmpl.Op.(*locuspb.Request_Call); call {
		d *= 4
	}
	return d
}

// wait puts an operation off until its next attempt.
func (c *Core) wait(o *op, atLeast time.Duration) {
	c.leaveStore(o)
	o.phase, o.redirect = phaseWaiting, 0
	c.timers.set(o, min(o.deadline, c.now+c.delay(o, atLeast)))
}
