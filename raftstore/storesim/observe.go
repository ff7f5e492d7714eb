package storesim

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// watch checks after each step what must hold at every moment: one leader a term (I1), what equal applied indices are
// (I2), that the newest descriptors tile the key space (I3), that positions never go back in a life and promises never
// (I4, I5), and replica ids (I11).
type watch struct {
	c       *Cluster
	leaders map[leaderKey]ids.StoreID
	lives   map[ids.RangeID]map[ids.ReplicaID]*replicaLife
	newest  map[ids.RangeID]*topology.Descriptor
	sorted  []*topology.Descriptor // newest, by start key; nil when it changed
	changed bool                   // and whether that was looked at
	applied map[ids.RangeID]map[ids.Index]appliedAt
	seen    map[ids.StoreID]map[ids.RangeID]*view
	ranges  []raftstore.RangeInfo // space that is used again
}

type leaderKey struct {
	id   ids.RangeID
	term ids.Term
}

// replicaLife is what descriptors have said of a replica so far.
type replicaLife struct {
	store ids.StoreID
	first uint64 // configuration epoch it was first seen at
	gone  uint64 // lowest one after that it was missing at; 0: none
}

// appliedAt is what every replica has said of itself at one index.
type appliedAt struct {
	store          ids.StoreID
	closed         hlc.Timestamp
	bytes, records uint64
	epoch          topology.Epoch
}

// view is what one store has last said of a range.
type view struct {
	life    *sim.Life
	replica ids.ReplicaID
	desc    *topology.Descriptor
	applied ids.Index
	leader  ids.StoreID
	term    ids.Term
}

func newWatch(c *Cluster) *watch {
	return &watch{
		c: c, leaders: make(map[leaderKey]ids.StoreID), lives: make(map[ids.RangeID]map[ids.ReplicaID]*replicaLife),
		newest: make(map[ids.RangeID]*topology.Descriptor), applied: make(map[ids.RangeID]map[ids.Index]appliedAt),
		seen: make(map[ids.StoreID]map[ids.RangeID]*view),
	}
}

// stepped looks at a store after one of its steps: where its counters say that it has applied or led something, and at
// every tick. (To look after every step would cost a quarter of a run, and see no more.)
func (x *watch) stepped(n *Node, kind string) {
	// In the middle of a split a child stands beside its parent for a moment, as the parent was.
	if n.Store == nil || n.life.Busy("apply") {
		return
	}
	changes := n.Store.Changes()
	if changes == n.changes && kind != "tick" {
		return
	}
	n.changes = changes
	x.ranges = n.Store.AppendRanges(x.ranges[:0])
	for i := range x.ranges {
		x.look(n, &x.ranges[i])
	}
	if x.changed {
		x.changed = false
		if err := topology.CheckTiling(keys.Span{}, x.descriptors()); err != nil {
			x.c.violate(fmt.Errorf("I3: %w", err))
		}
	}
}

func (x *watch) look(n *Node, r *raftstore.RangeInfo) {
	id := r.Descriptor.ID
	views := x.seen[n.ID]
	if views == nil {
		views = make(map[ids.RangeID]*view)
		x.seen[n.ID] = views
	}
	v := views[id]
	if v == nil || v.life != n.life || v.replica != r.Replica {
		v = &view{life: n.life, replica: r.Replica}
		views[id] = v
	}
	if r.Leader != 0 && (r.Leader != v.leader || r.Term != v.term) {
		v.leader, v.term = r.Leader, r.Term
		x.leads(n, r)
	}
	if r.Descriptor != v.desc {
		v.desc = r.Descriptor
		x.described(r.Descriptor, r.Leader)
	}
	if r.Applied != v.applied {
		if r.Applied < v.applied {
			x.c.violate(fmt.Errorf("store %s went from index %d of range %s back to %d", n.ID, v.applied, id, r.Applied))
		}
		v.applied = r.Applied
		x.appliedAt(n, r)
	}
}

// leads checks that whoever names a leader of a term names the same (I1).
func (x *watch) leads(n *Node, r *raftstore.RangeInfo) {
	k := leaderKey{r.Descriptor.ID, r.Term}
	if prev, ok := x.leaders[k]; ok && prev != r.Leader {
		x.c.violate(fmt.Errorf("I1: stores %s and %s both lead range %s in term %d, says store %s", prev, r.Leader, k.id, k.term, n.ID))
	}
	if _, known := x.leaders[k]; !known {
		x.leases(r)
	}
	x.leaders[k] = r.Leader
}

