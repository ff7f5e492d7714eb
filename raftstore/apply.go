package raftstore

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/invariant"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
)

// applier is the one writer of the store's engine. It takes committed entries of all groups in the order in
// which they were handed over, gives each the next sequence, and commits them; what they did is published
// in a later step, when it is visible.
type applier struct {
	s     *Store
	queue Queue
	seq   ids.Seq // last committed

	mu struct {
		sync.Mutex
		pending   []applyItem
		scheduled bool
	}
	// ingest is the snapshot being ingested; others, and checkpoints, wait for it.
	ingest  *ingest
	waiting []func()
}

// applyItem is one entry to apply, or something else that touches the engine's state in turn.
type applyItem struct {
	r     *Replica
	entry *raftpb.Entry
	// responses go back to Raft when this entry, the last of its message, is applied.
	responses []*raftpb.Message
	run       func()
}

// outcome is what an applied entry changed, to be published.
type outcome struct {
	r         *Replica
	entry     *batchEntry // nil for an empty entry
	accepted  bool
	bytes     int
	deletes   int
	applied   appliedState
	seq       ids.Seq
	desc      *topology.Descriptor // when it changed
	child     *childRange          // of a split
	conf      *raftpb.ConfChangeV2
	responses []*raftpb.Message
}

func newApplier(s *Store, seq ids.Seq) *applier {
	return &applier{s: s, queue: s.exec.NewQueue(QueueApply), seq: seq}
}

// entries queues a storage message of committed entries.
func (a *applier) entries(r *Replica, m *raftpb.Message) {
	items := make([]applyItem, len(m.GetEntries()))
	for i, e := range m.GetEntries() {
		items[i] = applyItem{r: r, entry: e}
	}
	items[len(items)-1].responses = m.GetResponses()
	a.s.metrics.commit(len(items))
	a.push(items...)
}

// run queues f between entries.
func (a *applier) run(f func()) { a.push(applyItem{run: f}) }

func (a *applier) push(items ...applyItem) {
	a.mu.Lock()
	a.mu.pending = append(a.mu.pending, items...)
	a.scheduleLocked()
	a.mu.Unlock()
}

func (a *applier) scheduleLocked() {
	if !a.mu.scheduled && len(a.mu.pending) > 0 {
		a.mu.scheduled = true
		a.queue.Post(a.step)
	}
}

// take removes the items of one step: a run of ordinary entries, or one item of another kind.
func (a *applier) take() []applyItem {
	limits := &a.s.opts
	a.mu.Lock()
	defer a.mu.Unlock()
	n, size := 0, 0
	for n < len(a.mu.pending) && n < limits.MaxApplyEntries && size < int(limits.MaxApplyBytes) {
		it := &a.mu.pending[n]
		if it.run != nil || !ordinary(it.entry) {
			if n == 0 {
				n = 1
			}
			break
		}
		size += len(it.entry.GetData())
		n++
	}
	items := append([]applyItem(nil), a.mu.pending[:n]...)
	clear(a.mu.pending[:n])
	a.mu.pending = a.mu.pending[n:]
	return items
}

// ordinary entries write data and nothing else: they may share a step.
func ordinary(e *raftpb.Entry) bool {
	if e.GetType() != raftpb.EntryNormal {
		return false
	}
	d := e.GetData()
	return len(d) < 2 || entryKind(d[1]) == entryBatch
}

// step commits some entries to the engine.
func (a *applier) step() {
	if a.s.stopped() {
		return
	}
	items := a.take()
	if len(items) == 1 && items[0].run != nil {
		items[0].run()
		a.finish()
		return
	}
	var (
		batches  []engine.Batch
		outcomes []outcome
	)
	for i := range items {
		it := &items[i]
		if it.r.snapshot().gone {
			continue
		}
		o, ops, err := a.plan(it)
		if err != nil {
			a.s.fatal(err)
			return
		}
		a.seq++
		o.seq = a.seq
		if o.deletes > 0 {
			a.s.reclaim.deleted(o.deletes, o.seq, a.s.clock.Wall())
		}
		if o.child != nil {
			more, err := a.planChild(&o)
			if err != nil {
				a.s.fatal(err)
				return
			}
			ops = append(ops, more...)
		}
		batches = append(batches, engine.Batch{Seq: a.seq, Ops: ops})
		outcomes = append(outcomes, o)
	}
	if len(batches) > 0 {
		if err := a.s.commit(batches...); err != nil {
			a.s.fatal(err)
			return
		}
		a.s.yield()
		a.s.applyRows(outcomes) // before any of it is visible (rule D4)
	}
	a.queue.Post(func() {
		if a.s.stopped() {
			return
		}
		for i := range outcomes {
			a.publish(&outcomes[i])
		}
		a.finish()
	})
}

func (a *applier) finish() {
	a.mu.Lock()
	a.mu.scheduled = false
	a.scheduleLocked()
	a.mu.Unlock()
}

