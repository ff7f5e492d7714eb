package raftstore

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// A leaseholder may answer reads without asking its followers for as long as none of them can elect another leader
// (rule D3, Invariant: I8). Two sides keep that promise, each by its own monotonic clock:
//
//   - A follower drops votes and pre-votes, and does not campaign, until one election timeout has passed since it last
//     handled a message of its leader, or since its store started, for what it promised before that it can't know.
//   - The leader counts its lease from the moment before it asked the question that a quorum has answered, and makes it
//     shorter than the followers' timeout by as much as clock rates may differ.
//
// A transfer of the lead is the exception that followers make, so from the first one on there is no lease for the
// rest of the term: its message may arrive at any time.

// ReadMode says how a leaseholder makes sure that it still is one when it answers a read.
type ReadMode uint8

const (
	// ReadLease answers from a lease while there is one, and asks a quorum otherwise. It assumes that monotonic clocks
	// run at the same rate within Options.MaxClockDrift, and that no machine's stands still while others' run.
	ReadLease ReadMode = iota
	// ReadIndex asks a quorum for every read, or for many at once. It assumes nothing about clocks.
	ReadIndex
)

func (m ReadMode) String() string {
	if m == ReadIndex {
		return "index"
	}
	return "lease"
}

// electionTimeout is how long followers keep to a leader that they have heard.
func (o *Options) electionTimeout() time.Duration {
	return time.Duration(o.ElectionTicks) * o.TickInterval
}

// leaseLength is how long a lease lasts, by the leader's clock, from before its question.
func (o *Options) leaseLength() time.Duration {
	return time.Duration(float64(o.electionTimeout())*(1-o.MaxClockDrift)) - o.LeaseMargin
}

// leased says whether the range is this replica's to read without asking anybody.
func (s *replicaState) leased(now time.Duration) bool {
	return s.leaseholder && !s.frozen && !s.ingesting && !s.gone && !s.leaseVoid && now < s.leaseUntil
}

// underLease says whether a linearizable read by somebody who has seen token may go on without a round, once index is
// applied. Whoever saw a write that is committed and not applied here (on a follower, for example) waits for it.
func (r *Replica) underLease(token hlc.Timestamp) (index ids.Index, ok bool) {
	if r.store.opts.Reads != ReadLease {
		return 0, false
	}
	now := r.store.opts.Monotonic()
	r.mu.RLock()
	s := &r.mu.state
	if ok = s.leased(now); ok && token > s.applied.TS && s.committed > s.applied.Index {
		index = s.committed
	}
	r.mu.RUnlock()
	if ok {
		r.leaseUsed()
	}
	return index, ok
}

// leaseUsed notes that the lease is worth renewing.
func (r *Replica) leaseUsed() {
	if !r.leaseWanted.Load() {
		r.leaseWanted.Store(true)
	}
	r.store.metrics.leaseRead()
}

// grantLease follows the answer of a quorum to a question that was asked at the time asked or later.
func (r *Replica) grantLease(asked time.Duration) {
	if r.store.opts.Reads != ReadLease {
		return
	}
	until := asked + r.store.opts.leaseLength()
	r.update(func(s *replicaState) {
		if s.leaseholder && !s.leaseVoid {
			s.leaseUntil = max(s.leaseUntil, until)
		}
	})
}

// renewLease asks again, nobody waiting, when readers use a lease of which half is gone.
func (r *Replica) renewLease() {
	if r.store.opts.Reads != ReadLease || !r.leaseWanted.Load() {
		return
	}
	s := r.snapshot()
	if s.leaseholder && !s.leaseVoid && s.leaseUntil-r.store.opts.Monotonic() < r.store.opts.leaseLength()/2 {
		r.leaseWanted.Store(false)
		r.raft.reads.begin(r)
	}
}

// heard follows a message that Raft has handled: the leader's renew what this replica promises it.
func (r *Replica) heard(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
	default:
		return
	}
	if st := r.raft.node.BasicStatus(); st.GetTerm() == m.GetTerm() && st.Lead == m.GetFrom() {
		r.raft.heardAt = r.store.opts.Monotonic()
		r.raft.unheard = 0
	}
}

// bound says whether this replica must help nobody, itself included, to depose a leader.
func (r *Replica) bound() bool {
	return r.store.opts.Monotonic() < r.raft.heardAt+r.store.opts.electionTimeout()
}

// asksForVote says whether a message asks for a vote that a bound replica does not give.
func asksForVote(m *raftpb.Message) bool {
	t := m.GetType()
	return (t == raftpb.MsgVote || t == raftpb.MsgPreVote) && string(m.GetContext()) != campaignTransfer
}

// campaignTransfer is the context of votes in a transfer of the lead; the library does not export it.
const campaignTransfer = "CampaignTransfer"

// mayTick says whether Raft's clock may go on. A follower's may not where it could end in a campaign and the replica is
// fenced, or still bound: ticks can come faster than time passes, when many have waited in a queue.
func (r *Replica) mayTick() bool {
	r.raft.unheard++
	return r.raft.unheard < r.store.opts.ElectionTicks || r.raft.node.BasicStatus().RaftState == raft.StateLeader || !(r.bound() || r.fenced(r.snapshot().desc))
}
