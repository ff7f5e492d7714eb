package raftstore

import (
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// Executor runs the steps of a store. Steps of one queue run one after another in the order they were
// posted; queues run beside each other in production and in a random order under the simulator.
type Executor interface {
	NewQueue(kind QueueKind) Queue
	// Go runs one step on a pool, in no order with any other.
	Go(kind QueueKind, step func())
}

// Queue is an unbounded list of steps; what is posted to it is bounded by its poster.
type Queue interface{ Post(step func()) }

// QueueKind names a pool of workers.
type QueueKind int

// The pools. A step never waits for a step of its own pool.
const (
	QueueRaft     QueueKind = iota // one queue a replica: RawNode and what belongs to it
	QueueEval                      // one queue a replica: the sequencer's evaluation
	QueueRead                      // no queue: each read is a step of its own
	QueueLog                       // one queue a store: append and sync
	QueueApply                     // one queue a store: the engine's writes
	QueueDisk                      // one queue a store: checkpoints' syncs, snapshot files
	QueueCall                      // no queue: each run of a call in optimistic mode is a step of its own
	QueueReadCall                  // no queue: each call that only reads is a step of its own

	queueKinds int = iota
)

// Transport sends to other stores. It never blocks and never answers; what it can't deliver it drops.
type Transport interface {
	// Send hands over messages for one store. The envelopes are the transport's from now on.
	Send(to ids.StoreID, envelopes []*locuspb.RaftEnvelope)
	// SendSnapshot streams a range's state; done is called exactly once, with nil when the receiver has it on
	// disk and has accepted it. r is closed by the transport.
	SendSnapshot(to ids.StoreID, header *locuspb.SnapshotHeader, r SnapshotReader, done func(error))
}

// SnapshotReader yields the packed records of a snapshot in chunks.
type SnapshotReader interface {
	// Next returns the next chunk, io.EOF after the last. The chunk is the caller's.
	Next() ([]byte, error)
	Close() error
}

// SnapshotSink takes the chunks of an incoming snapshot (Store.BeginSnapshot).
type SnapshotSink interface {
	Write(chunk []byte) error
	// Finish makes the file durable and hands it to the replica; accepted once it returns nil.
	Finish() error
	Abort()
}

// Evaluator runs function calls: on the sequencer, and beside it those in optimistic mode and those that only read. It must be bounded in time by itself.
type Evaluator interface {
	Evaluate(call *locuspb.CallRequest, tx Tx) (result *locuspb.CallResponse, err error)
}

// Tx is what a call sees: the range at its evaluation, and its own writes on top. Keys are global.
// Touching a key outside the call's group is api.ErrNotOneGroup (REQUIRES: Span is the group's span).
type Tx interface {
	Get(key []byte) (value []byte, found bool, err error)
	// Scan calls f with packed batches of at most about 64 KiB in key order until f returns false. The key
	// prefix that the batch leaves out is strip bytes long.
	Scan(span keys.Span, strip int, f func(batch []byte) bool) error
	Put(key, value []byte, ttlMillis int64) error
	Delete(key []byte) error
	Timestamp() hlc.Timestamp
	// CallID identifies the command for ever: session and number.
	CallID() [24]byte
	// Range is where the call runs.
	Range() ids.RangeID
}

// View is a range at one timestamp, for range functions. Close it.
type View interface {
	Timestamp() hlc.Timestamp
	Get(key []byte) (value []byte, found bool, err error)
	// Scan calls f as Tx.Scan does. The batch is valid until f returns, and is not to be changed: others are shown the same bytes.
	Scan(span keys.Span, strip int, f func(Batch) bool) error
	Close()
}

// RangeInfo is what a store knows of one of its replicas.
type RangeInfo struct {
	Descriptor *topology.Descriptor
	Replica    ids.ReplicaID
	Leader     ids.StoreID // 0: not known
	Term       ids.Term
	// Leaseholder: this store leads the range and has applied an entry of its own term.
	Leaseholder bool
	// LeaseUntil is when the lease runs out by the store's monotonic clock, 0 if it has none: until then the store may answer
	// reads without asking anybody, so no other may be elected.
	LeaseUntil time.Duration
	Applied    ids.Index
	LastIndex  ids.Index
	Bytes      uint64 // approximate, of user keys and values
	Records    uint64 // approximate
	Closed     hlc.Timestamp
	// Settled: replicas that Descriptor no longer has are not needed any more.
	Settled bool
	// Progress of every replica; leader only.
	Progress []ReplicaProgress
}

// ReplicaProgress is a leader's knowledge of a follower.
type ReplicaProgress struct {
	Replica ids.ReplicaID
	Match   ids.Index
	Active  bool
	// Snapshotting: a snapshot is on its way.
	Snapshotting bool
	// Learner: by Raft's configuration, which follows the descriptor, it does not vote.
	Learner bool
}
