package raftstore

import (
	"errors"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// The ranges of a new cluster. Every later range comes into being by a split.
const (
	// DefaultRange holds the keyspace "default" (id 1).
	DefaultRange ids.RangeID = 2
	// TailRange holds all keyspaces that do not exist yet: creating one splits it.
	TailRange ids.RangeID = 3
)

// Bootstrap writes the first ranges of a new cluster into a fresh store, each with its only replica here, and
// then the store's identity: a store that has one is complete.
func Bootstrap(e engine.Engine, l raftlog.Log, id Ident, now hlc.Timestamp) error {
	if e.MaxSeq() != 0 {
		return errors.New("raftstore: a cluster is bootstrapped on an empty engine")
	}
	descs := []*topology.Descriptor{
		{ID: ids.SystemRange, Span: keys.KeyspaceSpan(0)},
		{ID: DefaultRange, Span: keys.KeyspaceSpan(1)},
		{ID: TailRange, Span: keys.Span{Start: keys.KeyspacePrefix(2)}},
	}
	descs[0].Span.Start = nil // the first range begins where keys begin
	cut := &locuspb.Checkpoint{Clock: uint64(now)}
	var b raftlog.Batch
	for i, d := range descs {
		d.Epoch = topology.Epoch{Conf: 1, Bounds: 1}
		d.Replicas = []topology.Replica{{Store: id.StoreID, ID: 1, Role: topology.Voter}}
		d.NextReplica = 2
		seq := ids.Seq(i + 1)
		st := appliedState{Index: initialIndex, Term: initialTerm, TS: now, Closed: now}
		ops := []engine.Op{
			{Key: localKey(d.ID, suffixApplied), Value: st.encode()},
			{Key: localKey(d.ID, suffixDescriptor), Value: encodeDescriptor(d)},
			{Key: localKey(d.ID, suffixLineage), Value: newHistory(d.ID, seq-1, now).encode()},
		}
		if err := e.Apply([]engine.Batch{{Seq: seq, Ops: ops}}); err != nil {
			return err
		}
		meta := groupMeta{Replica: 1}
		b.Groups = append(b.Groups, raftlog.Write{Group: d.ID, Create: &raftlog.Create{
			Position: raftlog.Position{Index: initialIndex, Term: initialTerm}, Meta: meta.encode(),
		}})
		cut.Seq = uint64(seq)
		cut.Applied = append(cut.Applied, &locuspb.AppliedIndex{RangeId: uint64(d.ID), Index: uint64(st.Index), Term: uint64(st.Term)})
	}
	if err := e.Sync(); err != nil {
		return err
	}
	b.Store = []raftlog.StoreRecord{{Kind: recordCheckpoint, Value: mustMarshal(cut)}}
	if err := appendSync(l, b); err != nil {
		return err
	}
	return WriteIdent(l, id)
}
