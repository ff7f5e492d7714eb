package raftstore

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// A store whose wall clock is wrong would write timestamps that are, and whoever had seen one would be refused by all other
// stores until their clocks have come that far. So a store whose wall clock is more than half of the maximum offset from
// the median of the stores it hears gives up its leads and proposes nothing, until it is right again (rule C4). It goes
// on to follow, to vote and to apply.
//
// Each store asks those that it shares ranges with for their wall clocks, and keeps the answers against its own monotonic
// clock. So a step of its own wall clock shows at once against what it knows already, and what it heard says nothing wrong
// when its own clock is set.
//
// What one other store says proves nothing: either of the two may be wrong. It is enough to confirm a clock, though. A clock
// has to be confirmed, by one other store or by the median of more, after the store started and after its wall clock made
// a step that the monotonic clock did not; from then on it takes two others to outvote it. See docs/RATIONALE.md.

// clockSample is what a store knows of another's wall clock.
type clockSample struct {
	// ahead is how far it is ahead of this store's monotonic clock, give or take doubt, at the time of asking.
	ahead, doubt time.Duration
	asked        time.Duration
}

// probed is the sample that an answer gives: the other clock was read at some moment of the round trip.
func probed(asked, answered, wall time.Duration) clockSample {
	half := (answered - asked) / 2
	return clockSample{ahead: wall - asked - half, doubt: half, asked: asked}
}

// doubtAt is what has become of the doubt: two monotonic clocks may run at different rates.
func (c clockSample) doubtAt(now time.Duration, drift float64) time.Duration {
	return c.doubt + time.Duration(float64(now-c.asked)*drift)
}

// better says whether a new sample takes the place of an old one: it is at least as certain, or contradicts it, because the
// other clock was set.
func (c clockSample) better(old clockSample, now time.Duration, drift float64) bool {
	mine, theirs := c.doubtAt(now, drift), old.doubtAt(now, drift)
	return mine <= theirs || (c.ahead-old.ahead).Abs() > mine+theirs
}

// clockOffset is how far another clock is ahead of this store's, give or take doubt.
type clockOffset struct{ by, doubt time.Duration }

type clockVerdict uint8

const (
	clockUnjudged clockVerdict = iota // nothing follows: it stays what it was
	clockRight
	clockOff
)

// judgeClock compares a clock with others, of which it is by 0 ahead of itself: off if the median of all is certainly further
// than tolerance from it, right if it is within three quarters of that; in between nothing changes. One other can confirm
// and not outvote; two clocks that are right may be twice the tolerance apart. It returns the median, too.
func judgeClock(others []clockOffset, tolerance time.Duration) (clockVerdict, time.Duration) {
	switch len(others) {
	case 0:
		return clockUnjudged, 0
	case 1:
		if o := others[0]; o.by.Abs() <= 2*tolerance {
			return clockRight, o.by
		}
		return clockUnjudged, others[0].by
	}
	by := medianOf(others, func(o clockOffset) time.Duration { return o.by })
	least := medianOf(others, func(o clockOffset) time.Duration { return o.by - o.doubt })
	most := medianOf(others, func(o clockOffset) time.Duration { return o.by + o.doubt })
	switch {
	case by.Abs() <= tolerance*3/4:
		return clockRight, by
	case least > tolerance || most < -tolerance:
		return clockOff, by
	}
	return clockUnjudged, by
}

// medianOf is the median of the others and of this store, which is 0; of two middle ones that which is nearer to it.
func medianOf(others []clockOffset, f func(clockOffset) time.Duration) time.Duration {
	all := make([]time.Duration, 1, len(others)+1)
	for _, o := range others {
		all = append(all, f(o))
	}
	slices.Sort(all)
	lo, hi := all[(len(all)-1)/2], all[len(all)/2]
	if lo.Abs() <= hi.Abs() {
		return lo
	}
	return hi
}

// clockWatch is what a store knows of clocks, its own included.
type clockWatch struct {
	// off: this store proposes nothing.
	off atomic.Bool
	// stale: a range here has other replicas than when peers was last made up.
	stale atomic.Bool

	mu struct {
		sync.Mutex
		samples map[ids.StoreID]clockSample
		// peers are the stores that this one shares ranges with; alone: there is a range that it is the only voter of.
		peers map[ids.StoreID]bool
		alone bool
		// holds: there are replicas here.
		holds bool
		// confirmed: others have confirmed or outvoted the clock, or there was nobody else for a while. One that is not
		// steady is taken as it is.
		confirmed bool
		// since: as long the clock has been off, or as of now.
		since time.Duration
		// told: the log has a line that it is off.
		told bool
		// offset is how far the median of all is ahead of this store's wall clock.
		offset time.Duration
	}
}