// leases checks that a new leader finds nobody with a lease on its range (I8).
func (x *watch) leases(r *raftstore.RangeInfo) {
	for _, o := range x.c.Nodes {
		if !o.Up() || o.ID == r.Leader {
			continue
		}
		if i, ok := o.Store.Range(r.Descriptor.ID); ok && i.Term < r.Term && i.LeaseUntil > o.clock.Monotonic() {
			x.c.violate(fmt.Errorf("I8: store %s was elected for range %s in term %d while store %s has a lease of term %d for %s more", r.Leader, r.Descriptor.ID, r.Term, o.ID, i.Term, i.LeaseUntil-o.clock.Monotonic()))
		}
	}
}

// appliedAt checks that replicas which have applied the same are the same, as far as is cheap to say (I2); the digests
// of all that they hold are compared now and then (Cluster.digests).
func (x *watch) appliedAt(n *Node, r *raftstore.RangeInfo) {
	id := r.Descriptor.ID
	m := x.applied[id]
	if m == nil {
		m = make(map[ids.Index]appliedAt)
		x.applied[id] = m
	}
	at := appliedAt{n.ID, r.Closed, r.Bytes, r.Records, r.Descriptor.Epoch}
	old, ok := m[r.Applied]
	if !ok {
		m[r.Applied] = at
		return
	}
	old.store = n.ID
	if old != at {
		x.c.violate(fmt.Errorf("I2: range %s at index %d is %+v on store %s and %+v on store %s", id, r.Applied, at, n.ID, old, m[r.Applied].store))
	}
}

// described takes a descriptor that a store has, and whom that takes for the leader.
func (x *watch) described(d *topology.Descriptor, leader ids.StoreID) {
	x.replicas(d)
	if old := x.newest[d.ID]; old != nil && !d.Epoch.Newer(old.Epoch) {
		return
	}
	x.newest[d.ID], x.sorted, x.changed = d, nil, true
	if x.c.joint != nil && d.Joint() {
		x.c.joint(d, leader)
	}
}

func (x *watch) descriptors() []*topology.Descriptor {
	if x.sorted == nil {
		for _, d := range x.newest {
			x.sorted = append(x.sorted, d)
		}
		slices.SortFunc(x.sorted, func(a, b *topology.Descriptor) int { return bytes.Compare(a.Span.Start, b.Span.Start) })
	}
	return x.sorted
}

// replicas checks that replica ids are never given twice (I11): a replica stays on its store, and one that a later
// configuration does not have is in none after that.
func (x *watch) replicas(d *topology.Descriptor) {
	lives := x.lives[d.ID]
	if lives == nil {
		lives = make(map[ids.ReplicaID]*replicaLife)
		x.lives[d.ID] = lives
	}
	for id, life := range lives {
		if d.Epoch.Conf <= life.first {
			continue
		}
		if _, ok := d.Replica(id); !ok && (life.gone == 0 || d.Epoch.Conf < life.gone) {
			life.gone = d.Epoch.Conf
		}
	}
	for _, r := range d.Replicas {
		life := lives[r.ID]
		switch {
		case life == nil:
			lives[r.ID] = &replicaLife{store: r.Store, first: d.Epoch.Conf}
		case life.store != r.Store:
			x.c.violate(fmt.Errorf("I11: replica %s of range %s is on stores %s and %s", r.ID, d.ID, life.store, r.Store))
		case life.gone != 0 && d.Epoch.Conf > life.gone:
			x.c.violate(fmt.Errorf("I11: replica %s of range %s was gone at epoch %d and is back at %d", r.ID, d.ID, life.gone, d.Epoch.Conf))
		default:
			life.first = min(life.first, d.Epoch.Conf)
		}
	}
}

// digests compares all that the replicas of one range hold, among those that have applied the same (I2).
func (c *Cluster) digests(d *topology.Descriptor) error {
	type digest struct {
		store ids.StoreID
		sum   []byte
	}
	at := make(map[ids.Index]digest)
	for _, rep := range d.Replicas {
		n := c.node(rep.Store)
		if !n.Up() {
			continue
		}
		info, ok := n.Store.Range(d.ID)
		if !ok {
			continue
		}
		sum, err := n.Store.Digest(d.ID)
		if err != nil {
			continue // being restored
		}
		if other, ok := at[info.Applied]; ok && !bytes.Equal(other.sum, sum) {
			return fmt.Errorf("I2: at index %d replicas of range %s on stores %s and %s differ", info.Applied, d.ID, other.store, rep.Store)
		}
		at[info.Applied] = digest{rep.Store, sum}
	}
	return nil
}
