package placement

import (
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// inflight is the one operator of a range that is under way.
type inflight struct {
	op      *locuspb.Operator
	leader  ids.StoreID // whom it is for
	created time.Duration
	sent    bool
	sentAt  time.Duration // last
	done    func(error)   // of the user who asked for it; else nil
}

// begin makes an operator the range's own. REQUIRES: the range has none and has a reachable leader.
func (d *core) begin(now time.Duration, r *rangeState, op *locuspb.Operator, done func(error)) {
	r.op = &inflight{op: op, leader: r.leader, created: now, done: done}
	d.running[r.id], d.began = r, now
	if d.o.OnOperator != nil {
		d.effect(func() { d.o.OnOperator(op) })
	}
}

// review ends the operators that have had their effect, or will not have it any more. An operator's effect
// is seen in the range's own descriptor or leader, never taken from somebody's word. Whatever moved the
// epoch on, the operator can't be executed after it.
func (d *core) review(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(d.running)) {
		r := d.running[id]
		f := r.op
		conf, bounds := r.desc.Epoch.Conf > f.op.ConfEpoch, r.desc.Epoch.Bounds > f.op.BoundsEpoch
		target := ids.StoreID(f.op.GetTransfer().GetStoreId())
		var err error
		switch {
		case target != 0 && r.leader == target && r.leader != f.leader:
			d.holdLease(now, r, f)
		case conf || bounds:
			err = d.overtaken(r, f)
		case r.leader != 0 && r.leader != f.leader:
			err = &api.RetryError{Reason: "the range's leader changed"}
		case now-f.created >= d.o.OperatorTimeout:
			err = &api.UnavailableError{Reason: "the range did not execute the operator in time"}
			r.holdOff(now, f.op)
		default:
			continue
		}
		if err == nil {
			r.failures, r.heldUntil, r.refused = 0, 0, ""
		}
		r.op = nil
		delete(d.running, id)
		if f.done != nil {
			d.effect(func() { f.done(err) })
		}
	}
}

// refuse ends the operators that a store has refused to execute for the range as it still is; they are planned again later,
// if they are still wanted. What a user asked for goes on being tried until it is due.
func (d *core) refuse(now time.Duration, n *node, refused []*locuspb.RefusedOperator) {
	for _, m := range refused {
		r := d.cl.ranges[ids.RangeID(m.RangeId)]
		if r == nil || r.op == nil {
			continue
		}
		f := r.op
		if f.leader != n.id || !f.sent || f.done != nil || f.op.ConfEpoch != m.ConfEpoch || f.op.BoundsEpoch != m.BoundsEpoch {
			continue
		}
		r.op = nil
		delete(d.running, r.id)
		r.keep(now, f.op)
		r.holdOff(now, f.op)
		r.heldUntil = min(r.heldUntil, now+maxRefusal)
		err := api.FromProto(m.Error)
		if err == nil || err.Error() == r.refused {
			continue
		}
		r.refused = err.Error()
		if d.o.OnRefused != nil {
			d.effect(func() { d.o.OnRefused(f.op, err) })
		}
	}
}

// holdOff puts the range's next operator off, after one that failed.
func (r *rangeState) holdOff(now time.Duration, failed *locuspb.Operator) {
	if failed.GetTransfer() != nil {
		r.heldUntil = now + transferRefusal
		return
	}
	r.failures++
	r.heldUntil = now + backoff(r.failures)
}

// keep notes the replicas that an operator was to remove.
func (r *rangeState) keep(now time.Duration, op *locuspb.Operator) {
	removed := op.GetReplace().GetRemove()
	if m := op.GetRemove(); m != nil {
		removed = []uint64{m.ReplicaId}
	}
	for _, id := range removed {
		if r.kept == nil {
			r.kept = make(map[ids.ReplicaID]time.Duration)
		}
		r.kept[ids.ReplicaID(id)] = now + keptFor
	}
}

// keeps lists the replicas that are not to be removed now, and forgets the others.
func (r *rangeState) keeps(now time.Duration) []ids.ReplicaID {
	maps.DeleteFunc(r.kept, func(_ ids.ReplicaID, until time.Duration) bool { return now >= until })
	return slices.Sorted(maps.Keys(r.kept))
}

// overtaken says whether the step that moved the epoch was the operator's own, for those who wait for it.
func (d *core) overtaken(r *rangeState, f *inflight) error {
	if s := f.op.GetSplit(); s != nil && !equalKey(r.desc.Span.End, s.Key) {
		return &api.RetryError{Reason: "the range changed in another way"}
	}
	if f.op.GetTransfer() != nil {
		return &api.RetryError{Reason: "the range changed before its lease was transferred"}
	}
	return nil
}

