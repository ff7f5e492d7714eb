package storesim

import (
	"bytes"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// drive is the placement of the simulation: it gives every range its replicas, and now and then splits, moves or
// transfers one.
func (r *run) drive() {
	w := r.c.W
	w.After(w.Between(50*time.Millisecond, 150*time.Millisecond), "driver", func() {
		var ranges []raftstore.RangeInfo
		for _, n := range r.c.Nodes {
			if !n.Up() || n.life.Paused() {
				continue
			}
			ranges = n.Store.AppendRanges(ranges[:0])
			for i := range ranges {
				if ranges[i].Leaseholder {
					if op := r.operator(n, ranges[i].Descriptor); op != nil {
						n.Store.RunOperator(op, func(error) {})
					}
				}
			}
		}
		r.drive()
	})
}

// maxRanges bounds the splits of a run.
const maxRanges = 11

func (r *run) operator(n *Node, d *topology.Descriptor) *locuspb.Operator {
	w := r.c.W
	op := &locuspb.Operator{RangeId: uint64(d.ID), ConfEpoch: d.Epoch.Conf, BoundsEpoch: d.Epoch.Bounds}
	info, _ := n.Store.Range(d.ID)
	if d.Joint() {
		return nil
	}
	want, lost := r.voters, r.lost(d)
	var promote, remove []uint64
	for _, rep := range d.Replicas {
		if rep.Role == topology.Learner {
			for _, p := range info.Progress {
				if p.Replica == rep.ID && p.Match+5 >= info.LastIndex && p.Match > 0 {
					promote = append(promote, uint64(rep.ID))
				}
			}
		}
	}
	voters := d.Voters()
	switch {
	case len(promote) > 0:
		if len(voters)+len(promote) > want {
			for _, v := range voters {
				if v.Store != n.ID && (v.ID == lost || lost == 0 && len(remove) == 0) {
					remove = append(remove, uint64(v.ID))
				}
			}
		}
		op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: promote, Remove: remove}}
		r.c.Stats.ReplicaChanges++
	case len(d.Replicas) < want, len(d.Replicas) == want && lost != 0,
		r.chaos && len(r.c.Nodes) > want && len(d.Replicas) == want && w.Chance(0.02):
		free := r.freeStore(d)
		if free == 0 {
			return nil
		}
		op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: uint64(free)}}
		r.c.Stats.ReplicaChanges++
	case len(voters) == want && len(d.Replicas) > want && w.Chance(0.02), len(voters) > want:
		// a learner that never caught up, or a voter too many
		last := d.Replicas[len(d.Replicas)-1]
		if last.Store == n.ID {
			return nil
		}
		op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(last.ID)}}
		r.c.Stats.ReplicaChanges++
	case r.chaos && w.Chance(0.01):
		op.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(voters[w.Rand.IntN(len(voters))].Store)}}
		r.c.Stats.Transfers++
	case r.chaos && lost == 0 && d.ID != ids.SystemRange && len(r.c.Descriptors()) < maxRanges && w.Chance(0.004):
		// Seldom, so that there are ranges to split for as long as clients write to them.
		points := r.clients[0].allKeys()
		key := points[w.Rand.IntN(len(points))]
		if !d.Span.Contains(key) || bytes.Equal(key, d.Span.Start) {
			return nil
		}
		op.Step = &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: key, NewRangeId: r.c.nextRange}}
		r.c.nextRange++
		for _, cl := range r.clients { // commands meet the split in the queue, in flight and behind it
			cl.rush()
		}
	default:
		return nil
	}
	return op
}

func (r *run) freeStore(d *topology.Descriptor) ids.StoreID {
	var free []ids.StoreID
	for _, n := range r.c.Nodes {
		if _, ok := d.On(n.ID); !ok && n.Up() {
			free = append(free, n.ID)
		}
	}
	if len(free) == 0 {
		return 0
	}
	return free[r.c.W.Rand.IntN(len(free))]
}
