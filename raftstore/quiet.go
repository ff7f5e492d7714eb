package raftstore

import (
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// A range that nothing has happened to for a while is quiet: its replicas do not tick and send nothing. Its leader says so
// in a last heartbeat, and from then on its store vouches for all its quiet ranges at once, in a sign of life to each
// store that follows one. A request to the leader, a message of the group or the silence of the leader's store wakes a replica.
//
// Nothing depends on quiet for safety: a quiet replica is one whose clock stands still. A leader's lease has run out
// before it falls quiet (rule D3), so its first read asks a quorum and thereby wakes the followers. A follower that missed
// the last heartbeat ticks on, and its request for votes wakes the others.

// quiescence is what a store knows of the stores that vouch for leaders, by its own monotonic clock.
type quiescence struct {
	sync.Mutex
	peers map[ids.StoreID]peerLife
}

type peerLife struct {
	// incarnation vouched last, at vouched.
	incarnation uint64
	vouched     time.Duration
	heard       time.Duration // anything
}

// hear notes messages of a store, and its vouching where incarnation is not 0.
func (q *quiescence) hear(from ids.StoreID, incarnation uint64, now time.Duration) {
	q.Lock()
	defer q.Unlock()
	if q.peers == nil {
		q.peers = make(map[ids.StoreID]peerLife)
	}
	p := q.peers[from]
	p.heard = now
	if incarnation != 0 {
		p.incarnation, p.vouched = incarnation, now
	}
	q.peers[from] = p
}

// vouches says whether a process of a store has vouched for its leaders since.
func (q *quiescence) vouches(store ids.StoreID, incarnation uint64, since time.Duration) bool {
	q.Lock()
	defer q.Unlock()
	p := q.peers[store]
	return p.incarnation == incarnation && p.vouched >= since
}

// silent says whether nothing came from a store since.
func (q *quiescence) silent(store ids.StoreID, since time.Duration) bool {
	q.Lock()
	defer q.Unlock()
	return q.peers[store].heard < since
}

// considerQuiet counts the ticks of a leader whose range is idle: everything is applied, closed and on every replica,
// and nobody waits for anything. Every replica has to be heard, so that a range with one that is lost goes on looking
// for it.
func (r *Replica) considerQuiet(progress []ReplicaProgress) {
	s := r.snapshot()
	if r.store.opts.SleepTicks < 0 || !r.restful(&s, progress) {
		r.raft.restTicks = 0
		return
	}
	r.raft.restTicks++
}

// beginQuiet lets a leader fall silent that has been idle for long enough. It is the last that a step does: what Raft has
// sent before would wake those that it hushes.
func (r *Replica) beginQuiet() {
	if r.raft.stopped || r.raft.quiet || r.raft.restTicks < r.store.opts.SleepTicks || r.raft.restTicks == 0 {
		return
	}
	s := r.snapshot()
	if !s.leaseholder || s.applied.Index != r.raft.lastAppended || !r.seq.idle() || !r.raft.reads.idle() || s.leaseUntil > r.store.opts.Monotonic() {
		r.raft.restTicks = 0 // something came since the tick
		return
	}
	for _, rep := range s.desc.Replicas {
		if rep.ID != r.self {
			r.sendHush(&s, rep)
		}
	}
	r.fallQuiet(0, 0)
}

// sendHush sends a leader's last heartbeat to one of its followers, which has all that there is.
func (r *Replica) sendHush(s *replicaState, to topology.Replica) {
	e := r.envelope(s, &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(uint64(r.self)), To: proto.Uint64(uint64(to.ID)),
		Term: proto.Uint64(r.raft.node.BasicStatus().GetTerm()), Commit: proto.Uint64(uint64(s.applied.Index)),
	}, to.Store)
	e.Quiet, e.Incarnation = true, r.store.incarnation
	r.store.opts.Transport.Send(to.Store, []*locuspb.RaftEnvelope{e})
}

// hushAgain tells a follower that looks after its range that all is as it was. A leader that is awake sends heartbeats anyway.
//
// Invariant: while a leader is quiet every follower has acknowledged its whole log, so that the commit index in the heartbeat
// is one that the follower has. Whatever might change that wakes the leader first.
func (r *Replica) hushAgain(to ids.ReplicaID) {
	if r.raft.stopped || !r.raft.quiet || r.raft.node.BasicStatus().RaftState != raft.StateLeader {
		return
	}
	s := r.snapshot()
	if rep, ok := s.desc.Replica(to); ok && rep.ID != r.self {
		r.sendHush(&s, rep)
	}
}

