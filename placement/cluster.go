package placement

import (
	"cmp"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// cluster is the map that the heartbeats of this term of office have drawn: nodes, and ranges as their
// leaders reported them. Nothing of it lasts. Everything it believes of a range comes from a leader of that
// range, ordered by epoch and then by term, so old news never replaces newer.
type cluster struct {
	nodes  map[ids.StoreID]*node
	ranges map[ids.RangeID]*rangeState
	order  []*rangeState // by range id
	tiles  tiling
	// version rises with every change that a node or a client would want to know.
	version uint64
	// rerouted is the last version in which routes changed of ranges that nobody counted.
	rerouted uint64
	beat     uint64 // counts heartbeats
}

// node is a member as the records and its heartbeats describe it.
type node struct {
	id    ids.StoreID
	info  *locuspb.NodeInfo
	heard time.Duration // last heartbeat; at first the begin of the office
	// spoken: a heartbeat came in this term of office.
	spoken   bool
	clock    uint64        // the sender's, in the newest heartbeat: orders heartbeats
	has      uint64        // version of the map that it had then
	holds    uint64        // version of the holds that it kept to; 0: none
	readable hlc.Timestamp // with holds: what is older it may have let go
	leading  []ids.RangeID // in order
	holding  []uint64
	// taken: the newest heartbeat's content is in the map. It is not if it builds on one that this driver does not have.
	taken bool
	state Liveness
}

// rangeState is a range with the operator that is under way for it.
type rangeState struct {
	id       ids.RangeID
	desc     *topology.Descriptor
	wire     *locuspb.RangeDescriptor // desc, as received; shared by all answers
	leader   ids.StoreID              // 0: not known
	term     ids.Term                 // in which leader led, or the last that did
	applied  ids.Index
	bytes    uint64
	records  uint64
	progress []Progress
	split    *locuspb.SplitWish // of the leader; nil: none
	claimed  uint64             // the beat in which leader last claimed it
	changed  uint64             // the version that made its route what it is
	settled  bool               // whom desc no longer has is not needed any more

	op       *inflight
	failures int    // operators without effect, in a row
	refused  string // why the last of them was refused, in its leaseholder's words
	// kept are replicas whose removal was refused, until when no other attempt is made.
	kept           map[ids.ReplicaID]time.Duration
	heldUntil      time.Duration
	leaseHeldUntil time.Duration
}

func newCluster() cluster {
	return cluster{nodes: map[ids.StoreID]*node{}, ranges: map[ids.RangeID]*rangeState{}}
}

// admit enters a node, or takes news of its record.
func (c *cluster) admit(now time.Duration, info *locuspb.NodeInfo) {
	id := ids.StoreID(info.StoreId)
	n := c.nodes[id]
	if n == nil {
		n = &node{id: id, heard: now}
		c.nodes[id] = n
	}
	n.info = info
	c.version++
}

// change notes that a range's route is another now.
func (c *cluster) change(r *rangeState) {
	c.version++
	r.changed = c.version
}

// changeAll notes that any range's route may be another now.
func (c *cluster) changeAll() {
	c.version++
	c.rerouted = c.version
}

// retile has the ranges tiled anew: which of them are seen, where some overlap, may be others then.
func (c *cluster) retile() {
	c.tiles.stale = true
	c.changeAll()
}

// observe takes one heartbeat. It returns false for one that is older than what is known, which says
// nothing about the present. One that builds on a heartbeat that is not the newest known here, because an answer was lost or
// because the office is new, shows that the node lives and nothing else (node.taken).
func (c *cluster) observe(now time.Duration, n *node, req *locuspb.HeartbeatRequest, suspectAfter time.Duration) bool {
	// A node's clock never falls; one that seems to, after a silence, is believed rather than shut out.
	if req.Clock < n.clock && now-n.heard < suspectAfter {
		return false
	}
	if describesOther(n.info, req.Node) || n.info.GetNearlyFull() != req.Node.NearlyFull || n.info.GetClockOff() != req.Node.ClockOff {
		c.version++
	}
	n.info, n.heard, n.has = req.Node, now, req.MapVersion
	n.holds, n.readable = req.HoldsVersion, hlc.Timestamp(req.ReadableFrom)
	if n.taken = req.Base == 0 || req.Base == n.clock; !n.taken {
		return true
	}
	n.clock, n.spoken = req.Clock, true
	c.beat++
	for _, report := range req.Leading {
		if r := c.report(n.id, report); r != nil && r.leader == n.id {
			r.claimed = c.beat
		}
	}
	if req.Base == 0 {
		n.holding = req.Holding
		c.claim(n, n.leading, req.Leading)
	} else if len(req.Leading)+len(req.Released) > 0 {
		released := make([]ids.RangeID, 0, len(req.Released))
		for _, id := range req.Released {
			released = append(released, ids.RangeID(id))
		}
		c.claim(n, released, req.Leading)
	}
	return true
}

// claim brings up to date what a node leads: what it has just reported, and of the rest what it does not give up.
func (c *cluster) claim(n *node, givenUp []ids.RangeID, reports []*locuspb.RangeReport) {
	c.resign(n, givenUp)
	leading := make([]ids.RangeID, 0, len(n.leading)+len(reports))
	for _, id := range n.leading {
		if r := c.ranges[id]; r.leader == n.id && r.claimed != c.beat {
			leading = append(leading, id)
		}
	}
	for _, report := range reports {
		id := ids.RangeID(report.GetDescriptor_().GetRangeId())
		if r := c.ranges[id]; r != nil && r.leader == n.id && r.claimed == c.beat {
			leading = append(leading, id)
		}
	}
	slices.Sort(leading)
	n.leading = slices.Compact(leading)
}

// describesOther says whether what others need to know of a node has changed.
func describesOther(a, b *locuspb.NodeInfo) bool {
	return a.GetAddress() != b.GetAddress() || a.GetHttpAddress() != b.GetHttpAddress() ||
		a.GetGossipAddress() != b.GetGossipAddress() || a.GetVersion() != b.GetVersion()
}

// resign takes the lead of ranges from a node that no longer claims it.
func (c *cluster) resign(n *node, before []ids.RangeID) {
	for _, id := range before {
		if r := c.ranges[id]; r != nil && r.leader == n.id && r.claimed != c.beat {
			r.leader = 0
			c.change(r)
		}
	}
}

// report takes one leader's word on its range; nil if the descriptor is unusable.
func (c *cluster) report(from ids.StoreID, m *locuspb.RangeReport) *rangeState {
	d, err := api.DescriptorFromProto(m.GetDescriptor_())
	if err != nil || d.Span.Empty() {
		return nil
	}
	term := ids.Term(m.Term)
	r := c.ranges[d.ID]
	if r == nil {
		r = &rangeState{id: d.ID}
		c.ranges[d.ID] = r
		c.order = append(c.order, r)
		if n := len(c.order); n > 1 && c.order[n-2].id > d.ID {
			slices.SortFunc(c.order, func(a, b *rangeState) int { return cmp.Compare(a.id, b.id) })
		}
	}
	if r.desc == nil || newer(d, term, r) {
		if r.desc == nil || !r.desc.Span.Equal(d.Span) || r.desc.Epoch.Bounds != d.Epoch.Bounds {
			c.retile()
		}
		r.desc, r.wire, r.split, r.settled = d, m.Descriptor_, nil, false
		c.change(r)
	}
	r.settled = r.settled || d.Epoch == r.desc.Epoch && !m.Unsettled
	c.follow(r, from, term, m)
	return r
}

// newer orders descriptors of one range: by epoch, then by term. Both counters rise along one log, so two
// epochs of which neither is newer come from logs that parted; the later term's is the range's.
func newer(d *topology.Descriptor, term ids.Term, r *rangeState) bool {
	if d.Epoch == r.desc.Epoch || r.desc.Epoch.Newer(d.Epoch) {
		return false
	}
	return d.Epoch.Newer(r.desc.Epoch) || term > r.term
}

// follow takes a leader's numbers: of a later term, or of the same leader and not of an earlier moment.
func (c *cluster) follow(r *rangeState, from ids.StoreID, term ids.Term, m *locuspb.RangeReport) {
	if term < r.term || (term == r.term && r.leader == from && ids.Index(m.Applied) < r.applied) {
		return
	}
	if r.leader != from {
		c.change(r)
	}
	r.leader, r.term, r.applied = from, term, ids.Index(m.Applied)
	r.bytes, r.records = m.ApproxBytes, m.ApproxRecords
	r.split = m.Split
	r.progress = make([]Progress, 0, len(m.Progress))
	for _, g := range m.Progress {
		r.progress = append(r.progress, Progress{Replica: ids.ReplicaID(g.ReplicaId), Match: ids.Index(g.Match), Active: g.Active})
	}
}

// judge brings the liveness of all nodes up to date.
func (c *cluster) judge(now, since time.Duration, o *Options) {
	for _, n := range c.nodes {
		state := Up
		switch silence := now - n.heard; {
		case silence >= o.DeadAfter && now-since >= o.Grace:
			state = Dead
		case silence >= o.SuspectAfter || !n.spoken:
			state = Suspect
		}
		if state != n.state {
			n.state = state
			c.changeAll() // who does not answer leads nothing
		}
	}
}

// leaseholder is the range's leader if it is reachable.
func (c *cluster) leaseholder(r *rangeState) ids.StoreID {
	if n := c.nodes[r.leader]; n == nil || n.state != Up {
		return 0
	}
	return r.leader
}

// allSpoke says whether every node has been heard in this office.
func (c *cluster) allSpoke() bool {
	for _, n := range c.nodes {
		if !n.spoken {
			return false
		}
	}
	return true
}

func (c *cluster) countNodes(s Liveness) int {
	n := 0
	for _, node := range c.nodes {
		if node.state == s {
			n++
		}
	}
	return n
}

// healthyVoters counts the voters that are not on dead stores.
func (c *cluster) healthyVoters(d *topology.Descriptor) int {
	n := 0
	for _, v := range d.Voters() {
		if o := c.nodes[v.Store]; o == nil || o.state != Dead {
			n++
		}
	}
	return n
}

// gone lists the replicas that a store holds and that are no longer of their range. Every descriptor here
// was reported by its leader in this term of office. It need not be the newest: replica ids rise along
// the range's log, so whatever lies below next_replica_id and is not in the descriptor has been removed for
// ever, and a replica added since has a higher id, which the store checks (Invariant: I11). It may still be needed until
// the leaseholder calls the removal settled.
func (c *cluster) gone(store ids.StoreID, holding []uint64) []*locuspb.GoneReplica {
	var out []*locuspb.GoneReplica
	for _, id := range holding {
		r := c.ranges[ids.RangeID(id)]
		if r == nil || !r.settled || len(out) == maxGone {
			continue
		}
		if _, has := r.desc.On(store); !has {
			out = append(out, &locuspb.GoneReplica{RangeId: id, NextReplicaId: uint64(r.desc.NextReplica)})
		}
	}
	return out
}
