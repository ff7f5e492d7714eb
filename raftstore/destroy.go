package raftstore

import (
	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// RemoveReplica is the placement driver's word that this store's replica of a range was removed: replicas with
// ids below next never act again.
func (s *Store) RemoveReplica(id ids.RangeID, next ids.ReplicaID) {
	if s.replaying(id) != 0 {
		// A split that this replica once applied, and recovery undid, must be applied again first: the child's votes and
		// entries are in the log. Whoever says that the replica was removed will say it again.
		return
	}
	if r := s.replica(id); r != nil && r.self < next {
		s.applier.run(func() { s.destroy(r, next) })
	}
}

// destroy ends a replica, once no snapshot is being ingested. REQUIRES: the apply queue.
func (s *Store) destroy(r *Replica, next ids.ReplicaID) {
	s.applier.whenNoIngest(func() { s.destroyNow(r, next) })
}

// destroyNow ends a replica. It stops at once; its tombstone and a checkpoint are one frame of the log, so that a
// split that this replica applied is never undone with nobody left to replay it; then its data is wiped, and
// only then is its span free (rule E7).
func (s *Store) destroyNow(r *Replica, next ids.ReplicaID) {
	var span keys.Span
	var initialized, again bool
	r.update(func(st *replicaState) {
		again = st.gone
		st.gone, st.leaseholder = true, false
	})
	if again {
		return
	}
	// What the engine holds counts, not what is known outside: a snapshot that was just ingested is not visible yet.
	if d := r.apply.desc; d != nil {
		span, initialized = d.Span, true
	}
	s.metrics.removed()
	s.yield()
	s.setTombstone(r.id, next)
	s.yield()
	r.seq.stop(^ids.Term(0))
	r.post(raftInput{run: func() {
		r.raft.stopped = true
		r.raft.blocked = nil
		r.raft.successor.give(&api.RangeNotFoundError{Range: r.id})
		r.raft.reads.close(&api.RangeNotFoundError{Range: r.id})
		// From here on the group writes nothing: its end is the last the log hears of it.
		t := tombstoneRecord(r.id, next, span, initialized)
		s.checkpoint(raftlog.Batch{Groups: []raftlog.Write{{Group: r.id, Destroy: true}}, Store: []raftlog.StoreRecord{t}}, func() {
			s.wipe(r.id, next, span, initialized)
		})
	}})
}

// wipeOrphan is for the data of a replica that was removed before it came into being here.
func (s *Store) wipeOrphan(id ids.RangeID, next ids.ReplicaID, span keys.Span) {
	s.occupy(id, span)
	s.setTombstone(id, next)
	t := tombstoneRecord(id, next, span, true)
	s.checkpoint(raftlog.Batch{Store: []raftlog.StoreRecord{t}}, func() { s.wipe(id, next, span, true) })
}

func tombstoneRecord(id ids.RangeID, next ids.ReplicaID, span keys.Span, wiping bool) raftlog.StoreRecord {
	p := &locuspb.Tombstone{RangeId: uint64(id), NextReplicaId: uint64(next)}
	if wiping {
		p.Span = api.SpanToProto(span)
	}
	return raftlog.StoreRecord{Kind: recordTombstone, Key: uint64(id), Value: mustMarshal(p)}
}

// wipe deletes a removed replica's data in steps on the apply queue. Its span counts as occupied until the
// deletion is durable, so nothing else can own a key of it.
func (s *Store) wipe(id ids.RangeID, next ids.ReplicaID, span keys.Span, initialized bool) {
	spans := []keys.Span{localSpan(id)}
	if initialized {
		spans = append(spans, dataSpan(span))
	}
	var step func()
	step = func() {
		if len(spans) == 0 {
			t := tombstoneRecord(id, next, keys.Span{}, false)
			s.checkpoint(raftlog.Batch{Store: []raftlog.StoreRecord{t}}, func() { s.forget(id) })
			return
		}
		a := s.applier
		found, more, err := keysIn(s.engine, spans[0], a.seq, wipeBatch)
		if err != nil {
			s.fatal(err)
			return
		}
		if !more {
			spans = spans[1:]
		}
		if len(found) > 0 {
			a.seq++
			b := engine.Batch{Seq: a.seq}
			s.reclaim.deleted(len(found), a.seq, s.clock.Wall())
			for _, k := range found {
				b.Ops = append(b.Ops, engine.Op{Key: k, Delete: true})
			}
			if err := s.commit(b); err != nil {
				s.fatal(err)
				return
			}
		}
		a.run(step)
	}
	s.applier.run(step)
}
