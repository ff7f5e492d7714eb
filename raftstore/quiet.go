package raftstore

import (
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
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
	term := r.raft.node.BasicStatus().GetTerm()
	for _, rep := range s.desc.Replicas {
		if rep.ID == r.self {
			continue
		}
		e := r.envelope(&s, &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(uint64(r.self)), To: proto.Uint64(uint64(rep.ID)),
			Term: proto.Uint64(term), Commit: proto.Uint64(uint64(s.applied.Index)),
		}, rep.Store)
		e.Quiet, e.Incarnation = true, r.store.incarnation
		r.store.opts.Transport.Send(rep.Store, []*locuspb.RaftEnvelope{e})
	}
	r.fallQuiet(0, 0)
}

// restful says whether a leader has nothing left to do.
func (r *Replica) restful(s *replicaState, progress []ReplicaProgress) bool {
	last := r.raft.lastAppended
	switch {
	case !s.leaseholder || s.frozen || s.transferring || s.gone || s.desc.Joint() || r.raft.leaving || r.fenced(s.desc):
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
// silent too.
func (r *Replica) hush(m *raftpb.Message, from ids.StoreID, incarnation uint64) {
	st := r.raft.node.BasicStatus()
	if st.GetTerm() != m.GetTerm() || st.Lead != m.GetFrom() || st.GetCommit() != m.GetCommit() ||
		uint64(r.raft.lastAppended) != m.GetCommit() || r.snapshot().desc == nil {
		return
	}
	r.fallQuiet(from, incarnation)
}

// fallQuiet stops the replica's clock. voucher is the leader's store, 0 on that store itself.
func (r *Replica) fallQuiet(voucher ids.StoreID, incarnation uint64) {
	r.raft.restTicks = 0
	r.raft.quiet = true
	r.resting.Lock()
	r.resting.quiet, r.resting.voucher, r.resting.incarnation = true, voucher, incarnation
	r.resting.Unlock()
	r.store.metrics.fellQuiet()
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

// lookAfterTicks is how often a quiet follower asks what has become of it, once in about ten minutes: its range may have a new
// leader, or may have removed it, and everybody who could have said so may have been cut off from it at the time. A leader
// that has it in its range wakes and says that it leads.
const lookAfterTicks = 6000

// maxWakes bounds the replicas that one tick wakes because a store is lost: their elections come one after another.
const maxWakes = 64

// rest looks after quiet replicas, once a tick: it says which of the replicas tick, wakes those whose leader's store is
// silent, and now and then vouches for those that lead.
func (s *Store) rest(all []*Replica) (awake []*Replica) {
	now := s.opts.Monotonic()
	if now-s.ticked > 3*s.opts.TickInterval {
		s.resumed.Store(int64(now))
	}
	s.ticked = now
	vouch := s.ticks%s.opts.HeartbeatTicks == 0
	followers := make(map[ids.StoreID]bool)
	woken := 0
	for _, r := range all {
		r.resting.Lock()
		quiet, voucher, incarnation := r.resting.quiet, r.resting.voucher, r.resting.incarnation
		r.resting.Unlock()
		switch {
		case !quiet:
			awake = append(awake, r)
		case voucher == 0 && vouch:
			for _, rep := range r.snapshot().desc.Replicas {
				followers[rep.Store] = true
			}
		case voucher != 0 && (s.ticks+int(r.id)*97)%lookAfterTicks == 0:
			if st := r.snapshot(); st.desc != nil {
				r.ask(&st)
			}
		case voucher != 0 && woken < maxWakes && !s.lives.vouches(voucher, incarnation, now-s.opts.electionTimeout()):
			woken++
			r.post(raftInput{run: func() { r.voucherLost(voucher) }})
		}
	}
	delete(followers, s.opts.StoreID)
	for _, to := range sortedStores(followers) {
		s.opts.Transport.Send(to, []*locuspb.RaftEnvelope{{
			FromStore: uint64(s.opts.StoreID), ToStore: uint64(to), Incarnation: s.incarnation,
		}})
	}
	return awake
}
