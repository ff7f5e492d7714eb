package raftstore

import (
	"fmt"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// ingest replaces a range's data by a snapshot's, in steps on the apply queue between other ranges' entries:
//
//	flag -> wipe old data -> write new data -> finish (state, descriptor, flag cleared) -> checkpoint
//
// The checkpoint, the reset of the group's log and its hard state are one frame of the log (rule E4). Until that
// is durable a crash goes back to the old data and the old log, as if the snapshot had never come: no checkpoint
// is taken in between. While the flag stands the replica serves nothing.
type ingest struct {
	a       *applier
	r       *Replica
	task    *appendTask
	in      *incomingSnapshot
	desc    *topology.Descriptor
	applied appliedState
	wipe    []keys.Span // engine spans still to be emptied
	file    *snapshotFile
	batch   engine.Batch
	size    int
}

// startIngest begins the ingest that a storage message asks for. One runs at a time; others wait.
func (r *Replica) startIngest(t *appendTask) {
	id := string(t.snapshot.GetData())
	in := r.raft.incoming[id]
	delete(r.raft.incoming, id)
	if in == nil {
		r.store.fatal(fmt.Errorf("raftstore: range %s: Raft asks for a snapshot that was not received", r.id))
		return
	}
	// From here on the replica takes no other snapshot and gives up no part of its span (see claim).
	r.update(func(s *replicaState) { s.ingesting = true })
	a := r.store.applier
	a.run(func() { a.whenNoIngest(func() { a.beginIngest(r, t, in) }) })
}

// whenNoIngest calls f now, or once the ingest under way has ended. For the apply queue.
func (a *applier) whenNoIngest(f func()) {
	if a.ingest != nil {
		a.waiting = append(a.waiting, f)
		return
	}
	f()
}

func (a *applier) beginIngest(r *Replica, t *appendTask, in *incomingSnapshot) {
	if r.snapshot().gone {
		// Removed meanwhile: its wipe would not know of what came now.
		a.s.removeFile(in.path)
		return
	}
	chunk, err := func() ([]byte, error) {
		f, err := a.s.openSnapshotFile(in.path)
		if err != nil {
			return nil, err
		}
		a.ingest = &ingest{a: a, r: r, task: t, in: in, file: f}
		return f.next()
	}()
	if err != nil {
		a.s.fatal(err)
		return
	}
	g := a.ingest
	if _, g.desc, g.applied, err = decodeSnapshotHead(chunk); err != nil {
		a.s.fatal(err)
		return
	}
	if old := r.apply.desc; old != nil {
		g.wipe = append(g.wipe, dataSpan(old.Span))
	}
	g.wipe = append(g.wipe, dataSpan(g.desc.Span), localSpan(r.id, suffixSession))
	flag := &locuspb.IngestFlag{SnapshotId: in.head.Id, Index: in.head.Index, Term: in.head.Term}
	g.put(engine.Op{Key: localKey(r.id, suffixIngest), Value: mustMarshal(flag)})
	g.next(g.wipeStep)
}

// next flushes what the last step wrote and queues the next one.
func (g *ingest) next(step func()) {
	if !g.flush() {
		return
	}
	g.a.run(step)
}

func (g *ingest) put(op engine.Op) {
	g.batch.Ops = append(g.batch.Ops, op)
	g.size += len(op.Key) + len(op.Value)
}

// flush commits the batch at the next sequence.
func (g *ingest) flush() bool {
	if len(g.batch.Ops) == 0 {
		return true
	}
	g.a.seq++
	g.batch.Seq = g.a.seq
	if err := g.a.s.commit(g.batch); err != nil {
		g.a.s.fatal(err)
		return false
	}
	g.batch, g.size = engine.Batch{}, 0
	return true
}

// wipeBatch bounds the keys that one step deletes.
const wipeBatch = 2000

// wipeStep deletes some of the old data.
func (g *ingest) wipeStep() {
	if len(g.wipe) == 0 {
		g.loadStep()
		return
	}
	keys, more, err := keysIn(g.a.s.engine, g.wipe[0], g.a.seq, wipeBatch)
	if err != nil {
		g.a.s.fatal(err)
		return
	}
	for _, k := range keys {
		g.put(engine.Op{Key: k, Delete: true})
	}
	if !more {
		g.wipe = g.wipe[1:]
	}
	g.next(g.wipeStep)
}

// keysIn lists up to limit living keys of an engine span.
func keysIn(e engine.Engine, span keys.Span, seq ids.Seq, limit int) (found [][]byte, more bool, err error) {
	it := e.NewIterator(engine.IterOptions{Span: span, Seq: seq})
	defer it.Close()
	for ; it.Valid(); it.Next() {
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, append([]byte(nil), it.Key()...))
	}
	return found, false, it.Err()
}

// loadStep writes one chunk of the snapshot, split into transactions that the engine takes.
func (g *ingest) loadStep() {
	chunk, err := g.file.next()
	if err != nil {
		g.a.s.fatal(err)
		return
	}
	if chunk[0] == chunkEnd {
		g.finish()
		return
	}
	limits := g.a.s.engine.Limits()
	err = snapshotRecords(chunk[1:], func(key, value []byte) error {
		if int64(g.size+len(key)+len(value)) > limits.MaxBatchBytes/2 || int64(len(g.batch.Ops)) >= limits.MaxBatchOps/2 {
			if !g.flush() {
				return errStopped
			}
		}
		g.put(engine.Op{Key: key, Value: value})
		return nil
	})
	if err != nil {
		g.a.s.fatal(err)
		return
	}
	g.next(g.loadStep)
}

// finish writes the range's state, clears the flag, and makes all of it the new recovery point.
func (g *ingest) finish() {
	if !g.flush() {
		return
	}
	a, r := g.a, g.r
	seq := a.seq + 1
	h := newHistory(r.id, seq-1, g.applied.TS)
	g.put(engine.Op{Key: localKey(r.id, suffixApplied), Value: g.applied.encode()})
	g.put(engine.Op{Key: localKey(r.id, suffixDescriptor), Value: encodeDescriptor(g.desc)})
	g.put(engine.Op{Key: localKey(r.id, suffixLineage), Value: h.encode()})
	g.put(engine.Op{Key: localKey(r.id, suffixIngest), Delete: true})
	if !g.flush() {
		return
	}
	if err := g.file.file.Close(); err != nil {
		a.s.logger.Debug("snapshot file", "err", err)
	}
	a.s.clock.Advance(g.applied.TS)
	r.apply.state, r.apply.desc = g.applied, g.desc
	a.ingest = nil
	w := g.task.write
	w.Reset = &raftlog.Position{Index: g.applied.Index, Term: g.applied.Term}
	meta := groupMeta{Replica: r.self}
	w.Meta = meta.encode()
	a.s.checkpointNow(raftlog.Batch{Groups: []raftlog.Write{w}}, func() {
		r.mu.Lock()
		st := &r.mu.state
		r.history = h
		st.desc, st.applied, st.visible, st.ingesting = g.desc, g.applied, seq, false
		st.gen, st.change = a.s.gens.Add(1), changeBehind(g.applied)
		st.reserved = keys.Span{}
		r.mu.Unlock()
		a.s.clocks.stale.Store(true)
		a.s.metrics.snapshotApplied()
		a.s.removeFile(g.in.path)
		r.deliver(g.task.responses)
		r.post(raftInput{run: r.ingestDone})
	})
	waiting := a.waiting
	a.waiting = nil
	for _, f := range waiting {
		a.whenNoIngest(f)
	}
}
