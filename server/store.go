package server

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

// store is what the node needs of *raftstore.Store; tests have a smaller one.
type store interface {
	Do(req *locuspb.Request, done func(*locuspb.Response))
	OpenView(id ids.RangeID, boundsEpoch uint64, ts hlc.Timestamp, done func(raftstore.View, error))
	HandleRaft(from ids.StoreID, envs []*locuspb.RaftEnvelope)
	BeginSnapshot(h *locuspb.SnapshotHeader) (raftstore.SnapshotSink, error)
	MeasureRange(id ids.RangeID, boundsEpoch uint64, done func(raftstore.Measure, error))
	RunOperator(op *locuspb.Operator, done func(error))
	Ranges() []raftstore.RangeInfo
	AppendRanges(out []raftstore.RangeInfo) []raftstore.RangeInfo
	Range(id ids.RangeID) (raftstore.RangeInfo, bool)
	Lookup(key []byte) (raftstore.RangeInfo, bool)
	RemoveReplica(id ids.RangeID, nextReplica ids.ReplicaID)
	Retain(holds []raftstore.Hold) (from hlc.Timestamp)
	Tick()
	Stop(done func())
}