// ClockState is what a store thinks of its wall clock.
type ClockState struct {
	// Off: the store gives up its leads and proposes nothing.
	Off bool
	// Ahead is how far its wall clock is ahead of the median of the stores it hears, as it last measured.
	Ahead time.Duration
}

// ClockState says whether the store's wall clock is off from the others'.
func (s *Store) ClockState() ClockState {
	s.clocks.mu.Lock()
	defer s.clocks.mu.Unlock()
	return ClockState{Off: s.clocks.mu.told, Ahead: -s.clocks.mu.offset}
}

// fenced says whether this replica must neither lead nor propose: its store's clock is off or not confirmed. A range without
// another voter is left alone: nobody else could serve it.
func (r *Replica) fenced(d *topology.Descriptor) bool {
	return r.store.clocks.off.Load() && d != nil && len(d.Voters()) > 1
}

// probeTicks is how often a store asks for others' clocks; one whose own is not confirmed asks with every heartbeat.
const probeTicks = 10

// watchClock is done once a tick.
func (s *Store) watchClock() {
	every := probeTicks
	if s.clocks.off.Load() || !s.clock.Anchored() {
		every = s.opts.HeartbeatTicks
	}
	if s.ticks%every == 1%every {
		s.probeClocks(s.allReplicas())
	}
	s.judgeOwnClock()
}

// probeClocks asks all stores that have replicas of the same ranges.
func (s *Store) probeClocks(all []*Replica) {
	for _, to := range s.peers(all) {
		s.sendProbe(to, &locuspb.ClockProbe{Incarnation: s.incarnation, Asked: int64(s.opts.Monotonic())})
	}
}

// peers are the stores that clocks are compared with. They are looked for again when something of the replicas may have changed,
// and once more, as what is counted may show later.
func (s *Store) peers(all []*Replica) []ids.StoreID {
	now := peersSeen{s.Changes(), s.stirs.Load(), s.clock.Anchored()}
	if now != s.peersSeen || s.peersAgain {
		s.peersAgain = now != s.peersSeen
		s.peersSeen, s.peersFound = now, s.notePeers(all)
	}
	return s.peersFound
}

// peersSeen changes when the outcome of notePeers may.
type peersSeen struct {
	changes, stirs uint64
	anchored       bool
}

// notePeers takes note of the stores that clocks are compared with, and forgets others.
func (s *Store) notePeers(all []*Replica) []ids.StoreID {
	peers, alone, holds := make(map[ids.StoreID]bool), false, false
	for _, r := range all {
		st := r.snapshot()
		if st.desc == nil || st.gone {
			continue
		}
		holds = true
		for _, rep := range st.desc.Replicas {
			peers[rep.Store] = true
		}
		// After a crash the descriptor is an old one until the log has been applied again.
		alone = alone || len(st.desc.Voters()) == 1 && (s.clock.Anchored() || s.allApplied(&st, r.id))
	}
	delete(peers, s.opts.StoreID)
	w := &s.clocks
	w.mu.Lock()
	w.mu.peers, w.mu.alone, w.mu.holds = peers, alone, holds
	maps.DeleteFunc(w.mu.samples, func(id ids.StoreID, _ clockSample) bool { return !peers[id] })
	w.mu.Unlock()
	return sortedStores(peers)
}

func (s *Store) allApplied(st *replicaState, id ids.RangeID) bool {
	g, ok := s.log.Group(id)
	return !ok || st.applied.Index >= g.Last
}

func (s *Store) sendProbe(to ids.StoreID, p *locuspb.ClockProbe) {
	s.opts.Transport.Send(to, []*locuspb.RaftEnvelope{{FromStore: uint64(s.opts.StoreID), ToStore: uint64(to), Probe: p}})
}

// heardProbe answers a question, or takes an answer to one of this process.
func (s *Store) heardProbe(from ids.StoreID, p *locuspb.ClockProbe) {
	if p.Wall == 0 {
		s.sendProbe(from, &locuspb.ClockProbe{Incarnation: p.Incarnation, Asked: p.Asked, Wall: s.clock.Reading().UnixNano()})
		return
	}
	now := s.opts.Monotonic()
	asked := time.Duration(p.Asked)
	if p.Incarnation != s.incarnation || asked < s.started || asked > now {
		return
	}
	sample, drift := probed(asked, now, time.Duration(p.Wall)), s.opts.MaxClockDrift
	w := &s.clocks
	w.mu.Lock()
	old, known := w.mu.samples[from]
	if w.mu.peers[from] && (!known || sample.better(old, now, drift)) {
		if w.mu.samples == nil {
			w.mu.samples = make(map[ids.StoreID]clockSample)
		}
		w.mu.samples[from] = sample
	}
	w.mu.Unlock()
	s.judgeOwnClock()
}