// restful says whether a leader has nothing left to do.
func (r *Replica) restful(s *replicaState, progress []ReplicaProgress) bool {
	last := r.raft.lastAppended
	switch {
	case !s.leaseholder || s.frozen || s.transferring || s.gone || s.desc.Joint() || r.raft.leaving || r.raft.successor.done != nil || r.fenced(s.desc):
		return false
	case s.applied.Index != last || s.committed > last || s.applied.Closed < s.applied.TS || !r.seq.idle():
		return false
	case !r.raft.reads.idle() || s.leaseUntil > r.store.opts.Monotonic():
		return false
	case len(progress) != len(s.desc.Replicas):
		return false
	}
	for _, p := range progress {
		if p.Match != last || !p.Active || p.Snapshotting {
			return false
		}
	}
	return true
}

// hush follows a leader's last heartbeat, which Raft has handled: a follower that has all that the leader has falls
// silent too, or stays so; any other has to find out what it has missed.
func (r *Replica) hush(m *raftpb.Message, from ids.StoreID, incarnation uint64) {
	st := r.raft.node.BasicStatus()
	if st.GetTerm() != m.GetTerm() || st.Lead != m.GetFrom() || st.GetCommit() != m.GetCommit() ||
		uint64(r.raft.lastAppended) != m.GetCommit() || r.snapshot().desc == nil {
		r.wake()
		return
	}
	r.fallQuiet(from, incarnation)
}

// fallQuiet stops the replica's clock. voucher is the leader's store, 0 on that store itself.
func (r *Replica) fallQuiet(voucher ids.StoreID, incarnation uint64) {
	r.raft.restTicks = 0
	if !r.raft.quiet {
		r.store.metrics.fellQuiet()
	}
	r.raft.quiet = true
	r.resting.Lock()
	changed := !r.resting.quiet || r.resting.voucher != voucher || r.resting.incarnation != incarnation
	r.resting.quiet, r.resting.voucher, r.resting.incarnation = true, voucher, incarnation
	r.resting.Unlock()
	if changed {
		r.store.stirs.Add(1)
	}
}

// wake lets the replica's clock go on.
func (r *Replica) wake() {
	if !r.raft.quiet {
		return
	}
	r.raft.quiet = false
	r.resting.Lock()
	r.resting.quiet = false
	r.resting.Unlock()
	r.store.stirs.Add(1)
}

// resting is the part of quiet that the store's ticker looks at.
type resting struct {
	sync.Mutex
	quiet bool
	// voucher is the store whose signs of life this replica relies on; 0: it leads.
	voucher     ids.StoreID
	incarnation uint64
}

// wakes says whether a message means that the range is quiet no more. Answers to the last heartbeat don't.
func (r *Replica) wakes(m *raftpb.Message) bool {
	return m.GetType() != raftpb.MsgHeartbeatResp && m.GetFrom() != uint64(r.self) && !raft.IsLocalMsg(m.GetType())
}

// voucherLost wakes a follower whose leader's store no longer vouches for it.
func (r *Replica) voucherLost(lost ids.StoreID) {
	if r.raft.stopped || !r.raft.quiet {
		return
	}
	r.wake()
	r.leaderLost(lost)
}

// missLeader looks for another leader as soon as it may, when the leader's whole store is silent: waiting for longer,
// by chance, is for those who can't know who else waits.
func (r *Replica) missLeader() {
	s := r.snapshot()
	if s.isLeader || s.leader == 0 || s.desc == nil || r.bound() {
		return
	}
	if now := r.store.opts.Monotonic(); now-time.Duration(r.store.resumed.Load()) < r.store.opts.electionTimeout()/2 {
		return // it was this process that stood still: what was sent to it has yet to be read
	}
	lead, ok := s.desc.Replica(s.leader)
	if ok && r.store.lives.silent(lead.Store, r.store.opts.Monotonic()-r.store.opts.electionTimeout()) {
		r.leaderLost(lead.Store)
	}
}

// leaderLost forgets a leader whose store is silent, so that this replica votes for another once it may. The first
// voter of those that are left campaigns at once; if it can't win, chance decides as always.
func (r *Replica) leaderLost(lost ids.StoreID) {
	s := r.snapshot()
	if lead, ok := s.desc.Replica(s.leader); !ok || lead.Store != lost {
		return
	}
	if err := r.raft.node.ForgetLeader(); err != nil {
		r.store.logger.Debug("leader not forgotten", "range", r.id, "err", err)
	}
	for _, v := range s.desc.Voters() {
		if v.Store == lost {
			continue
		}
		if v.ID == r.self {
			r.raft.campaigns = eagerCampaigns
			r.campaign()
		}
		return
	}
}

