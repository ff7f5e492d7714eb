package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// Plan decides the next step of every range that needs one. It is pure: equal views give equal plans, and
// no intention is kept between two calls. What a half-done change was meant for is read from the range
// itself (a learner beside enough voters is a move), so another driver goes on where this one stopped.
//
// In order of urgency: a learner whose store died is removed; missing voters are added as learners and
// promoted once caught up, taking the place of dead ones in the same joint change; dead and surplus voters
// are removed; moves are finished; ranges are split where their leaseholders want it (the caller gives such
// an operator the new range's id); then, in a settled cluster without suspects, replicas and leases are balanced
// by count.
//
// Invariant: after and before every removal or promotion a quorum of voters is up and caught up; without
// that there is no operator, so the last healthy copies are never given away.
func Plan(v *View, limits Limits) []*locuspb.Operator {
	p := newPlanner(v, limits.withDefaults())
	for i := range p.ranges {
		if c := &p.ranges[i]; c.free {
			p.mend(c)
		}
	}
	p.splitRanges()
	if v.Settled && !p.suspects {
		p.balanceReplicas()
		p.balanceLeases()
	}
	return p.out
}

// planner is one run of Plan.
type planner struct {
	lim      Limits
	stores   []load // in the view's order
	index    map[ids.StoreID]int
	ranges   []care
	suspects bool
	out      []*locuspb.Operator

	moves     int // ranges with more replicas than they will keep
	transfers int
	splits    int
}

// load is a store with what it carries, all that is under way counted as done.
type load struct {
	StoreView
	replicas int
	leases   int
	filling  int // cost of the learners being filled
}

// care is a range with its replicas resolved against the stores.
type care struct {
	*RangeView
	wanted   int
	voters   []member
	learners []member
	dead     int // of the voters
	leader   int // index of its store
	victim   int // voters[victim] leaves when the move under way ends; -1: no move
	free     bool
}

// member is one replica.
type member struct {
	topology.Replica
	at     int // index of the store, -1 if unknown
	state  Liveness
	ready  bool // up and caught up
	kept   bool // the leaseholder does not let it go
	leads  bool // may lead: ready, and the store's clock is right
	leader bool
}

func newPlanner(v *View, lim Limits) *planner {
	p := &planner{
		lim:    lim,
		stores: make([]load, len(v.Stores)),
		index:  make(map[ids.StoreID]int, len(v.Stores)),
		ranges: make([]care, len(v.Ranges)),
	}
	for i, s := range v.Stores {
		p.stores[i].StoreView = s
		p.index[s.ID] = i
		p.suspects = p.suspects || s.State == Suspect
	}
	total := 0
	for i := range v.Ranges {
		total += len(v.Ranges[i].Desc.Replicas)
	}
	arena := make([]member, 0, 2*total)
	for i := range v.Ranges {
		arena = p.resolve(&p.ranges[i], &v.Ranges[i], arena)
		p.count(&p.ranges[i])
	}
	for i := range p.ranges {
		p.foresee(&p.ranges[i])
	}
	return p
}

// resolve fills c, taking the memory of its members from the arena.
func (p *planner) resolve(c *care, r *RangeView, arena []member) []member {
	*c = care{RangeView: r, wanted: r.Wanted, leader: p.at(r.Leader), victim: -1}
	if c.wanted == 0 {
		c.wanted = p.lim.Replicas
	}
	for _, wantVoter := range []bool{true, false} {
		from := len(arena)
		for _, rep := range r.Desc.Replicas {
			if voter := rep.Role == topology.Voter || rep.Role == topology.VoterIncoming; voter == wantVoter {
				arena = append(arena, p.member(r, rep))
			}
		}
		if part := arena[from:len(arena):len(arena)]; wantVoter {
			c.voters = part
		} else {
			c.learners = part
		}
	}
	for _, m := range c.voters {
		if m.state == Dead {
			c.dead++
		}
	}
	c.free = c.leader >= 0 && p.stores[c.leader].State == Up && r.Pending == nil && !r.Held && !r.Desc.Joint()
	return arena
}

func (p *planner) member(r *RangeView, rep topology.Replica) member {
	m := member{Replica: rep, at: p.at(rep.Store), state: Suspect, leader: rep.Store == r.Leader}
	if m.at >= 0 {
		m.state = p.stores[m.at].State
	}
	m.ready = m.state == Up && (m.leader || p.caughtUp(r, rep.ID))
	m.kept = m.state != Dead && slices.Contains(r.Kept, rep.ID)
	m.leads = m.ready && !p.stores[m.at].ClockOff
	return m
}

