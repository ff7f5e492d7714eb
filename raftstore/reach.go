package raftstore

import (
	"fmt"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// A replica that came by a snapshot can't be read below the snapshot's timestamp. So a range whose replicas are moved one
// after another would lose its past within the retention window, and with it every function that runs at an earlier
// timestamp. Followers tell their leader, with their answers to its heartbeats, how far back they can be read, and the
// leaseholder refuses to remove the last replica that can be read as far back as any can (rule C9).
//
// A timestamp that is held (retain.go) counts as within the window, and so does all that is younger.
//
// A replica that is not heard is removed whatever it could show: it shows it to nobody, and repair must not wait.

// oldestHere is the oldest timestamp at which this replica can be read; 0: not known, or about to change.
func (r *Replica) oldestHere() hlc.Timestamp {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s := &r.mu.state; s.desc == nil || s.ingesting || r.history == nil {
		return 0
	}
	return max(r.history.oldest(), 1)
}

// noteOldest remembers what a follower told its leader. It never falls for one replica, so messages may overtake each other.
func (st *replicaState) noteOldest(env *locuspb.RaftEnvelope) {
	from, oldest := ids.ReplicaID(env.FromReplica), hlc.Timestamp(env.Oldest)
	if !st.isLeader || st.desc == nil || st.oldest[from] >= oldest {
		return
	}
	if _, ok := st.desc.Replica(from); !ok {
		return
	}
	told := make(map[ids.ReplicaID]hlc.Timestamp, len(st.desc.Replicas)) // a new one: copies of the state share the old
	for id, ts := range st.oldest {
		if _, ok := st.desc.Replica(id); ok {
			told[id] = ts
		}
	}
	told[from] = oldest
	st.oldest = told
}

// heard says whether the leader has heard a replica within an election timeout, and that it isn't waiting for a snapshot.
// Who has just begun to lead has heard nobody and missed nobody: known is false.
func (st *replicaState) heard(id ids.ReplicaID) (active, restoring, known bool) {
	for _, p := range st.progress {
		if p.Replica == id {
			return p.Active, p.Snapshotting, true
		}
	}
	return false, false, false
}

// keepingHistory refuses changes after which no replica could be read as far back, within the retention window, as one that
// is removed. REQUIRES: it builds on the leaseholder.
func (r *Replica) keepingHistory(build buildFunc) buildFunc {
	return func(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
		left, right, err := build(d)
		if err == nil && right == nil {
			err = r.checkHistory(d, left)
		}
		if err != nil {
			return nil, nil, err
		}
		return left, right, nil
	}
}

func (r *Replica) checkHistory(from, to *topology.Descriptor) error {
	s, own := r.snapshot(), r.oldestHere()
	start := r.store.oldestWanted()
	kept, lost, victim := hlc.Max, hlc.Max, topology.Replica{}
	for _, rep := range from.Replicas {
		oldest := s.oldest[rep.ID]
		if rep.ID == r.self {
			oldest = own
		}
		active, restoring, known := s.heard(rep.ID)
		if next, stays := to.Replica(rep.ID); stays && next.Role != topology.VoterOutgoing {
			if oldest != 0 && (rep.ID == r.self || active && !restoring) {
				kept = min(kept, max(oldest, start))
			}
			continue
		}
		if reach := max(oldest, start); (active || !known) && reach < lost {
			lost, victim = reach, rep
		}
	}
	if kept <= lost {
		return nil
	}
	return &api.RetryError{Reason: fmt.Sprintf("no other replica of range %s is known to be readable as far back as replica %s on store %s, at %s",
		r.id, victim.ID, victim.Store, lost)}
}