// plan judges an entry and says what it writes. Whether it is accepted depends on nothing but the entry and
// the range's applied state, so every replica decides alike (rule A1).
func (a *applier) plan(it *applyItem) (outcome, []engine.Op, error) {
	r, e := it.r, it.entry
	st := r.apply.state
	invariant.Check(ids.Index(e.GetIndex()) == st.Index+1, "range %s: entry %d follows applied index %d", r.id, e.GetIndex(), st.Index)
	st.Index, st.Term = ids.Index(e.GetIndex()), ids.Term(e.GetTerm())
	data := e.GetData()
	o := outcome{r: r, responses: it.responses, bytes: len(data)}
	if e.GetType() == raftpb.EntryConfChangeV2 {
		o.conf = &raftpb.ConfChangeV2{}
		if err := proto.Unmarshal(data, o.conf); err != nil {
			return o, nil, fmt.Errorf("raftstore: range %s: configuration change at index %d: %w", r.id, e.GetIndex(), err)
		}
		data = o.conf.GetContext()
	}
	var ops []engine.Op
	if len(data) > 0 {
		be, err := decodeEntry(data)
		if err != nil {
			return o, nil, fmt.Errorf("raftstore: range %s: entry at index %d: %w", r.id, e.GetIndex(), err)
		}
		o.entry = be
		o.accepted = be.Term == st.Term && be.Base == st.Count && be.Bounds == r.apply.desc.Epoch.Bounds
		if o.accepted {
			if ops, err = a.effects(r, be, &st, &o); err != nil {
				return o, nil, err
			}
		}
	}
	if !o.accepted {
		o.conf = nil
	}
	ops = append(ops, engine.Op{Key: localKey(r.id, suffixApplied), Value: st.encode()})
	r.apply.state, o.applied = st, st
	return o, ops, nil
}

// effects are the engine writes of an accepted entry.
func (a *applier) effects(r *Replica, be *batchEntry, st *appliedState, o *outcome) ([]engine.Op, error) {
	invariant.Check(be.TS > st.TS && be.TS > st.Closed, "range %s: entry timestamp %s after %s, closed %s (I4, I5)", r.id, be.TS, st.TS, st.Closed)
	invariant.Check(be.Closed >= st.Closed && be.Closed <= be.TS, "range %s: entry closes %s after %s", r.id, be.Closed, st.Closed)
	a.s.clock.Advance(be.TS)
	st.Count, st.TS, st.Closed = st.Count+1, be.TS, be.Closed
	ops := make([]engine.Op, 0, len(be.Local)+len(be.Data)+4)
	for i := range be.Local {
		w := &be.Local[i]
		ops = append(ops, engine.Op{Key: localKey(r.id, w.Suffix...), Value: w.Value, Delete: w.Value == nil})
	}
	for i := range be.Data {
		w := &be.Data[i]
		op := engine.Op{Key: dataKey(w.Key), Delete: w.Delete}
		if w.Delete {
			o.deletes++
			st.Records -= min(st.Records, 1)
			st.Bytes -= min(st.Bytes, uint64(len(w.Key)))
		} else {
			op.Value = engine.AppendValue(nil, w.Value, be.TS, w.Expires)
			st.Records++
			st.Bytes += uint64(len(w.Key) + len(w.Value))
		}
		ops = append(ops, op)
	}
	if be.Kind == entryBatch {
		return ops, nil
	}
	left, right, err := decodeChange(be.Payload)
	if err != nil {
		return nil, fmt.Errorf("raftstore: range %s: descriptor change: %w", r.id, err)
	}
	r.apply.desc, o.desc = left, left
	ops = append(ops, engine.Op{Key: localKey(r.id, suffixDescriptor), Value: encodeDescriptor(left)})
	if right != nil {
		o.child = &childRange{desc: right, parentIndex: st.Index}
	}
	return ops, nil
}

// publish makes an entry's effects known: it is visible now.
func (a *applier) publish(o *outcome) {
	r := o.r
	r.history.add(o.applied.TS, o.seq)
	a.s.yield()
	if o.child != nil {
		a.s.openChild(r, o.child) // before the parent gives up its claim
	}
	var current ids.Term
	r.update(func(s *replicaState) {
		s.applied, s.visible = o.applied, o.seq
		if o.desc != nil {
			s.desc, s.peers = o.desc, nil
		}
		if o.child != nil {
			s.frozen = false
		}
		if o.accepted {
			s.change.applied(o.entry.Kind)
		}
		current = s.term
	})
	if o.desc != nil {
		a.s.clocks.stale.Store(true)
	}
	a.s.yield()
	a.s.published.Store(uint64(o.seq))
	a.s.yield()
	refused := o.entry != nil && !o.accepted
	if o.accepted {
		a.s.acknowledge(r.seq.onAccepted(o.entry.Term, o.entry.Base))
	}
	r.post(raftInput{run: func() { r.applied(o, refused && o.entry.Term == current) }})
	a.s.metrics.apply(o.bytes, refused)
	a.s.yield()
}

// applied is the Raft side's share of a published entry.
func (r *Replica) applied(o *outcome, refused bool) {
	if r.raft.stopped {
		return
	}
	// NB: Raft takes a snapshot's configuration when it accepts the snapshot. Changes below it that were still on their
	// way through the apply queue are part of it already.
	if o.conf != nil && o.applied.Index > r.raft.restored {
		r.raft.node.ApplyConfChange(o.conf)
	}
	for _, m := range o.responses {
		r.step(m)
	}
	if refused {
		r.resetSequencer(r.raft.generation)
	}
	if o.desc != nil {
		r.sendLate() // a split's child waits for its replicas
	}
	r.maybeTakeOffice()
	r.seq.schedule()
	r.raft.reads.release(r, o.applied.Index)
}
