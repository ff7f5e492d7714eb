package placement

import (
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// wish is an operator that a user asked for; it waits until its range is free.
type wish struct {
	rangeID ids.RangeID
	due     time.Duration // given up then
	try     func(now time.Duration, r *rangeState) (begun bool, err error)
	done    func(error)
}

// SplitRange splits a range at the start of the group that a key belongs to, and calls done when the split is
// seen.
func (d *Driver) SplitRange(req *locuspb.SplitRangeRequest, done func(*locuspb.SplitRangeResponse, error)) {
	d.step(func(c *core) { c.wishSplit(req, done) })
}

// TransferRange moves a range's lease to a store that has a caught-up voter of it.
func (d *Driver) TransferRange(req *locuspb.TransferRangeRequest, done func(error)) {
	d.step(func(c *core) { c.wishTransfer(req, done) })
}

func (d *core) wishSplit(req *locuspb.SplitRangeRequest, done func(*locuspb.SplitRangeResponse, error)) {
	r, key, err := d.splitPoint(req)
	if err != nil {
		d.effect(func() { done(nil, err) })
		return
	}
	resp := &locuspb.SplitRangeResponse{Left: uint64(r.id), Key: key}
	w := &wish{rangeID: r.id, done: func(err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(resp, nil)
	}}
	w.try = func(now time.Duration, r *rangeState) (bool, error) {
		if !r.desc.Span.Contains(key) || equalKey(r.desc.Span.Start, key) {
			return false, &api.RetryError{Reason: "the range was split by another meanwhile"}
		}
		begun := d.split(now, r, key, "asked for", w.done)
		if begun {
			resp.Right = r.op.op.GetSplit().NewRangeId
		}
		return begun, nil
	}
	d.wish(w)
}

// splitPoint resolves a request to a range and the key it will be split at.
func (d *core) splitPoint(req *locuspb.SplitRangeRequest) (*rangeState, []byte, error) {
	if err := d.ready(); err != nil {
		return nil, nil, err
	}
	id, ok := keys.KeyspaceOf(req.Key)
	ks := d.cat.byID[id]
	if !ok || ks == nil {
		return nil, nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("key %q is of no keyspace that can be split", req.Key)}
	}
	l := LayoutOf(ks)
	key := slices.Clone(l.SplitKey(req.Key))
	shown := key // as its user writes it
	if user, err := l.Decode(key); err == nil {
		shown = user
	}
	t := d.cl.tile()
	i, ok := t.at(key)
	if !ok {
		return nil, nil, &api.UnavailableError{Reason: fmt.Sprintf("no range with key %q is known at the moment", key)}
	}
	r := t.list[i]
	if req.RangeId != 0 && ids.RangeID(req.RangeId) != r.id {
		return nil, nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("key %q lies in range %s, not in range r%d", shown, r.id, req.RangeId)}
	}
	if equalKey(r.desc.Span.Start, key) {
		return nil, nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("range %s begins at key %q already (the start of the wanted key's group)", r.id, shown)}
	}
	return r, key, nil
}

func (d *core) wishTransfer(req *locuspb.TransferRangeRequest, done func(error)) {
	to := ids.StoreID(req.ToStore)
	err := d.ready()
	r := d.cl.ranges[ids.RangeID(req.RangeId)]
	if err == nil {
		err = d.mayTransfer(r, req)
	}
	if err != nil || r.leader == to {
		d.effect(func() { done(err) })
		return
	}
	w := &wish{rangeID: r.id, done: done}
	w.try = func(now time.Duration, r *rangeState) (bool, error) {
		if r.leader == to {
			d.effect(func() { done(nil) })
			return true, nil
		}
		if err := d.mayTransfer(r, req); err != nil || !d.idle(now, r) || !d.voterReady(r, to) {
			return false, err
		}
		op := transferLease(to)
		op.RangeId, op.Reason = uint64(r.id), "asked for"
		op.ConfEpoch, op.BoundsEpoch = r.desc.Epoch.Conf, r.desc.Epoch.Bounds
		d.begin(now, r, op, done)
		return true, nil
	}
	d.wish(w)
}

func (d *core) mayTransfer(r *rangeState, req *locuspb.TransferRangeRequest) error {
	if r == nil {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("range r%d is not known", req.RangeId)}
	}
	to := ids.StoreID(req.ToStore)
	n := d.cl.nodes[to]
	if n == nil || n.state != Up {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("store %s is not up", to)}
	}
	if n.info.ClockOff {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("the clock of store %s is off: it leads no range", to)}
	}
	if !slices.ContainsFunc(r.desc.Voters(), onStore(to)) {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("store %s has no voter of range %s", to, r.id)}
	}
	return nil
}

// voterReady says whether the voter on a store is caught up; a lease never goes to a replica that may need
// a snapshot.
func (d *core) voterReady(r *rangeState, on ids.StoreID) bool {
	p := planner{lim: d.o.Limits}
	v := &RangeView{Desc: r.desc, Applied: r.applied, Progress: r.progress}
	rep, ok := r.desc.On(on)
	return ok && p.caughtUp(v, rep.ID)
}

func (d *core) wish(w *wish) {
	if len(d.wishes) >= maxWaiters {
		d.effect(func() {
			w.done(&api.OverloadedError{What: "placement driver", RetryAfter: d.o.HurryInterval})
		})
		return
	}
	w.due = d.o.Now() + 2*d.o.OperatorTimeout
	d.wishes = append(d.wishes, w)
}

// grantWishes begins what can begin, before anything is planned for the same ranges.
func (d *core) grantWishes(now time.Duration) {
	d.wishes = slices.DeleteFunc(d.wishes, func(w *wish) bool {
		begun, err := w.try(now, d.cl.ranges[w.rangeID])
		if !begun && err == nil && now >= w.due {
			err = &api.UnavailableError{Reason: fmt.Sprintf("range %s was busy or without a leaseholder for too long", w.rangeID)}
		}
		if err != nil {
			d.effect(func() { w.done(err) })
		}
		return begun || err != nil
	})
}
