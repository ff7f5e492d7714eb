package raftstore

import (
	"sync/atomic"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/raftstore/rowcache"
	"github.com/locuskv/locus/raftstore/scancache"
)

// Metrics are a store's counters since it was opened, named by the verbs of the write path.
type Metrics struct {
	EvaluatedCommands    uint64
	EvaluatedBatches     uint64
	ProposedEntries      uint64
	ProposedBytes        uint64
	AppendedFrames       uint64
	AppendedWrites       uint64
	CommittedEntries     uint64
	AppliedEntries       uint64
	AppliedBytes         uint64
	RefusedEntries       uint64
	AcknowledgedCommands uint64
	Reads                uint64
	ReadRounds           uint64
	LeaseReads           uint64
	RowCache             rowcache.Stats
	ScanCache            scancache.Stats
	Elections            uint64
	FellQuiet            uint64
	OptimisticRuns       uint64
	OptimisticReruns     uint64
	Splits               uint64
	SnapshotsSent        uint64
	SnapshotsApplied     uint64
	Checkpoints          uint64
	ReplicasRemoved      uint64
	UndoneSequences      uint64
}

// metrics counts. It is off the protocol's way: each method adds and returns.
type metrics struct {
	commands, batches, proposed, proposedBytes, appends, writes, commits, applied, refused, acks                      atomic.Uint64
	bytes, reads, rounds, elections, splits, sent, restored, checkpoints, removals, undo, leased, quiet, runs, reruns atomic.Uint64
}

func (m *metrics) evaluate(n int)    { m.commands.Add(uint64(n)); m.batches.Add(1) }
func (m *metrics) propose(bytes int) { m.proposed.Add(1); m.proposedBytes.Add(uint64(bytes)) }
func (m *metrics) append(writes int) { m.appends.Add(1); m.writes.Add(uint64(writes)) }
func (m *metrics) commit(n int)      { m.commits.Add(uint64(n)) }
func (m *metrics) acknowledge(n int) { m.acks.Add(uint64(n)) }
func (m *metrics) read()             { m.reads.Add(1) }
func (m *metrics) readRound()        { m.rounds.Add(1) }
func (m *metrics) leaseRead()        { m.leased.Add(1) }
func (m *metrics) optimisticRun(again bool) {
	m.runs.Add(1)
	if again {
		m.reruns.Add(1)
	}
}
func (m *metrics) fellQuiet()           { m.quiet.Add(1) }
func (m *metrics) elected()             { m.elections.Add(1) }
func (m *metrics) split()               { m.splits.Add(1) }
func (m *metrics) snapshotSent()        { m.sent.Add(1) }
func (m *metrics) snapshotApplied()     { m.restored.Add(1) }
func (m *metrics) checkpoint()          { m.checkpoints.Add(1) }
func (m *metrics) removed()             { m.removals.Add(1) }
func (m *metrics) undone(n uint64)      { m.undo.Add(n) }
func (m *metrics) appliedBytes() uint64 { return m.bytes.Load() }

func (m *metrics) apply(bytes int, refused bool) {
	m.applied.Add(1)
	m.bytes.Add(uint64(bytes))
	if refused {
		m.refused.Add(1)
	}
}

// Collect reads the counters.
func (s *Store) Collect() Metrics {
	m := &s.metrics
	return Metrics{
		EvaluatedCommands: m.commands.Load(), EvaluatedBatches: m.batches.Load(),
		ProposedEntries: m.proposed.Load(), ProposedBytes: m.proposedBytes.Load(),
		AppendedFrames: m.appends.Load(), AppendedWrites: m.writes.Load(),
		CommittedEntries: m.commits.Load(), AppliedEntries: m.applied.Load(), AppliedBytes: m.bytes.Load(), RefusedEntries: m.refused.Load(),
		AcknowledgedCommands: m.acks.Load(), Reads: m.reads.Load(), ReadRounds: m.rounds.Load(), LeaseReads: m.leased.Load(), RowCache: s.rows.Stats(), ScanCache: s.scans.Stats(),
		Elections: m.elections.Load(), FellQuiet: m.quiet.Load(), OptimisticRuns: m.runs.Load(), OptimisticReruns: m.reruns.Load(), Splits: m.splits.Load(), SnapshotsSent: m.sent.Load(),
		SnapshotsApplied: m.restored.Load(), Checkpoints: m.checkpoints.Load(), ReplicasRemoved: m.removals.Load(),
		UndoneSequences: m.undo.Load(),
	}
}

// Changes grows whenever a replica has applied an entry or a snapshot, was elected, split or removed. It is cheap to ask.
func (s *Store) Changes() uint64 {
	m := &s.metrics
	return m.applied.Load() + m.elections.Load() + m.restored.Load() + m.splits.Load() + m.removals.Load()
}

// noEvaluator refuses every call.
type noEvaluator struct{}

func (noEvaluator) Evaluate(call *locuspb.CallRequest, _ Tx) (*locuspb.CallResponse, error) {
	return nil, &api.FunctionNotFoundError{Name: call.Function, Version: call.Version}
}
