package clientcore

import (
	"errors"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// maxRedirects is how many times in a row an operation follows a cure at once. Two stores that point at each
// other would otherwise keep it going in circles.
const maxRedirects = 3

// maxMisses is how many routing mistakes without a better route an operation makes before it throws the
// route away: whatever is wrong with it, epochs will not cure it.
const maxMisses = 3

// A store whose connection failed is chosen last for a while that doubles with each failure in a row.
const (
	downMin = 50 * time.Millisecond
	downMax = time.Second
)

// Deliver takes a frame of answers.
func (c *Core) Deliver(now Instant, m *locuspb.BatchResponse) {
	c.now = now
	c.sawClock(m.GetClock())
	for _, r := range m.GetResponses() {
		if r != nil {
			c.answer(r)
		}
	}
	c.settle()
}

// Fail says that a request has no answer to be expected. sent: it may have reached the store.
func (c *Core) Fail(now Instant, requestID uint64, sent bool, err error) {
	c.now = now
	id, attempt := splitRequestID(requestID)
	if o := c.ops[id]; o != nil && o.phase == phaseSent && o.attempt == attempt {
		c.linkFailed(o, sent, err)
	}
	c.settle()
}

// LinkDown says that a connection ended (Send.OnLink): what was sent on it has no answer to be expected.
func (c *Core) LinkDown(now Instant, link uint64, err error) {
	c.now = now
	for o := c.live.first; o != nil; {
		next := o.next
		if o.phase == phaseSent && o.link == link {
			c.linkFailed(o, true, err)
		}
		o = next
	}
	c.settle()
}

// RoutesArrived answers Effects.Routes. Routes that come unasked are welcome too.
func (c *Core) RoutesArrived(now Instant, m *locuspb.RoutesResponse) {
	c.now = now
	c.sawClock(m.GetClock())
	if len(m.GetNodes()) > 0 {
		for _, s := range c.order {
			s.listed = false
		}
	}
	for _, n := range m.GetNodes() {
		if n.GetStoreId() == 0 {
			continue
		}
		s := c.store(ids.StoreID(n.StoreId))
		s.listed = n.GetState() == "up" || n.GetState() == "suspect" || n.GetState() == ""
		if c.o.Weight != nil {
			s.weight = max(c.o.Weight(n), 1)
		}
	}
	c.learn(m.GetRoutes())
	c.unpark(nil)
	c.settle()
}

// RoutesFailed answers Effects.Routes when nobody could be asked.
func (c *Core) RoutesFailed(now Instant, err error) {
	c.now = now
	c.unpark(err)
	c.settle()
}

func (c *Core) sawClock(clock uint64) {
	if clock != 0 {
		c.clock, c.clockAt = max(c.clock, hlc.Timestamp(clock)), c.now
	}
}

// learn merges routes and wakes what waits for a better one.
func (c *Core) learn(routes []*locuspb.Route) {
	better := false
	for _, m := range routes {
		if r, err := api.RouteFromProto(m); err == nil {
			better = c.routes.merge(r) || better
		}
	}
	if !better {
		return
	}
	for o := c.live.first; o != nil; o = o.next {
		if o.phase != phaseWaiting || o.route == nil || o.patient {
			continue
		}
		r := c.lookup(o)
		if r != nil && (r.desc.ID != o.rangeID || r.desc.Epoch.Bounds != o.bounds || r.term > o.term) {
			c.timers.set(o, c.now)
		}
	}
}

// unpark lets operations that waited for routes go on. What the answer did not help waits for its turn to
// ask again; what nobody asked for yet asks now.
func (c *Core) unpark(err error) {
	asked, parked := c.asked, c.parked
	c.asked, c.parked = nil, nil
	if err == nil {
		err = errors.New("no node knows a route to the key's range")
	}
	for _, o := range parked {
		switch {
		case o.phase != phaseRouting:
		case !c.lacks(o):
			c.dispatch(o)
		case asked == nil || asked.Contains(o.key) || o.kind == kindPure:
			o.lastErr = err
			c.wait(o, 0)
		default:
			c.park(o)
		}
	}
}

// lacks says whether an operation would be parked if it were dispatched.
func (c *Core) lacks(o *op) bool {
	switch o.kind {
	case kindPure:
		for _, s := range c.order {
			if s.listed {
				return false
			}
		}
		return true
	case kindFresh, kindLocate:
		_, ok := c.routes.tile(o.span)
		return !ok
	}
	named := o.kind != kindCommand || o.identity != nil || o.lane != nil
	return c.lookup(o) == nil || !named && !c.clockIsFresh()
}

// answer takes one answer. An answer to an earlier attempt of a command is as good as one to the last,
// because all attempts are one command; of a read only the last attempt's counts, since an earlier one
// may have covered another part of the span.
func (c *Core) answer(m *locuspb.Response) {
	id, attempt := splitRequestID(m.Id)
	o := c.ops[id]
	if o == nil || o.attempt == 0 {
		return
	}
	current := attempt == o.attempt && o.phase == phaseSent
	switch {
	case m.Error != nil:
		if attempt == o.attempt {
			c.refusal(o, m.Error, current)
		}
	case !current && o.kind != kindCommand:
	case !answers(o, m):
		o.lastErr = &api.InternalError{Reason: "a node answered with another kind of result than was asked for"}
		c.end(o, o.lastErr)
	default:
		if current {
			c.confirm(o)
		}
		c.budget.success()
		c.token = max(c.token, shown(m))
		c.finish(o, Done{Response: m, Covered: o.covered})
	}
}

// confirm takes note that the current attempt's store serves the range.
func (c *Core) confirm(o *op) {
	o.store.failures, o.store.downUntil = 0, 0
	if r := o.route; r != nil && r.leaseholder == 0 && !o.stale && !o.refusals.Any() {
		r.leaseholder = o.store.id
	}
}

// shown is the highest timestamp that an answer shows.
func shown(m *locuspb.Response) hlc.Timestamp {
	return hlc.Timestamp(max(m.Timestamp, m.GetGet().GetTimestamp(), m.GetScan().GetReadTimestamp()))
}

// answers says whether an answer is of the kind that was asked for.
func answers(o *op, m *locuspb.Response) bool {
	switch o.tmpl.Op.(type) {
	case *locuspb.Request_Get:
		return m.GetGet() != nil
	case *locuspb.Request_Scan:
		return m.GetScan() != nil
	case *locuspb.Request_Write:
		return m.GetWrite() != nil
	case *locuspb.Request_Call:
		return m.GetCall() != nil
	case *locuspb.Request_ClockAt:
		return m.GetClockAt() != nil
	}
	return false
}

// refusal takes an error that answers the last attempt. current: the attempt was still being waited for.
func (c *Core) refusal(o *op, m *locuspb.Error, current bool) {
	switch code := api.Code(m.Code); code {
	case api.CodeNotLeaseholder, api.CodeEpochMismatch, api.CodeRangeNotFound:
		if current {
			c.misrouted(o, m)
		}
	case api.CodeOverloaded, api.CodeUnavailable:
		// By their definition the attempt did nothing.
		if current {
			o.refused = true
			c.again(o, m, time.Duration(m.RetryAfterMs)*time.Millisecond)
		}
	case api.CodeRetry, api.CodeDeadline, api.CodeAmbiguous, api.CodeClockOffset, api.CodeNotDriver:
		if current {
			c.again(o, m, 0)
		}
	case api.CodeDiskFull:
		// Room comes in hours, if at all, so the caller hears of it at once; unless an earlier attempt got in: the retry
		// brings its result once there is room.
		o.refused = true
		if !o.inDoubt() {
			c.end(o, api.FromProto(m))
		} else if current {
			c.again(o, m, 0)
		}
	case api.CodeTimestampUnavailable:
		c.tooOld(o, m, current)
	case api.CodeConditionFailed, api.CodeFunction, api.CodeFuelExhausted, api.CodeNotOneGroup,
		api.CodeSessionExpired, api.CodeResultNotKept:
		// The sequencer's own answers, given after it looked the number up: they are about the command,
		// whichever of its attempts they answer.
		c.token = max(c.token, hlc.Timestamp(m.Timestamp))
		c.finish(o, Done{Err: api.FromProto(m)})
	case api.CodeInvalidArgument, api.CodeNotFound, api.CodePermission, api.CodeSpanUnavailable, api.CodeLimit,
		api.CodeFunctionNotFound, api.CodeKeyspaceNotFound, api.CodeClusterMismatch:
		c.refused(o, m)
	default:
		// Internal errors, and codes that only a newer release knows: nothing is certain.
		c.end(o, api.FromProto(m))
	}
}

// tooOld takes a replica's refusal of a timestamp. One that has less of the past than the cluster keeps leaves the read to
// the others; a stale read goes to the leaseholder, which reads at a newer timestamp.
func (c *Core) tooOld(o *op, m *locuspb.Error, current bool) {
	var e *api.TimestampUnavailableError
	errors.As(api.FromProto(m), &e)
	switch {
	case !current:
	case e.Elsewhere:
		o.refusals.Add(o.store.id, e)
		c.dispatch(o)
	case o.stale && !o.pinned:
		o.pinned = true
		c.dispatch(o)
	default:
		o.refusals.Add(o.store.id, e)
		c.end(o, o.refusals.Err())
	}
}

// refused ends an operation whose last attempt was turned away at the door. An earlier attempt of a command
// may have got in.
func (c *Core) refused(o *op, m *locuspb.Error) {
	o.refused = true
	c.end(o, api.FromProto(m))
}

// again sends the operation once more, later.
func (c *Core) again(o *op, m *locuspb.Error, atLeast time.Duration) {
	o.lastErr = api.FromProto(m)
	o.patient = atLeast > 0
	c.wait(o, atLeast)
}

// misrouted takes the cure of a routing mistake and goes where it points, or waits when it points nowhere.
func (c *Core) misrouted(o *op, m *locuspb.Error) {
	o.lastErr = api.FromProto(m)
	o.pinned = true
	lost := api.Code(m.Code) == api.CodeRangeNotFound
	if r := c.lookup(o); r != nil && r.desc.ID == o.rangeID && api.Code(m.Code) != api.CodeEpochMismatch {
		r.denied(o.store.id)
		if l := ids.StoreID(m.LeaseholderStore); l != o.store.id {
			r.learn(l, r.term)
		}
	}
	c.learn(m.Routes)
	r := c.lookup(o)
	if r == nil {
		c.dispatch(o)
		return
	}
	moved := r.desc.ID != o.rangeID || r.desc.Epoch.Bounds != o.bounds
	elsewhere := r.leaseholder != 0 && r.leaseholder != o.store.id && c.store(r.leaseholder).downUntil <= c.now
	if (moved || elsewhere) && o.redirect < maxRedirects && c.budget.take(c.now) {
		o.redirect++
		o.misses = 0
		c.dispatch(o)
		return
	}
	if !moved && api.Code(m.Code) != api.CodeNotLeaseholder {
		if o.misses++; o.misses >= maxMisses {
			o.misses = 0
			c.routes.evict(r)
		}
	}
	if lost || !elsewhere {
		c.refresh(o)
	}
	o.patient = false
	c.wait(o, 0)
}

// linkFailed takes note that the current attempt's connection failed, and tries another replica once before
// it waits.
func (c *Core) linkFailed(o *op, sent bool, err error) {
	o.lastErr = &api.UnavailableError{Reason: "store " + o.store.id.String() + ": " + err.Error()}
	o.refused = !sent
	if s := o.store; s.downUntil <= c.now {
		s.failures++
		s.downUntil = c.now + min(downMin<<min(s.failures-1, 10), downMax)
	}
	c.refresh(o)
	if o.redirect == 0 && c.budget.take(c.now) {
		o.redirect++
		c.dispatch(o)
		return
	}
	o.patient = false
	c.wait(o, 0)
}

// attemptTimedOut gives an attempt up. Its store may be slow, cut off from its followers, or gone; another
// replica knows more.
func (c *Core) attemptTimedOut(o *op) {
	o.lastErr = &api.UnavailableError{
		Reason: "no answer from store " + o.store.id.String() + " within " + c.attemptTimeout(o).String(),
	}
	o.timeouts = min(o.timeouts, 250) + 1
	if o.route != nil {
		o.route.denied(o.store.id)
	}
	c.refresh(o)
	c.dispatch(o)
}
