package enginetest

import (
	"bytes"
	"errors"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

// A Crasher takes an engine's power away and opens what is left of it.
type Crasher interface {
	// Synced is told of each Sync that returned.
	Synced(e engine.Engine)
	// Crash ends e as a loss of power does, while during runs (its error is of no interest), and opens the rest.
	Crash(e engine.Engine, during func()) engine.Engine
}

// sync is a checkpoint: crashes go back to here.
func (m *model) sync() {
	require.NoError(m.t, m.e.Sync())
	m.checkpoint, m.unsynced = m.last, nil
	if m.o.Crasher != nil {
		m.o.Crasher.Synced(m.e)
	}
}

// crash does what a store does: whatever survived is undone to the checkpoint, and what was lost is applied again.
func (m *model) crash() {
	old := m.e
	during := func() {}
	if m.rng.Intn(2) == 0 {
		batches := m.batches()
		during = func() { _ = old.Apply(batches) }
	}
	m.e = m.o.Crasher.Crash(old, during)
	m.wholeBatches()
	for m.rng.Intn(4) == 0 {
		m.crashInUndo()
	}
	last, err := m.e.Undo(m.checkpoint)
	require.NoError(m.t, err)
	require.GreaterOrEqual(m.t, last, m.checkpoint)
	m.undone = slices.DeleteFunc(m.undone, func(u engine.Interval) bool { return u.After >= m.checkpoint })
	for key := range m.versions {
		m.wentBack(key, last)
	}
	m.undone = append(m.undone, engine.Interval{After: m.checkpoint, Last: last})
	m.last = last
	m.e.SetDiscard(m.discard)
	m.checkAll()
	m.replay()
}

// wholeBatches: of each batch since the checkpoint all is there or nothing.
func (m *model) wholeBatches() {
	for i := range m.unsynced {
		b := &m.unsynced[i]
		there := 0
		for _, op := range b.Ops {
			value, version, found, err := m.e.Get(op.Key, b.Seq)
			require.NoError(m.t, err)
			if version != b.Seq {
				continue
			}
			there++
			require.Equal(m.t, !op.Delete, found, "%q@%d", op.Key, b.Seq)
			require.True(m.t, bytes.Equal(op.Value, value), "%q@%d", op.Key, b.Seq)
		}
		require.True(m.t, there == 0 || there == len(b.Ops), "batch %d is torn: %d of %d operations", b.Seq, there, len(b.Ops))
		if len(b.Ops) > 0 {
			m.survived[there > 0]++
		}
	}
}

// crashInUndo interrupts an undo, and may lose a part of what it had written.
func (m *model) crashInUndo() {
	e := m.e
	limited := &stopping{Engine: e, left: m.rng.Intn(4)}
	m.e = m.o.Crasher.Crash(e, func() { _, _ = engine.Undo(limited, m.checkpoint) })
}

// stopping is an engine whose Apply ends after some calls, and takes small batches, so that an undo is many.
type stopping struct {
	engine.Engine
	left int
}

func (s *stopping) Limits() engine.Limits {
	return engine.Limits{MaxBatchBytes: 300 << 10, MaxBatchOps: 20}
}

func (s *stopping) Apply(b []engine.Batch) error {
	if s.left--; s.left < 0 {
		return errors.New("the power is gone")
	}
	return s.Engine.Apply(b)
}

// wentBack compares a key with what it was at the checkpoint, and takes over the version at which the undo wrote it back,
// if it had to.
func (m *model) wentBack(key string, last ids.Seq) {
	was, ok := m.at(key, m.checkpoint)
	value, v, found, err := m.e.Get([]byte(key), last)
	require.NoError(m.t, err)
	require.Equal(m.t, ok && !was.deleted, found, "%q after the crash, at the checkpoint %d", key, m.checkpoint)
	require.True(m.t, bytes.Equal(was.value, value), "%q after the crash, at the checkpoint %d", key, m.checkpoint)
	kept := slices.DeleteFunc(m.versions[key], func(x version) bool { return x.seq > m.checkpoint })
	switch {
	case v > m.checkpoint:
		kept = append(kept, version{v, was.value, !found})
	default:
		require.True(m.t, v == was.seq || v == 0 && was.seq <= m.discard, "%q: version %d, it was %d", key, v, was.seq)
	}
	m.versions[key] = kept
}

// replay applies a beginning of what was lost again, at new sequences.
func (m *model) replay() {
	lost := m.unsynced
	m.unsynced = nil
	for _, b := range lost[:m.rng.Intn(len(lost)+1)] {
		m.last++
		b.Seq = m.last
		m.remember(b)
		require.NoError(m.t, m.e.Apply([]engine.Batch{b}))
	}
}

// remember adds a batch to what the engine should hold.
func (m *model) remember(b engine.Batch) {
	for _, op := range b.Ops {
		m.versions[string(op.Key)] = append(m.versions[string(op.Key)], version{b.Seq, op.Value, op.Delete})
	}
	if m.o.Crasher != nil {
		m.unsynced = append(m.unsynced, b)
	}
}

// bound is how far the discard sequence may go: to the checkpoint, where there are crashes.
func (m *model) bound() ids.Seq {
	if m.o.Crasher != nil {
		return m.checkpoint
	}
	return m.last
}
