package storesim

import (
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// part makes the end of a replica change as dangerous as one lost disk can make it: while a joint configuration is on, its
// leader is heard only by those whom the change removes, and then its disk is lost. So they may know that they are removed
// while nobody else does, and nobody who does lives on; where there were three voters, the one that is left can be elected
// only with a removed one's vote (retire.go).
func (r *run) part(d *topology.Descriptor, leader ids.StoreID) {
	c, w := r.c, r.c.W
	n := c.node(leader)
	if !r.chaos || n == nil || !w.Chance(0.2) {
		return
	}
	// The entry that leaves the joint configuration is on its way to a quorum, which takes two messages.
	w.After(w.Between(0, 4*c.Faults.Delay), "only the removed hear", func() {
		for _, rep := range d.Replicas {
			if rep.Role != topology.VoterOutgoing {
				c.Cut(leader, rep.Store)
			}
		}
		w.After(w.Between(0, 10*c.Faults.Delay), "and the leader is lost", func() {
			if r.chaos && n.Up() && c.whole() {
				r.rot(n, true)
			}
			c.Heal()
		})
	})
}
