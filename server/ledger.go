package server

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/raftstore"
)

// wholeEvery is the number of reports of which at least one is whole: what else may go wrong with differences does not last.
const wholeEvery = 32

// ledger makes reports that say what has changed since the last one that the placement driver has. Of 1,000 idle ranges
// a whole report takes the node, and the driver, far more work than its ranges do.
//
//	enter ─▶ send ─▶ answered: taken ─▶ the next builds on this one
//	                           not taken, or no answer ─▶ the next is whole, or builds on an earlier one
//
// The driver takes a report with a base only if the base is the newest that it has (Invariant: what it believes of a store is
// what the store said in one report). So an answer that is lost, a driver that is new and a node that has restarted each
// cost one whole report.
type ledger struct {
	base uint64 // clock of the last report that the driver has; 0: none
	// told is what that report said, entered what the last one entered says, both by range id.
	told, entered []told
	age           int // reports since the last whole one
}

// told is what a report says of a replica; a wish only if it leads.
type told struct {
	info raftstore.RangeInfo
	wish *locuspb.SplitWish
}

// enter fills in what a report says of the ranges, which are in order of their ids and are all that there are, and returns those
// that have changed.
func (l *ledger) enter(req *locuspb.HeartbeatRequest, ranges []raftstore.RangeInfo, wish func(raftstore.RangeInfo) *locuspb.SplitWish) (changed []raftstore.RangeInfo) {
	whole := l.base == 0 || l.age+1 >= wholeEvery || !slices.EqualFunc(l.told, ranges, sameRange)
	l.age++
	if whole {
		l.base, l.age = 0, 0
	}
	req.Base = l.base
	l.entered = slices.Grow(l.entered[:0], len(ranges))
	for at, info := range ranges {
		now := told{info: info}
		if info.Leaseholder {
			now.wish = wish(info)
		}
		l.entered = append(l.entered, now)
		if whole {
			req.Holding = append(req.Holding, uint64(info.Descriptor.ID))
		} else if now.same(l.told[at]) {
			continue
		}
		changed = append(changed, info)
		switch {
		case info.Leaseholder:
			report := reportOf(info)
			report.Split = now.wish
			req.Leading = append(req.Leading, report)
		case !whole && l.told[at].info.Leaseholder:
			req.Released = append(req.Released, uint64(info.Descriptor.ID))
		}
	}
	return changed
}

// answered takes the answer to the last report that was entered; nil: there was none.
func (l *ledger) answered(req *locuspb.HeartbeatRequest, resp *locuspb.HeartbeatResponse) {
	switch {
	case resp == nil:
	case resp.Taken == 0 || resp.Taken != req.Clock:
		l.base = 0
	default:
		l.base = req.Clock
		l.told, l.entered = l.entered, l.told
	}
}

func sameRange(t told, info raftstore.RangeInfo) bool {
	return t.info.Descriptor.ID == info.Descriptor.ID
}

// same says whether a report, and a route, would say the same of both. Descriptors are never changed.
func (t told) same(o told) bool {
	a, b := &t.info, &o.info
	return a.Descriptor == b.Descriptor && a.Term == b.Term && a.Leader == b.Leader && a.Leaseholder == b.Leaseholder &&
		a.Applied == b.Applied && a.Bytes == b.Bytes && a.Records == b.Records && a.Settled == b.Settled &&
		slices.Equal(a.Progress, b.Progress) && proto.Equal(t.wish, o.wish)
}