// A quiet follower asks in every lookAfterTicks, about ten minutes, what has become of it: its range may have a new leader, or
// may have removed it, and everybody who could have said so may have been cut off from it at the time. A leader that has it
// in its range says its last heartbeat again. Those whose turn it is within lookTicks ask together: a letter for each would
// cost more than all else that is sent for idle ranges.
const (
	lookTicks      = 100
	lookAfterTicks = 60 * lookTicks
)

// maxWakes bounds the replicas that one tick wakes because a store is lost: their elections come one after another.
const maxWakes = 64

// bedroom is what the last walk over all replicas found. It holds until one wakes, falls quiet, comes or goes, which
// Store.stirs counts: to walk over a thousand replicas that sleep, ten times a second, costs more than their store's other work.
type bedroom struct {
	stirs    uint64        // at the begin of the walk
	replicas []*Replica    // all
	awake    []*Replica    // those that tick
	vouchers []voucher     // whom the quiet followers rely on
	rely     []ids.StoreID // those that rely on this store, in order
}

// voucher is a process of a store.
type voucher struct {
	store       ids.StoreID
	incarnation uint64
}

// rest looks after quiet replicas, once a tick: it says which of the replicas tick, wakes those whose leader's store is
// silent, and now and then vouches for those that lead.
func (s *Store) rest() (awake []*Replica) {
	now := s.opts.Monotonic()
	if now-s.ticked > 3*s.opts.TickInterval {
		s.resumed.Store(int64(now))
	}
	s.ticked = now
	if stirs := s.stirs.Load(); stirs != s.bedroom.stirs || s.bedroom.replicas == nil {
		s.bedroom = walk(s.allReplicas(), s.opts.StoreID) // after the count: what stirs meanwhile is walked to again
		s.bedroom.stirs = stirs
	}
	b := &s.bedroom
	if s.ticks%s.vouchTicks() == 0 {
		s.vouch(b.rely)
	}
	since := now - s.opts.electionTimeout()
	if slices.ContainsFunc(b.vouchers, func(v voucher) bool { return !s.lives.vouches(v.store, v.incarnation, since) }) {
		s.wakeFollowers(b.replicas, since)
	}
	if s.ticks%lookTicks == 0 {
		s.lookAfter(b.replicas)
	}
	return b.awake
}

// vouchTicks is the time between two signs of life: two heartbeats, as long as an election timeout has room for two of them.
func (s *Store) vouchTicks() int {
	return min(2*s.opts.HeartbeatTicks, max(s.opts.HeartbeatTicks, s.opts.ElectionTicks/2))
}

// vouch sends signs of life.
func (s *Store) vouch(to []ids.StoreID) {
	for _, to := range to {
		s.opts.Transport.Send(to, []*locuspb.RaftEnvelope{{
			FromStore: uint64(s.opts.StoreID), ToStore: uint64(to), Incarnation: s.incarnation,
		}})
	}
}

// walk looks at all replicas of a store.
func walk(all []*Replica, self ids.StoreID) bedroom {
	b := bedroom{replicas: all}
	vouchers, rely := make(map[voucher]bool), make(map[ids.StoreID]bool)
	for _, r := range all {
		quiet, v := r.reliesOn()
		switch {
		case !quiet:
			b.awake = append(b.awake, r)
		case v.store == 0:
			for _, rep := range r.snapshot().desc.Replicas {
				rely[rep.Store] = true
			}
		case !vouchers[v]:
			vouchers[v] = true
			b.vouchers = append(b.vouchers, v)
		}
	}
	delete(rely, self)
	b.rely = sortedStores(rely)
	return b
}

// reliesOn says whether the replica is quiet, and who vouches for its leader; nobody if it leads.
func (r *Replica) reliesOn() (quiet bool, v voucher) {
	r.resting.Lock()
	defer r.resting.Unlock()
	return r.resting.quiet, voucher{r.resting.voucher, r.resting.incarnation}
}

// wakeFollowers wakes some of the quiet followers for whose leaders nobody has vouched since.
func (s *Store) wakeFollowers(all []*Replica, since time.Duration) {
	woken := 0
	for _, r := range all {
		quiet, v := r.reliesOn()
		if !quiet || v.store == 0 || s.lives.vouches(v.store, v.incarnation, since) {
			continue
		}
		r.post(raftInput{run: func() { r.voucherLost(v.store) }})
		if woken++; woken == maxWakes {
			return
		}
	}
}

// lookAfter lets those quiet followers ask whose turn it is.
func (s *Store) lookAfter(all []*Replica) {
	const turns = lookAfterTicks / lookTicks
	for _, r := range all {
		if (s.ticks/lookTicks+int(r.id))%turns != 0 {
			continue
		}
		if quiet, v := r.reliesOn(); !quiet || v.store == 0 {
			continue
		}
		if st := r.snapshot(); st.desc != nil {
			r.ask(&st)
		}
	}
}