// othersLocked are the clocks that are known well enough, as seen from a wall clock so far ahead of the monotonic one.
func (s *Store) othersLocked(ahead, now time.Duration) []clockOffset {
	var out []clockOffset
	for _, c := range s.clocks.mu.samples {
		if doubt := c.doubtAt(now, s.opts.MaxClockDrift); doubt <= s.clock.Tolerance() {
			out = append(out, clockOffset{by: c.ahead - ahead, doubt: doubt})
		}
	}
	return out
}

// judgeOwnClock brings the verdict on this store's clock up to date, and acts where it has changed.
func (s *Store) judgeOwnClock() {
	w := &s.clocks
	if w.stale.Swap(false) {
		s.notePeers(s.allReplicas()) // who was alone has somebody to be compared with
	}
	w.mu.Lock()
	now := s.opts.Monotonic()
	ahead := time.Duration(s.clock.Reading().UnixNano()) - now
	others := s.othersLocked(ahead, now)
	verdict, median := judgeClock(others, s.clock.Tolerance())
	was, off := w.off.Load(), false
	waited := now-s.started >= s.opts.electionTimeout()
	switch {
	case verdict == clockRight:
		s.clock.Anchor(ahead)
		w.mu.confirmed = true
	case verdict == clockOff:
		s.clock.Anchor(ahead + median) // the others' time is the better one
		w.mu.confirmed, off = true, true
	case len(w.mu.peers) == 0:
		if w.mu.alone {
			s.clock.Anchor(ahead) // its clock is the time
		}
		w.mu.confirmed = w.mu.alone && waited || !s.clock.Steady()
		off = w.mu.holds && !s.clock.Anchored() // until the log has told whether there is somebody
	case !w.mu.confirmed:
		if w.mu.alone && waited && !s.clock.Anchored() {
			s.clock.Anchor(ahead) // there is somebody to serve whom nobody else can
		}
		off = true
	default: // where nobody outvotes it, a clock that is where it was confirmed is right
		off = s.clock.Stepped() || was && len(others) >= 2
	}
	w.mu.offset = median
	w.off.Store(off)
	if !off || !was {
		w.mu.since = now
	}
	tell, certain := s.tellLocked(off, now-w.mu.since >= s.opts.electionTimeout()), w.mu.confirmed
	w.mu.Unlock()
	tell()
	if off && !was && certain {
		s.giveUpLeads() // else the next tick does, if no answer comes before
	}
}

// tellLocked is the line for the log that a store's clock is off, or is right again, if there is one. A clock that waits for its
// first confirmation is not worth one at once.
func (s *Store) tellLocked(off, waited bool) func() {
	w := &s.clocks
	ahead, heard := -w.mu.offset, len(w.mu.samples)
	switch {
	case off && !w.mu.told && (w.mu.confirmed || waited):
		w.mu.told = true
		return func() {
			s.logger.Error("this store's wall clock is off from the others', or nobody confirms it: it gives up its leads and proposes nothing",
				"store", s.opts.StoreID, "ahead", ahead, "of", heard, "tolerance", s.clock.Tolerance())
		}
	case !off && w.mu.told:
		w.mu.told = false
		return func() {
			s.logger.Info("this store's wall clock is right again", "store", s.opts.StoreID, "ahead", ahead, "of", heard)
		}
	}
	return func() {}
}

// noticeStep looks for a step of this store's own wall clock, before anything is evaluated.
func (s *Store) noticeStep() {
	if !s.clocks.off.Load() && s.clock.Stepped() {
		s.judgeOwnClock()
	}
}

// giveUpLeads begins what every tick goes on with while the clock is off.
func (s *Store) giveUpLeads() {
	for _, r := range s.allReplicas() {
		r.post(raftInput{run: r.giveUpLead})
	}
}

// giveUpLead hands the lead of a fenced replica to another, which may have to be tried again. Its lease is void from now on.
func (r *Replica) giveUpLead() {
	s := r.snapshot()
	if r.raft.stopped || !s.isLeader || !r.fenced(s.desc) {
		return
	}
	r.wake() // and stays awake until somebody has taken it
	r.update(func(s *replicaState) { s.leaseVoid = true })
	r.seq.refuse()
	r.handOver(&s)
}
