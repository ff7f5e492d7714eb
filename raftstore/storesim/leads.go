package storesim

import (
	"fmt"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// everyoneLeads hands the lead of each range to each of its voters in turn. What a replica got wrong and kept to itself
// while it followed shows when it leads: its log, its sessions, its idea of who votes.
func (r *run) everyoneLeads() error {
	for _, d := range r.c.Descriptors() {
		for _, v := range d.Voters() {
			if err := r.leads(d, v.Store); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) leads(d *topology.Descriptor, store ids.StoreID) error {
	c, w := r.c, r.c.W
	target := c.node(store)
	leading := func() bool {
		if !target.Up() {
			return false
		}
		i, ok := target.Store.Range(d.ID)
		return ok && i.Leaseholder && len(i.Progress) > 0
	}
	for range 30 {
		if leading() || c.Violation != nil {
			break
		}
		for _, n := range c.Nodes {
			if !n.Up() {
				continue
			}
			if i, ok := n.Store.Range(d.ID); ok && i.Leaseholder && n.ID != store {
				n.Store.RunOperator(&locuspb.Operator{
					RangeId: uint64(d.ID), ConfEpoch: i.Descriptor.Epoch.Conf, BoundsEpoch: i.Descriptor.Epoch.Bounds,
					Step: &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(store)}},
				}, func(error) {})
			}
		}
		w.RunUntil(w.Now()+2*time.Second, func() bool { return leading() || c.Violation != nil })
	}
	if c.Violation != nil {
		return c.Violation
	}
	if !leading() {
		return fmt.Errorf("store %s can't be made the leaseholder of range %s: %s", store, d.ID, r.describe())
	}
	// Progress is of the last tick, and a transfer that was asked for twice may still be under way.
	w.RunUntil(w.Now()+10*time.Second, func() bool { return c.Violation != nil || agrees(target, d.ID) })
	if c.Violation != nil || agrees(target, d.ID) {
		return c.Violation
	}
	i, _ := target.Store.Range(d.ID)
	return fmt.Errorf("store %s leads range %s with %v; the descriptor is %s", store, d.ID, i.Progress, i.Descriptor)
}

// agrees says whether a leaseholder's Raft configuration is its descriptor's.
func agrees(n *Node, id ids.RangeID) bool {
	i, ok := n.Store.Range(id)
	if !ok || !i.Leaseholder || len(i.Progress) != len(i.Descriptor.Replicas) {
		return false
	}
	for _, p := range i.Progress {
		rep, ok := i.Descriptor.Replica(p.Replica)
		if !ok || p.Learner != (rep.Role == topology.Learner) {
			return false
		}
	}
	return true
}
