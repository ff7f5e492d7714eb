package raftstore

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// A replica that its range has removed is needed as long as the others may not know of it. Raft works with the configuration
// that a replica has applied, and what it applies is what it knows to be committed, which a crash may make it forget.
//
// Breaks without it: a range goes from {a, b, c} to {b, c, d}, and c's disk is lost. a leads, commits the leave of the joint
// configuration with b and d, applies it, and destroys itself. b and d have the entry and were not told that it is
// committed: each needs two of {a, b, c} to lead, and there is one. The range is lost with one disk.
//
// So a replica that has applied its own removal is *retired*: it goes on to append and to vote, serves nobody, and asks the
// others, now and then, whether it may go. They let it once the removal is *settled*: they have applied an entry that was
// evaluated after its leaseholder had applied the removal. A majority of those that are left has that entry in its log, and
// in the same frame a commit index that covers the removal (rule E3), so none of them forgets it.

// replicaChange keeps what is known of the last change of a range's replicas.
type replicaChange struct {
	// settled: no replica outside the descriptor is needed any more.
	settled bool
	// settling: an entry that settles it is under way.
	settling bool
}

// changeBehind is what an applied state alone tells: a replica change closes less than its own timestamp, so where the last
// accepted entry has closed its own, that was no replica change. Elsewhere closeQuiet makes such an entry, once.
func changeBehind(st appliedState) replicaChange { return replicaChange{settled: st.Closed >= st.TS} }

// applied follows an accepted entry, with the descriptor if it changed. Descriptor changes go alone (rule A2): whatever
// comes after one was evaluated when it was applied.
func (c *replicaChange) applied(kind entryKind) { c.settled = kind != entryReplicas }

// retired says whether the range has removed this replica, as it knows itself.
func (r *Replica) retired(d *topology.Descriptor) bool {
	if d == nil {
		return false
	}
	_, ok := d.Replica(r.self)
	return !ok
}

// askTicks is how often a retired replica asks whether it may go.
const askTicks = 5

// ask asks the others what has become of this replica.
func (r *Replica) ask(s *replicaState) {
	for _, rep := range s.desc.Replicas {
		if rep.ID == r.self {
			continue
		}
		r.store.opts.Transport.Send(rep.Store, []*locuspb.RaftEnvelope{{
			RangeId: uint64(r.id), FromReplica: uint64(r.self), ToReplica: uint64(rep.ID),
			FromStore: uint64(r.store.opts.StoreID), ToStore: uint64(rep.Store), ConfEpoch: s.desc.Epoch.Conf, Asks: true,
		}})
	}
}

// askToGo lets a retired replica ask, once in a few ticks.
func (r *Replica) askToGo() {
	s := r.snapshot()
	if !r.retired(s.desc) {
		return
	}
	if r.raft.asked++; r.raft.asked%askTicks == 1 {
		r.ask(&s)
	}
}

// asked answers a replica that wants to know what has become of it. One that is of the range hears from its leader, even
// if that has fallen silent.
func (s *Store) asked(env *locuspb.RaftEnvelope) {
	r := s.replica(ids.RangeID(env.RangeId))
	if r == nil || uint64(r.self) != env.ToReplica || env.ToStore != uint64(s.opts.StoreID) {
		return
	}
	s.checkSender(r, env)
	st := r.snapshot()
	if st.desc == nil || !st.isLeader {
		return
	}
	if _, ok := st.desc.Replica(ids.ReplicaID(env.FromReplica)); ok {
		r.post(raftInput{run: func() { r.hushAgain(ids.ReplicaID(env.FromReplica)) }})
	}
}

// checkSender tells a replica that was removed that it is gone: the descriptor here, applied from the log, does not have it,
// and ids are never used twice (Invariant: I11). If it may still be needed, a leaseholder sees to it that it is not for long.
func (s *Store) checkSender(r *Replica, env *locuspb.RaftEnvelope) {
	st := r.snapshot()
	from := ids.ReplicaID(env.FromReplica)
	if st.desc == nil || env.ConfEpoch > st.desc.Epoch.Conf || r.retired(st.desc) {
		return
	}
	if _, ok := st.desc.Replica(from); ok || from >= st.desc.NextReplica {
		return
	}
	if !st.change.settled {
		r.settle(func() { s.checkSender(r, env) })
		return
	}
	s.opts.Transport.Send(ids.StoreID(env.FromStore), []*locuspb.RaftEnvelope{{
		RangeId: env.RangeId, FromReplica: uint64(r.self), ToReplica: env.FromReplica,
		FromStore: uint64(s.opts.StoreID), ToStore: env.FromStore, Gone: true, ConfEpoch: st.desc.Epoch.Conf,
	}})
}

// settle has a leaseholder propose an entry behind the last change of its replicas, unless it has done so already, and calls
// then once it is applied.
func (r *Replica) settle(then func()) {
	begin := false
	r.update(func(s *replicaState) {
		begin = s.leaseholder && !s.change.settled && !s.change.settling
		s.change.settling = s.change.settling || begin
	})
	if !begin {
		return
	}
	r.seq.submit(&command{closeNow: true, done: func(*locuspb.Response) {
		settled := false
		r.update(func(s *replicaState) { s.change.settling, settled = false, s.change.settled })
		if settled {
			then()
		}
	}})
}

// heardGone ends a replica that its range has removed, and needs no more.
func (s *Store) heardGone(env *locuspb.RaftEnvelope) {
	r := s.replica(ids.RangeID(env.RangeId))
	if r == nil || uint64(r.self) != env.ToReplica || env.ToStore != uint64(s.opts.StoreID) {
		return
	}
	if st := r.snapshot(); st.desc != nil && !r.retired(st.desc) && st.desc.Epoch.Conf >= env.ConfEpoch {
		return
	}
	s.RemoveReplica(r.id, r.self+1)
}
