package raftlog

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// Write is what one group adds to the log in one frame. All parts are optional; together they are atomic. They take
// effect in the order of the fields. Every part but Create, Reset, Truncate and Destroy needs the group to exist: a
// late write of a destroyed group must not bring it back, so it is an InvariantError.
type Write struct {
	Group ids.RangeID
	// Create makes a group that the log does not hold. Ignored, deterministically, where the log already holds
	// state of the group, whatever it is (a split replayed: rule E2, docs/invariants.md). The other parts of the
	// Write take effect all the same, so what belongs to the beginning alone goes into Create.
	Create *Create
	// Reset replaces the group's whole log: it now begins after Index at Term (a snapshot was applied), and all
	// up to Index is committed. It makes the group where there is none. Ignored where the log begins just there
	// already; any other place at or below the commit index is an InvariantError.
	Reset *Position
	// Entries follow each other and truncate whatever the group had at and after the first one's index. A gap, an
	// index at or below the truncated position, or one that is already committed is an InvariantError. The log
	// keeps the entries in its cache: they must not be changed any more.
	Entries []*raftpb.Entry
	// HardState, when not nil, replaces the group's. A term that falls or a second vote in one term is an
	// InvariantError; a lower commit index is ignored.
	HardState *raftpb.HardState
	// Commit is repeated in every frame that appends entries (rule E3). The highest one ever seen counts.
	Commit ids.Index
	// Truncate drops entries at and below Index, whose term it must name. What is truncated is committed. Truncating
	// where it is truncated already, or a group that is not there, changes nothing.
	Truncate *Position
	// Meta is a record of the group that survives until replaced; nil leaves it, empty removes it.
	Meta []byte
	// Destroy forgets the group: entries, hard state, meta.
	Destroy bool
}

// Position is a place in a group's log.
type Position struct {
	Index ids.Index
	Term  ids.Term
}

// Create says how a group begins: its log after Index at Term, its commit index at Index, its hard state's term at
// Term with no vote.
type Create struct {
	Position
	Meta []byte
}

// StoreRecord is a record of the store as a whole: the newest value of each kind and key survives.
type StoreRecord struct {
	Kind  byte
	Key   uint64
	Value []byte // empty removes it
}

// Batch is written as one frame: after a crash it is there whole or not at all.
type Batch struct {
	Groups []Write // in this order; a group may appear more than once
	Store  []StoreRecord
}

// Log is the log of all Raft groups of one store.
//
// Append, Sync, MarkEnd and Compact are called by one goroutine at a time (the store's log writer); all reads are
// safe beside them. An error of Append or Sync is fatal to the store: after a failed write or sync nothing is known
// about what is on the disk, so every later call fails with the same error (ErrFailed). An InvariantError alone
// leaves the log as it was.
type Log interface {
	// Append writes a frame and updates the in-memory index: reads see it at once, a crash may lose it
	// until Sync returns.
	Append(b *Batch) error
	// Sync makes everything appended so far durable.
	Sync() error
	// MarkEnd syncs, and then writes and syncs an empty frame that says so. From then on damage to anything
	// appended before is told apart from a torn tail (rule E6). The store calls it when it has been idle for a
	// moment; where nothing was appended since the last time it does nothing.
	MarkEnd() error
	// Group is a group's state; ok is false where the log has none.
	Group(id ids.RangeID) (g GroupState, ok bool)
	// Bounds are a group's Before.Index and Last; both 0 where the log has none.
	Bounds(id ids.RangeID) (before, last ids.Index)
	// Groups lists the ids of all groups, ascending.
	Groups() []ids.RangeID
	// Entries reads [lo, hi), at most maxBytes but at least one entry. raft.ErrCompacted, raft.ErrUnavailable
	// as in raft.Storage; ErrNoGroup; *CorruptionError. Entries are immutable.
	Entries(id ids.RangeID, lo, hi ids.Index, maxBytes uint64) ([]*raftpb.Entry, error)
	// Term of an entry, or of the position before the first. Errors as for Entries.
	Term(id ids.RangeID, i ids.Index) (ids.Term, error)
	// StoreRecords lists the living records of a kind, by ascending key.
	StoreRecords(kind byte) []StoreRecord
	// Size is the bytes of all segments; GroupSize the bytes of a group's living entries.
	Size() int64
	GroupSize(id ids.RangeID) int64
	// Compact drops or rewrites segments whose frames are mostly dead; called by the log writer after
	// truncations. It may append and sync. The work of one call is bounded; the next one goes on.
	Compact() error
	// Close marks the end and closes the files. The log can't be used afterwards.
	Close() error
}

// GroupState is what the log holds of a group, without its entries.
type GroupState struct {
	// HardState is the caller's own copy, never nil. Its commit index is the highest that any frame named.
	HardState *raftpb.HardState
	// Before is the position before the first entry.
	Before Position
	Last   ids.Index
	Meta   []byte // not to be changed
}