func (d *core) holdLease(now time.Duration, r *rangeState, f *inflight) {
	r.leaseHeldUntil = now + d.o.LeaseHold
	if f.done != nil { // a user's wish
		r.leaseHeldUntil = now + 6*d.o.LeaseHold
	}
}

// backoff is how long a range is left alone after so many operators without effect.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 6), maxBackoff)
}

// handOut lists the operators for ranges that a store leads. One is handed out again now and then while it
// has had no effect, as answers get lost; executed twice it is refused, for the epoch has moved.
func (d *core) handOut(now time.Duration, n *node) []*locuspb.Operator {
	var out []*locuspb.Operator
	for _, id := range n.leading {
		f := d.cl.ranges[id].op
		if f == nil || f.leader != n.id || (f.sent && now-f.sentAt < d.o.OperatorTimeout/4) {
			continue
		}
		f.sent, f.sentAt = true, now
		out = append(out, f.op)
	}
	return out
}

// idle says whether an operator may begin for the range.
func (d *core) idle(now time.Duration, r *rangeState) bool {
	return r.op == nil && now >= r.heldUntil && d.cl.leaseholder(r) != 0 && !r.desc.Joint()
}

// view is what the allocator decides on.
func (d *core) view(now time.Duration) *View {
	v := &View{Settled: d.settled(now)}
	for _, id := range d.cl.storeIDs() {
		n := d.cl.nodes[id]
		v.Stores = append(v.Stores, StoreView{
			ID: id, State: n.state, Capacity: n.info.CapacityBytes, Available: n.info.AvailableBytes, NearlyFull: n.info.NearlyFull,
			Requests: n.info.Requests, ClockOff: n.info.ClockOff,
		})
	}
	v.Ranges = make([]RangeView, len(d.cl.order))
	for i, r := range d.cl.order {
		v.Ranges[i] = RangeView{
			Desc: r.desc, Leader: d.cl.leaseholder(r), Applied: r.applied, Progress: r.progress, Bytes: r.bytes,
			Wanted: d.wanted(r.desc.Span.Start), Held: now < r.heldUntil, Split: d.splitWish(r),
			// Moving the system range's lease moves the driver: not worth it for balance.
			LeaseHeld: now < r.leaseHeldUntil || r.id == ids.SystemRange,
			Kept:      r.keeps(now),
		}
		if r.op != nil {
			v.Ranges[i].Pending = r.op.op
		}
	}
	return v
}

// splitWish is where a range's leaseholder wants it split, if that can be: at the begin of a group of a keyspace (which the
// system's is not) inside the range.
func (d *core) splitWish(r *rangeState) *locuspb.SplitWish {
	if r.split == nil {
		return nil
	}
	key := r.split.Key
	id, ok := keys.KeyspaceOf(key)
	ks := d.cat.byID[id]
	if !ok || ks == nil || !r.desc.Span.Contains(key) || equalKey(r.desc.Span.Start, key) || !equalKey(LayoutOf(ks).SplitKey(key), key) {
		return nil
	}
	return r.split
}

// settled says whether the map is complete enough to balance on: all nodes have been heard in this office, or have had the
// time to be.
func (d *core) settled(now time.Duration) bool {
	return d.cl.tile().holes == 0 && (d.cl.allSpoke() || now-d.since >= min(d.o.Grace, d.o.SuspectAfter))
}

// restInterval is the longest time between two plans: with it what time alone changes is noticed, such as the end of a hold.
const restInterval = time.Second

// advance brings liveness and what is under way up to date, and plans if that may be of use. To plan for 1,000 ranges of which
// none has changed would cost a driver more than all else it does.
func (d *core) advance(now time.Duration) {
	d.cl.judge(now, d.since, &d.o)
	since := now - d.planned
	busy := d.stirred || d.cl.version != d.plannedFor || len(d.running)+len(d.births)+len(d.wishes)+len(d.jobs) > 0
	if since < d.o.PlanInterval || !busy && since < restInterval {
		d.review(now)
		return
	}
	d.planned, d.plannedFor, d.stirred = now, d.cl.version, false
	d.plan(now)
}

// plan reviews what is under way and decides the next steps.
func (d *core) plan(now time.Duration) {
	d.review(now)
	d.grantWishes(now)
	d.furtherKeyspaces(now)
	for _, op := range Plan(d.view(now), d.o.Limits) {
		if s := op.GetSplit(); s != nil {
			id, ok := d.takeOne()
			if !ok {
				d.stirred = true // the next plan has it again
				continue
			}
			s.NewRangeId = uint64(id)
		}
		d.begin(now, d.cl.ranges[ids.RangeID(op.RangeId)], op, nil)
	}
}
