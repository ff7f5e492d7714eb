package raftstore

import (
	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// A new group's log begins after this position, on every replica alike.
const (
	initialIndex ids.Index = 10
	initialTerm  ids.Term  = 5
)

// childRange is the right part of a split while it comes into being.
type childRange struct {
	desc        *topology.Descriptor
	parentIndex ids.Index // of the split entry
	state       appliedState
	history     *history
	seq         ids.Seq
	self        ids.ReplicaID
	// removed: this store's replica of the child was removed before the split was applied here; what would
	// be its data is wiped instead.
	removed   bool
	tombstone ids.ReplicaID
}

// splitDescriptors divides a descriptor at key. The child gets fresh replica ids on the same stores.
func splitDescriptors(key []byte, child ids.RangeID) func(*topology.Descriptor) (left, right *topology.Descriptor, err error) {
	return func(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
		switch {
		case d.Joint():
			return nil, nil, &api.RetryError{Reason: "a replica change is under way"}
		case !d.Span.Contains(key) || string(key) == string(d.Span.Start):
			return nil, nil, &api.InvalidArgumentError{Reason: "a range is split at a key inside it, not at its start"}
		case child == 0 || child == d.ID:
			return nil, nil, &api.InvalidArgumentError{Reason: "a split needs a fresh range id"}
		case d.ID == ids.SystemRange:
			return nil, nil, &api.InvalidArgumentError{Reason: "the system range is not split"}
		}
		left, right := d.Clone(), d.Clone()
		left.Span.End = key
		left.Epoch.Bounds++
		right.ID = child
		right.Span.Start = key
		right.Epoch = topology.Epoch{Conf: 1, Bounds: left.Epoch.Bounds}
		for i := range right.Replicas {
			right.Replicas[i].ID = ids.ReplicaID(i + 1)
		}
		right.NextReplica = ids.ReplicaID(len(right.Replicas) + 1)
		return left, right, nil
	}
}

// planChild adds to the split's transaction what the child begins with: its descriptor, its applied state
// (which closes the split's timestamp: rule C1), the parent's sessions (rule B5) and the parent's history
// (rule C6). The data stays where it is.
func (a *applier) planChild(o *outcome) ([]engine.Op, error) {
	c, parent := o.child, o.r
	c.seq = o.seq
	rep, ok := c.desc.On(a.s.opts.StoreID)
	c.self = rep.ID
	if next, dead := a.s.tombstone(c.desc.ID); !ok || (dead && rep.ID < next) {
		c.removed, c.tombstone = true, max(next, c.desc.NextReplica)
		return nil, nil
	}
	// The count of accepted entries goes on from the parent's: it names session records, and the child's first
	// must not take the place of an inherited one.
	from := &o.applied
	c.state = appliedState{
		Index: initialIndex, Term: initialTerm, Count: from.Count, TS: o.entry.TS, Closed: o.entry.TS,
		Bytes: from.Bytes / 2, Records: from.Records / 2,
	}
	c.history = parent.history.child(parent.id, c.desc.ID, o.seq)
	sessions, err := splitSessions(a.s.engine, parent.id, o.seq-1, from.Count-1)
	if err != nil {
		return nil, err
	}
	ops := make([]engine.Op, 0, len(sessions)+3)
	for _, w := range sessions {
		ops = append(ops, engine.Op{Key: localKey(c.desc.ID, w.Suffix...), Value: w.Value})
	}
	return append(ops,
		engine.Op{Key: localKey(c.desc.ID, suffixApplied), Value: c.state.encode()},
		engine.Op{Key: localKey(c.desc.ID, suffixDescriptor), Value: encodeDescriptor(c.desc)},
		engine.Op{Key: localKey(c.desc.ID, suffixLineage), Value: c.history.encode()},
	), nil
}

// openChild registers a split's child and starts its Raft group once the log holds it. REQUIRES: the parent still
// claims the child's span. From this step on it is the child's, so that at no moment it is nobody's: a message
// in between would make an empty replica of the child.
func (s *Store) openChild(parent *Replica, c *childRange) {
	s.metrics.split()
	if c.removed {
		s.wipeOrphan(c.desc.ID, c.tombstone, c.desc.Span)
		s.addChild(c.desc.ID, nil)
		return
	}
	r := newReplica(s, c.desc.ID, c.self)
	r.apply.state, r.apply.desc, r.history = c.state, c.desc, c.history
	from := parent.snapshot()
	r.mu.state.desc, r.mu.state.applied, r.mu.state.visible = c.desc, c.state, c.seq
	r.mu.state.gen = from.gen // the data stays where it is
	r.mu.state.change.settled = true
	lead := from.isLeader
	s.addChild(c.desc.ID, r)
	s.yield()
	meta := groupMeta{Replica: c.self, ParentRange: parent.id, ParentIndex: c.parentIndex}
	s.logWriter.append(&appendTask{
		extra: raftlog.Batch{Groups: []raftlog.Write{{Group: r.id, Create: &raftlog.Create{
			Position: raftlog.Position{Index: initialIndex, Term: initialTerm}, Meta: meta.encode(),
		}}}},
		durable: func() { r.start(lead) },
	})
}

// addChild puts a split's child in the place where the log's memory of it stood, in one step. r is nil if it
// was removed already.
func (s *Store) addChild(id ids.RangeID, r *Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != nil {
		s.placeLocked(id, r)
	}
	delete(s.mu.dormant, id)
}

// span is a replica's claim on the key space; false if it has none.
func (s *replicaState) span() (keys.Span, bool) {
	if s.desc != nil {
		return s.desc.Span, true
	}
	return s.reserved, s.reserved.Start != nil || s.reserved.End != nil
}
