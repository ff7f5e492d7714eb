package raftstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// While a lead is handed over nothing is proposed, and Raft gives up on a successor that does not answer only after an election
// timeout. Nor does Raft know sooner who is alive: it asks itself once in that time. So a lead is only handed to a replica
// whose store was heard within the last few heartbeats. (A node was killed, and within a second the balance of leases began to
// give it back what it had lost: ranges that it had never led took no write for a second.)

// heardHeartbeats is within how many heartbeats' time a successor must have been heard.
const heardHeartbeats = 3

// heardLately says whether a store is there as far as anybody knows.
func (r *Replica) heardLately(store ids.StoreID) bool {
	o := &r.store.opts
	return !r.store.lives.silent(store, o.Monotonic()-heardHeartbeats*time.Duration(o.HeartbeatTicks)*o.TickInterval)
}

// successor is who shall lead as soon as it is heard.
type successor struct {
	replica topology.Replica
	asked   time.Duration
	done    func(error) // nil: there is none
}

// give ends the wait.
func (s *successor) give(err error) {
	if done := s.done; done != nil {
		*s = successor{}
		done(err)
	}
}

// awaitSuccessor begins a transfer whose successor has been heard since it was asked for, once a tick.
func (r *Replica) awaitSuccessor() {
	s := &r.raft.successor
	switch now := r.store.opts.Monotonic(); {
	case s.done == nil:
	case !r.store.lives.silent(s.replica.Store, s.asked):
		r.transfer(s.replica.ID)
		s.give(nil)
	case now-s.asked >= r.store.opts.electionTimeout():
		s.give(&api.RetryError{Reason: "the replica is not heard"})
	}
}

// transferTo hands the lead to the replica on a store. done means that the transfer was begun.
func (r *Replica) transferTo(store ids.StoreID, done func(error)) {
	r.post(raftInput{run: func() {
		s := r.snapshot()
		switch {
		case r.raft.stopped || !s.leaseholder:
			done(r.notLeaseholder())
			return
		case store == r.store.opts.StoreID:
			done(nil)
			return
		}
		rep, ok := s.desc.On(store)
		if !ok || (rep.Role != topology.Voter && rep.Role != topology.VoterIncoming) {
			done(refuse("store %s has no voter of range %s", store, r.id))
			return
		}
		for _, p := range s.progress {
			if p.Replica != rep.ID {
				continue
			}
			if p.Snapshotting || !p.Active {
				done(&api.RetryError{Reason: "the replica is waiting for a snapshot, or is not heard"})
				return
			}
		}
		r.raft.successor.give(&api.RetryError{Reason: "another transfer was asked for"})
		if r.heardLately(store) {
			r.transfer(rep.ID)
			done(nil)
			return
		}
		r.wake() // it may be silent because all of its ranges are
		r.raft.successor = successor{replica: rep, asked: r.store.opts.Monotonic(), done: done}
	}})
}

// handOver transfers the lead to the replica that stays and has the longest log, or, if that did not take it, to the next.
func (r *Replica) handOver(s *replicaState) {
	if r.raft.node.BasicStatus().LeadTransferee != 0 {
		return
	}
	var to []ReplicaProgress
	for _, p := range s.progress {
		rep, _ := s.desc.Replica(p.Replica)
		if (rep.Role == topology.Voter || rep.Role == topology.VoterIncoming) && p.Active && !p.Snapshotting && p.Replica != r.self && r.heardLately(rep.Store) {
			to = append(to, p)
		}
	}
	if len(to) == 0 {
		return
	}
	slices.SortStableFunc(to, func(a, b ReplicaProgress) int { return cmp.Compare(b.Match, a.Match) })
	r.transfer(to[r.raft.handOvers%len(to)].Replica)
	r.raft.handOvers++
}

// transfer hands the lead to a replica.
func (r *Replica) transfer(to ids.ReplicaID) {
	r.wake()
	r.update(func(s *replicaState) { s.transferring, s.leaseVoid = true, true }) // before any message of it
	r.raft.node.TransferLeader(uint64(to))
}
