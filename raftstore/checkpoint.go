package raftstore

import (
	"errors"
	"slices"

	"go.etcd.io/raft/v3"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// A checkpoint makes the engine's present the point that recovery goes back to (docs/ARCHITECTURE.md, "What
// survives a crash"):
//
//  1. on the apply queue, a cut: one sequence S, and what each range had applied as of S;
//  2. the engine's files are synced;
//  3. S and the cut are written to the log and synced;
//  4. only then may the log be truncated up to the cut (Invariant: I10).
//
// Crash: before 3 is durable, recovery goes back to the checkpoint before.

// checkpoint takes one when no snapshot is being ingested. extra goes into the same frame as the checkpoint
// itself; durable is called, on the log writer's queue, once it is.
func (s *Store) checkpoint(extra raftlog.Batch, durable func()) {
	s.applier.run(func() {
		s.applier.whenNoIngest(func() { s.checkpointNow(extra, durable) })
	})
}

// checkpointNow cuts. REQUIRES: the apply queue, everything published, no ingest half done.
func (s *Store) checkpointNow(extra raftlog.Batch, durable func()) {
	cut := &locuspb.Checkpoint{Seq: uint64(s.applier.seq), Clock: uint64(s.clock.Last())}
	discard, kept := s.holds.windowStart(s.clock.Wall(), s.opts.Retention, s.clock.MaxOffset())
	cut.Discard, cut.KeptFrom = uint64(discard), uint64(kept)
	applied := make(map[ids.RangeID]appliedState)
	for _, r := range s.allReplicas() {
		if r.apply.desc == nil || r.snapshot().gone {
			continue
		}
		st := r.apply.state
		applied[r.id] = st
		cut.Applied = append(cut.Applied, &locuspb.AppliedIndex{RangeId: uint64(r.id), Index: uint64(st.Index), Term: uint64(st.Term)})
	}
	slices.SortFunc(cut.Applied, func(a, b *locuspb.AppliedIndex) int { return int(a.RangeId) - int(b.RangeId) })
	for _, u := range s.holds.undoneIntervals() {
		cut.Undone = append(cut.Undone, &locuspb.SeqInterval{Lo: uint64(u.lo), Hi: uint64(u.hi)})
	}
	s.disk.Post(func() {
		if s.stopped() {
			return
		}
		if err := s.engine.Sync(); err != nil {
			s.fatal(err)
			return
		}
		extra.Store = append(extra.Store, raftlog.StoreRecord{Kind: recordCheckpoint, Value: mustMarshal(cut)})
		s.logWriter.append(&appendTask{extra: extra, durable: func() {
			s.holds.checkpointed(ids.Seq(cut.Seq), discard)
			s.metrics.checkpoint()
			if durable != nil {
				durable()
			}
			s.truncate(applied)
		}})
	})
}

// truncate lets each group drop what the checkpoint covers, but for what a follower is likely to need.
func (s *Store) truncate(applied map[ids.RangeID]appliedState) {
	for _, r := range s.allReplicas() {
		st, ok := applied[r.id]
		if !ok {
			continue
		}
		r.post(raftInput{run: func() { r.truncate(st.Index) }})
	}
}

// truncate drops entries at and below what is durable in the engine, keeping some for followers that lag.
func (r *Replica) truncate(durable ids.Index) {
	if r.raft.stopped {
		return
	}
	keep := ids.Index(r.store.opts.RetainedEntries)
	st := r.snapshot()
	to := durable
	if to > keep {
		to -= keep
	} else {
		to = 0
	}
	if st.isLeader && r.store.log.GroupSize(r.id) < r.store.opts.MaxLagBytes {
		for _, p := range st.progress {
			if p.Active {
				to = min(to, p.Match)
			}
		}
	}
	first, _ := r.store.log.Bounds(r.id)
	if to <= first {
		return
	}
	term, err := r.store.log.Term(r.id, to)
	if errors.Is(err, raftlog.ErrNoGroup) || errors.Is(err, raft.ErrCompacted) {
		return // a snapshot or the group's end was faster
	}
	if err != nil {
		r.store.fatal(err)
		return
	}
	r.store.logWriter.append(&appendTask{extra: raftlog.Batch{Groups: []raftlog.Write{
		{Group: r.id, Truncate: &raftlog.Position{Index: to, Term: term}},
	}}})
}

// checkpointDue takes a checkpoint when enough has been applied since the last, by bytes or by time.
func (s *Store) checkpointDue() {
	s.sinceCheckpoint += housekeepingTicks
	applied := s.metrics.appliedBytes()
	if applied == s.checkpointedBytes {
		return
	}
	if applied-s.checkpointedBytes < s.opts.CheckpointBytes && s.sinceCheckpoint < s.opts.CheckpointTicks {
		return
	}
	s.checkpointedBytes, s.sinceCheckpoint = applied, 0
	s.checkpoint(raftlog.Batch{}, nil)
}
