package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// Ident is who a store is. It is the first record of its log and never changes.
type Ident struct {
	ClusterID string // UUID
	NodeID    string // UUID, permanent
	StoreID   ids.StoreID
}

// Options of a store. The parts are the caller's; zero limits mean their defaults.
type Options struct {
	Ident

	// Engine and Log hold the store's state. The store uses them until it is stopped and does not close them.
	Engine engine.Engine
	Log    raftlog.Log
	// Files and SnapshotDir hold snapshots on their way in.
	Files       vfs.FS
	SnapshotDir string
	Clock       *hlc.Clock
	Executor    Executor
	Transport   Transport
	// Evaluator runs function calls; without one every call is refused.
	Evaluator Evaluator
	Logger    *slog.Logger
	// Rand is the source of snapshot ids.
	Rand *rand.Rand
	// Monotonic is a clock that nobody sets and that does not stop with the machine (internal/boottime in production).
	// Leases are counted on it.
	Monotonic func() time.Duration
	// OnFatal is told, once, of a failed write or sync, or of damage: the process must stop.
	OnFatal func(error)

	// TickInterval is the time between two calls of Tick. Default 100 ms.
	TickInterval time.Duration
	// Reads says whether reads may rely on a lease. Default ReadLease.
	Reads ReadMode
	// MaxClockDrift is by how much of itself the rate of one store's monotonic clock may exceed another's. Default 0.05,
	// about a hundred times what is usual.
	MaxClockDrift float64
	// LeaseMargin is what leases are shorter by for reading clocks at some grain. Default a tenth of a tick.
	LeaseMargin time.Duration

	// ElectionTicks is the election timeout in ticks; a follower waits one to two of them. Default 10.
	ElectionTicks int
	// HeartbeatTicks is the interval of heartbeats in ticks. Default 2.
	HeartbeatTicks int
	// QuietTicks is how long a range must have been idle before it closes the present. Default 10.
	QuietTicks int
	// SleepTicks is how long a range must have had nothing to do before its replicas stop their clocks. Default 30; below
	// 0 they never do.
	SleepTicks int

	// commitAtOnce: followers learn of a commit before it is visible on the leaseholder, as tests of what else keeps
	// the rules need it.
	commitAtOnce bool

	// MaxQueuedCommands and MaxQueuedBytes bound what waits in a sequencer; more is refused with
	// OverloadedError. Defaults 16,384 and 32 MiB.
	MaxQueuedCommands int
	MaxQueuedBytes    int
	// MaxCommandBytes bounds one command's writes. Default 2 MiB.
	MaxCommandBytes int
	// MaxEntryCommands and MaxEntryBytes bound what goes into one batch entry, unless one command alone is
	// larger. Defaults 1,024 and 1 MiB.
	MaxEntryCommands int
	MaxEntryBytes    int
	// MaxSessionBytes bounds a range's session table; beyond it new commands are refused, never old ones forgotten
	// (rule B3). Default 2 MiB.
	MaxSessionBytes int
	// MaxInflightEntries bounds the entries that are proposed and not applied, per range. Default 4.
	MaxInflightEntries int

	// Raft's own bounds (bytes, but for MaxInflightMessages). Defaults 512 KiB, 16 MiB, 64 MiB, 128, 8 MiB.
	MaxMessageBytes     uint64
	MaxApplyBytes       uint64
	MaxUncommittedBytes uint64
	MaxInflightMessages int
	MaxInflightBytes    uint64
	// MaxApplyEntries bounds the entries that one apply step commits. Default 256.
	MaxApplyEntries int

	// RowCacheBytes bounds the cache of rows that leaseholders have read or written. It grows as they do. Default 256 MiB; below 0 there
	// is none.
	RowCacheBytes int64
	// ScanCacheBytes bounds the cache of what functions have scanned, which grows as they do. Default 256 MiB; below 0 there is none.
	ScanCacheBytes int64

	// CheckpointBytes and CheckpointTicks: a checkpoint is taken when this much was applied since the last, or
	// when anything was and this much time has passed. What follows a checkpoint is undone and replayed after a crash,
	// at about 75,000 versions a second. Defaults 16 MiB and 300 ticks.
	CheckpointBytes uint64
	CheckpointTicks int
	// RetainedEntries are kept in a group's log behind the checkpoint, for followers that lag a little. Default
	// 1,024. A follower that lags more keeps its entries while the group's log is below MaxLagBytes, default
	// 32 MiB; after that it gets a snapshot.
	RetainedEntries uint64
	MaxLagBytes     int64
	// ReclaimKeys is how many keys must have been deleted before an idle store has the engine free their space, once the
	// retention window has passed. Default 100,000; below 0 it never does.
	ReclaimKeys int64
	// Retention is how far back a timestamp can be read. Default 10 minutes.
	Retention time.Duration
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (o *Options) setDefaults() {
	setDefault(&o.TickInterval, 100*time.Millisecond)
	setDefault(&o.MaxClockDrift, 0.05)
	setDefault(&o.LeaseMargin, o.TickInterval/10)
	setDefault(&o.ElectionTicks, 10)
	setDefault(&o.HeartbeatTicks, 2)
	setDefault(&o.QuietTicks, 10)
	setDefault(&o.SleepTicks, 30)
	setDefault(&o.MaxQueuedCommands, 16384)
	setDefault(&o.MaxQueuedBytes, 32<<20)
	setDefault(&o.MaxCommandBytes, 2<<20)
	setDefault(&o.MaxEntryCommands, 1024)
	setDefault(&o.MaxEntryBytes, 1<<20)
	setDefault(&o.MaxSessionBytes, 2<<20)
	setDefault(&o.MaxInflightEntries, 4)
	setDefault(&o.MaxMessageBytes, 512<<10)
	setDefault(&o.MaxApplyBytes, 16<<20)
	setDefault(&o.MaxUncommittedBytes, 64<<20)
	setDefault(&o.MaxInflightMessages, 128)
	setDefault(&o.MaxInflightBytes, 8<<20)
	setDefault(&o.MaxApplyEntries, 256)
	setDefault(&o.RowCacheBytes, 256<<20)
	setDefault(&o.ScanCacheBytes, 256<<20)
	setDefault(&o.CheckpointBytes, 16<<20)
	setDefault(&o.CheckpointTicks, 300)
	setDefault(&o.RetainedEntries, 1024)
	setDefault(&o.MaxLagBytes, 32<<20)
	setDefault(&o.ReclaimKeys, 100_000)
	setDefault(&o.Retention, 10*time.Minute)
	setDefault(&o.Logger, slog.New(slog.DiscardHandler))
	if o.Evaluator == nil {
		o.Evaluator = noEvaluator{}
	}
	if o.OnFatal == nil {
		o.OnFatal = func(err error) { panic(err) }
	}
}

// Validate says what is missing or out of proportion.
func (o *Options) Validate() error {
	switch {
	case o.StoreID == 0 || o.ClusterID == "" || o.NodeID == "":
		return errors.New("raftstore: a store needs its identity")
	case o.Engine == nil || o.Log == nil || o.Files == nil || o.SnapshotDir == "":
		return errors.New("raftstore: a store needs an engine, a log and a place for snapshots")
	case o.Clock == nil || o.Monotonic == nil || o.Executor == nil || o.Transport == nil || o.Rand == nil:
		return errors.New("raftstore: a store needs two clocks, an executor, a transport and a random source")
	case o.MaxClockDrift < 0 || o.MaxClockDrift >= 1 || o.LeaseMargin < 0:
		return fmt.Errorf("raftstore: a clock drift of %g is not in [0, 1), or the margin %s is negative", o.MaxClockDrift, o.LeaseMargin)
	case o.ElectionTicks <= o.HeartbeatTicks:
		return fmt.Errorf("raftstore: election timeout of %d ticks must exceed the heartbeat interval of %d", o.ElectionTicks, o.HeartbeatTicks)
	}
	return o.checkLimits()
}

// checkLimits compares what an entry may be with what the engine takes: an entry that the engine refuses would be
// refused by every replica for ever (rule A6).
func (o *Options) checkLimits() error {
	limits := o.Engine.Limits()
	if need := int64(o.MaxEntryBytes + o.MaxCommandBytes + 2*o.MaxSessionBytes); limits.MaxBatchBytes < need {
		return fmt.Errorf("raftstore: the engine takes batches of %d bytes, entries may need %d", limits.MaxBatchBytes, need)
	}
	if need := int64((o.MaxEntryBytes+o.MaxCommandBytes)/writeOverhead + o.MaxSessionBytes/sessionOverhead); limits.MaxBatchOps < need {
		return fmt.Errorf("raftstore: the engine takes batches of %d writes, entries may need %d", limits.MaxBatchOps, need)
	}
	return nil
}
