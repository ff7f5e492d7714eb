package storesim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

// retention is the window of all stores: short, so that runs outlast it.
const retention = 20 * time.Second

// maxHeld is how many timestamps are held at a time.
const maxHeld = 3

// holds is the placement driver's list of timestamps that are held beyond the retention window, and which stores have
// confirmed them. They have no deadlines, so that wrong clocks excuse nothing: a hold ends when it is taken off the list.
type holds struct {
	confirmed map[hlc.Timestamp]map[ids.StoreID]bool
}

// hold takes timestamps on the list and off it, and tells all stores.
func (r *run) hold() {
	w, c := r.c.W, r.c
	w.After(w.Between(500*time.Millisecond, 4*time.Second), "holds", func() {
		held := slices.Sorted(maps.Keys(c.holds.confirmed))
		switch {
		case !r.chaos: // a held timestamp may keep the last replica that can show it, and the cluster is to come to rest
			clear(c.holds.confirmed)
		case len(held) > 0 && w.Chance(0.04):
			delete(c.holds.confirmed, held[w.Rand.IntN(len(held))])
		case len(c.past) > 0 && len(held) < maxHeld && w.Chance(0.3):
			if t := c.past[w.Rand.IntN(len(c.past))]; c.holds.confirmed[t] == nil {
				c.holds.confirmed[t] = make(map[ids.StoreID]bool)
			}
		}
		for _, n := range c.Nodes {
			if n.Up() && !n.life.Paused() {
				n.tellHolds()
			}
		}
		r.hold()
	})
}

// tellHolds tells a store of the holds, and demands that it vouches for every one that it has confirmed before, whatever
// became of its process meanwhile (rule C9).
func (n *Node) tellHolds() {
	var list []raftstore.Hold
	for _, t := range slices.Sorted(maps.Keys(n.c.holds.confirmed)) {
		list = append(list, raftstore.Hold{Timestamp: t, Deadline: hlc.Max})
	}
	from := n.Store.Retain(list)
	for _, h := range list {
		by := n.c.holds.confirmed[h.Timestamp]
		switch {
		case from <= h.Timestamp && by[n.ID]:
			if epoch.Add(n.c.W.Now()).Sub(h.Timestamp.Time()) > retention {
				n.c.Stats.HeldBeyond++
			}
		case from <= h.Timestamp:
			by[n.ID] = true
		case by[n.ID]:
			n.c.violate(fmt.Errorf("store %s confirmed the hold of %s and vouches only from %s on", n.ID, h.Timestamp, from))
		}
	}
}
