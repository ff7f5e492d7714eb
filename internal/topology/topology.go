package topology

import (
	"fmt"
	"slices"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Role is a replica's part in its Raft group.
type Role uint8

const (
	// Voter votes and counts for commit.
	Voter Role = 1
	// Learner receives the log and neither votes nor counts.
	Learner Role = 2
	// VoterIncoming votes in the incoming half of a joint configuration only.
	VoterIncoming Role = 3
	// VoterOutgoing votes in the outgoing half only; it is removed when the joint configuration is left.
	VoterOutgoing Role = 4
)

// Valid says whether r is one of the roles above.
func (r Role) Valid() bool { return r >= Voter && r <= VoterOutgoing }

func (r Role) String() string {
	switch r {
	case Voter:
		return "voter"
	case Learner:
		return "learner"
	case VoterIncoming:
		return "voter-incoming"
	case VoterOutgoing:
		return "voter-outgoing"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// Replica is one copy of a range.
type Replica struct {
	Store ids.StoreID
	ID    ids.ReplicaID
	Role  Role
}

// Epoch orders descriptors of one range: Conf rises with each replica change, Bounds with each split or
// merge.
type Epoch struct {
	Conf, Bounds uint64
}

// Newer says whether e is ahead of o in at least one counter and behind in none. Of two epochs of one range
// that differ, one is always newer, because both counters rise along one log.
func (e Epoch) Newer(o Epoch) bool {
	return e.Conf >= o.Conf && e.Bounds >= o.Bounds && e != o
}

func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Conf, e.Bounds) }

// Descriptor is what everybody must agree on about a range. It is immutable once published: change a
// Clone.
type Descriptor struct {
	ID       ids.RangeID
	Span     keys.Span
	Epoch    Epoch
	Replicas []Replica
	// NextReplica is the id that the next added replica gets (Invariant: I11).
	NextReplica ids.ReplicaID
}

// Clone copies the descriptor deeply.
func (d *Descriptor) Clone() *Descriptor {
	c := *d
	c.Span = d.Span.Clone()
	c.Replicas = slices.Clone(d.Replicas)
	return &c
}

// On finds the replica on a store.
func (d *Descriptor) On(s ids.StoreID) (Replica, bool) {
	for _, r := range d.Replicas {
		if r.Store == s {
			return r, true
		}
	}
	return Replica{}, false
}

// Replica finds a replica by id.
func (d *Descriptor) Replica(id ids.ReplicaID) (Replica, bool) {
	for _, r := range d.Replicas {
		if r.ID == id {
			return r, true
		}
	}
	return Replica{}, false
}

// Joint says whether a joint configuration is in force.
func (d *Descriptor) Joint() bool {
	return slices.ContainsFunc(d.Replicas, func(r Replica) bool {
		return r.Role == VoterIncoming || r.Role == VoterOutgoing
	})
}

// Voters lists the replicas that vote once no joint configuration is in force.
func (d *Descriptor) Voters() []Replica { return d.with(Voter, VoterIncoming) }

// Learners lists the replicas that do not vote.
func (d *Descriptor) Learners() []Replica { return d.with(Learner) }

func (d *Descriptor) with(roles ...Role) []Replica {
	var out []Replica
	for _, r := range d.Replicas {
		if slices.Contains(roles, r.Role) {
			out = append(out, r)
		}
	}
	return out
}

// Quorum says whether the replicas for which has returns true can commit an entry: a majority of the
// voters, and in a joint configuration a majority of either set of voters.
func (d *Descriptor) Quorum(has func(Replica) bool) bool {
	majority := func(voters []Replica) bool {
		n := 0
		for _, r := range voters {
			if has(r) {
				n++
			}
		}
		return n > len(voters)/2
	}
	return majority(d.Voters()) && majority(d.with(Voter, VoterOutgoing))
}

func (d *Descriptor) String() string {
	return fmt.Sprintf("%s%s@%s%v", d.ID, d.Span, d.Epoch, d.Replicas)
}