// at is the index of a store; -1 if the view does not have it. Such a store is treated as suspect: it
// is not known to be dead and not known to be well.
func (p *planner) at(id ids.StoreID) int {
	if i, ok := p.index[id]; ok {
		return i
	}
	return -1
}

func (p *planner) caughtUp(r *RangeView, id ids.ReplicaID) bool {
	for _, g := range r.Progress {
		if g.Replica == id {
			return g.Active && g.Match > 0 && uint64(g.Match)+p.lim.CatchUp >= uint64(r.Applied)
		}
	}
	return false
}

// count adds a range to the loads of its stores, with its pending operator as if done.
func (p *planner) count(c *care) {
	for _, m := range c.voters {
		p.add(m.at, 1)
	}
	for _, m := range c.learners {
		if m.Role != topology.Learner {
			continue // leaving: gone with the joint configuration
		}
		p.add(m.at, 1)
		if !m.ready && m.at >= 0 {
			p.stores[m.at].filling += p.fillCost(c)
		}
	}
	if c.leader >= 0 {
		p.stores[c.leader].leases++
	}
	switch step := c.Pending.GetStep().(type) {
	case *locuspb.Operator_AddLearner:
		if at := p.at(ids.StoreID(step.AddLearner.StoreId)); at >= 0 {
			p.stores[at].replicas++
			p.stores[at].filling += p.fillCost(c)
		}
	case *locuspb.Operator_Replace:
		for _, id := range step.Replace.Remove {
			p.gone(c, ids.ReplicaID(id))
		}
	case *locuspb.Operator_Remove:
		p.gone(c, ids.ReplicaID(step.Remove.ReplicaId))
	case *locuspb.Operator_Transfer:
		p.transfers++
		p.moveLease(c.leader, p.at(ids.StoreID(step.Transfer.StoreId)))
	case *locuspb.Operator_Split:
		p.splits++
	}
}

// foresee counts the voter that a move under way will end with removing.
func (p *planner) foresee(c *care) {
	moving := c.Pending.GetAddLearner() != nil && len(c.learners) == 0
	for _, m := range c.learners {
		moving = moving || (m.Role == topology.Learner && m.state != Dead)
	}
	if !moving || len(c.voters)-c.dead < c.wanted {
		return
	}
	p.moves++
	if c.Pending.GetReplace() != nil {
		return // its removals are counted already
	}
	if c.victim = p.fullest(c, true); c.victim >= 0 {
		p.add(c.voters[c.victim].at, -1)
	}
}

func (p *planner) gone(c *care, id ids.ReplicaID) {
	if rep, ok := c.Desc.Replica(id); ok {
		p.add(p.at(rep.Store), -1)
	}
}

func (p *planner) add(at, n int) {
	if at >= 0 {
		p.stores[at].replicas += n
	}
}

func (p *planner) moveLease(from, to int) {
	if from >= 0 && to >= 0 {
		p.stores[from].leases--
		p.stores[to].leases++
	}
}

func (p *planner) fillCost(c *care) int {
	if c.Bytes <= p.lim.SmallRange {
		return fillSmall
	}
	return fillLarge
}

// mend plans the most urgent step of one range, if it needs any.
func (p *planner) mend(c *care) {
	coming := 0
	for _, l := range c.learners {
		if l.state == Dead {
			p.emit(c, removeReplica(l.ID), fmt.Sprintf("learner on dead store %s", l.Store))
			return
		}
		coming++
	}
	healthy := len(c.voters) - c.dead
	missing := c.wanted - healthy
	switch {
	case missing > coming && p.addLearner(c, p.repairReason(c, healthy)):
	case missing > 0:
		p.promote(c, missing)
	case c.dead > 0 || len(c.voters) > c.wanted:
		p.dropVoter(c)
	case coming > 0:
		p.finishMove(c)
	}
}

func (p *planner) repairReason(c *care, healthy int) string {
	if c.dead > 0 {
		return fmt.Sprintf("%d of %d voters are on dead stores", c.dead, len(c.voters))
	}
	return fmt.Sprintf("%d of %d wanted voters", healthy, c.wanted)
}

// addLearner plans a learner on the best store; false if there is none that may be filled now.
func (p *planner) addLearner(c *care, reason string) bool {
	best := -1
	for i := range p.stores {
		if p.canHost(c, i) && (best < 0 || p.stores[i].compare(&p.stores[best]) < 0) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	p.hosts(c, best)
	p.emit(c, addLearner(p.stores[best].ID), reason)
	return true
}

// compare orders stores by how well a replica would lie there.
func (s *load) compare(o *load) int {
	return cmp.Or(cmp.Compare(s.replicas, o.replicas), cmp.Compare(s.filling, o.filling), cmp.Compare(s.ID, o.ID))
}

// canHost says whether a store may be given a learner of the range now.
func (p *planner) canHost(c *care, at int) bool {
	s := &p.stores[at]
	if s.State != Up || s.NearlyFull || s.filling+p.fillCost(c) > p.lim.FillsPerStore*fillLarge {
		return false
	}
	if s.Capacity > 0 && s.Available < s.Capacity/20+c.Bytes {
		return false // under 5% of the disk would be left
	}
	_, has := c.Desc.On(s.ID)
	return !has
}

// hosts counts a new learner.
func (p *planner) hosts(c *care, at int) {
	p.stores[at].replicas++
	p.stores[at].filling += p.fillCost(c)
}

// promote makes caught-up learners voters, in exchange for dead voters where there are any.
func (p *planner) promote(c *care, missing int) {
	ready, filling := c.ready()
	n := min(missing, len(ready))
	if n == 0 {
		return
	}
	dead := c.deadVoters()
	remove := dead[:min(n, len(dead))]
	// An even number of voters tolerates no more failures than one less, and two tolerate none: rather wait
	// for the learner that is on its way and promote both at once.
	if after := len(c.voters) + n - len(remove); after%2 == 0 && n < missing && filling > 0 {
		return
	}
	p.replace(c, ready[:n], remove, fmt.Sprintf("learner caught up; %d of %d voters were healthy", len(c.voters)-c.dead, c.wanted))
}

// ready lists the caught-up learners, and counts those that are being filled on stores that are up.
func (c *care) ready() (ready []member, filling int) {
	for _, l := range c.learners {
		switch {
		case l.Role != topology.Learner:
		case l.ready:
			ready = append(ready, l)
		case l.state == Up:
			filling++
		}
	}
	return ready, filling
}

func (c *care) deadVoters() []member {
	var out []member
	for _, m := range c.voters {
		if m.state == Dead {
			out = append(out, m)
		}
	}
	return out
}

// dropVoter removes a dead voter that is no longer needed, or one too many. Never the leader: it would
// have to hand over first, and there is always another.
func (p *planner) dropVoter(c *care) {
	if dead := c.deadVoters(); len(dead) > 0 {
		p.replace(c, nil, dead[:1], fmt.Sprintf("voter on dead store %s has been replaced", dead[0].Store))
		return
	}
	if v := p.fullest(c, false); v >= 0 {
		p.replace(c, nil, c.voters[v:v+1], fmt.Sprintf("%d voters, %d wanted", len(c.voters), c.wanted))
	}
}

// fullest is the voter whose store carries most, preferring others to the leader at equal load.
func (p *planner) fullest(c *care, orLeader bool) int {
	best := -1
	better := func(a, b *member) bool {
		la, lb := p.stores[a.at].replicas, p.stores[b.at].replicas
		if la != lb {
			return la > lb
		}
		if a.leader != b.leader {
			return b.leader
		}
		return a.Store > b.Store
	}
	for i := range c.voters {
		m := &c.voters[i]
		if m.at < 0 || m.kept || (m.leader && !orLeader) {
			continue
		}
		if best < 0 || better(m, &c.voters[best]) {
			best = i
		}
	}
	return best
}

// finishMove ends a move: the learner takes the place of the voter on the fullest store, or goes again if
// that would no longer help.
func (p *planner) finishMove(c *care) {
	ready, _ := c.ready()
	if len(ready) == 0 {
		return
	}
	l := ready[0]
	if c.victim < 0 {
		if !l.kept {
			p.add(l.at, -1)
			p.emit(c, removeReplica(l.ID), fmt.Sprintf("no voter can make room for it on store %s", l.Store))
		}
		return
	}
	v := c.voters[c.victim]
	// foresee has taken the victim off its store's count already; l is in its store's.
	if p.stores[v.at].replicas+1 < p.stores[l.at].replicas {
		p.add(v.at, 1)
		p.add(l.at, -1)
		p.emit(c, removeReplica(l.ID), fmt.Sprintf("moving it to store %s would no longer help", l.Store))
		return
	}
	if v.leader {
		p.handOver(c, fmt.Sprintf("its replica on store %s is to be removed", v.Store))
		return
	}
	p.replace(c, ready[:1], c.voters[c.victim:c.victim+1], fmt.Sprintf("move from store %s to store %s", v.Store, l.Store))
}

// handOver transfers the lease to the caught-up voter whose store has the fewest leases.
func (p *planner) handOver(c *care, reason string) {
	best := -1
	for _, m := range c.voters {
		if m.leads && !m.leader && (best < 0 || p.stores[m.at].leases < p.stores[best].leases) {
			best = m.at
		}
	}
	if best >= 0 {
		p.transfer(c, best, reason)
	}
}

func (p *planner) transfer(c *care, to int, reason string) {
	p.transfers++
	p.moveLease(c.leader, to)
	p.emit(c, transferLease(p.stores[to].ID), reason)
}

// replace plans a joint change if it is safe: a quorum of healthy, caught-up voters before and after. (In
// the joint configuration both quorums must commit.)
func (p *planner) replace(c *care, promote, remove []member, reason string) {
	isRemoved := func(m member) bool {
		return slices.ContainsFunc(remove, func(o member) bool { return o.ID == m.ID })
	}
	ready, readyAfter, after := 0, len(promote), len(promote)
	for _, m := range c.voters {
		if m.ready {
			ready++
		}
		if !isRemoved(m) {
			after++
			if m.ready {
				readyAfter++
			}
		}
	}
	if ready < quorum(len(c.voters)) || readyAfter < quorum(after) {
		return
	}
	for _, m := range remove {
		if c.victim < 0 || c.voters[c.victim].ID != m.ID {
			p.add(m.at, -1)
		}
	}
	p.emit(c, replaceVoters(promote, remove), reason)
}

func quorum(voters int) int { return voters/2 + 1 }

// splitRanges splits where leaseholders want it. A range with a learner waits: what is being filled should have the
// bounds that it was begun with.
func (p *planner) splitRanges() {
	for i := range p.ranges {
		c := &p.ranges[i]
		if c.Split == nil || !c.free || len(c.learners) > 0 || (c.Split.Requests > 0 && !p.busy(c.leader)) {
			continue
		}
		if p.splits >= p.lim.Splits {
			return
		}
		p.splits++
		p.emit(c, splitAt(c.Split.Key, 0), c.Split.Reason)
	}
}

// busy says whether a store has more load than the average of those that are up. Where the load is even, or there is one
// store, splitting a range for its load would not help: the halves would have nowhere better to go.
func (p *planner) busy(at int) bool {
	sum, n := uint64(0), uint64(0)
	for i := range p.stores {
		if p.stores[i].State == Up {
			sum, n = sum+p.stores[i].Requests, n+1
		}
	}
	return p.stores[at].Requests*n*100 > sum*uint64(100+p.lim.BusyPercent)
}

// emit adds an operator to the plan; its range gets no other in this run.
func (p *planner) emit(c *care, op *locuspb.Operator, reason string) {
	op.RangeId = uint64(c.Desc.ID)
	op.ConfEpoch, op.BoundsEpoch = c.Desc.Epoch.Conf, c.Desc.Epoch.Bounds
	op.Reason = reason
	c.free = false
	p.out = append(p.out, op)
}

func addLearner(s ids.StoreID) *locuspb.Operator {
	return &locuspb.Operator{Step: &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: uint64(s)}}}
}

func removeReplica(id ids.ReplicaID) *locuspb.Operator {
	return &locuspb.Operator{Step: &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(id)}}}
}

func transferLease(s ids.StoreID) *locuspb.Operator {
	return &locuspb.Operator{Step: &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(s)}}}
}

func replaceVoters(promote, remove []member) *locuspb.Operator {
	r := &locuspb.ReplaceVoters{}
	for _, m := range promote {
		r.Promote = append(r.Promote, uint64(m.ID))
	}
	for _, m := range remove {
		r.Remove = append(r.Remove, uint64(m.ID))
	}
	return &locuspb.Operator{Step: &locuspb.Operator_Replace{Replace: r}}
}

func splitAt(key []byte, id ids.RangeID) *locuspb.Operator {
	return &locuspb.Operator{Step: &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: key, NewRangeId: uint64(id)}}}
}
