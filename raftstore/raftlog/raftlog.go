package raftlog

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// Write is what one group adds to the log in one frame. All parts are optional; together they are atomic.
type Write struct {
	Group ids.RangeID
	// Create makes a group that the log does not hold, with its log beginning after Index at Term and the
	// commit index at Index. Ignored, deterministically, where the log already holds state of the group
	// (a split replayed: PROTOCOLS E2).
	Create *Create
	// Reset replaces the group's whole log: it now begins after Index at Term (a snapshot was applied).
	Reset *Position
	// Entries follow each other and truncate whatever the group had at and after the first one's index.
	Entries []*raftpb.Entry
	// HardState, when not nil, replaces the group's.
	HardState *raftpb.HardState
	// Commit is repeated in every frame that appends entries (PROTOCOLS E3).
	Commit ids.Index
	// Truncate drops entries at and below Index.
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

// Create says how a group begins, and why.
type Create struct {
	Position
	Meta []byte
}

// StoreRecord is a record of the store as a whole: the newest value of each kind survives.
type StoreRecord struct {
	Kind  byte
	Key   uint64
	Value []byte // empty removes it
}

// Batch is written as one frame: after a crash it is there whole or not at all.
type Batch struct {
	Groups []Write
	Store  []StoreRecord
}

// Log is the log of all Raft groups of one store.
//
// Append and Sync are called by one goroutine at a time (the store's log writer); all reads are safe
// beside them. An error of Append or Sync is fatal to the store.
type Log interface {
	// Append writes a frame and updates the in-memory index: reads see it at once, a crash may lose it
	// until Sync returns.
	Append(b *Batch) error
	// Sync makes everything appended so far durable.
	Sync() error
	// Group is a group's state; ok is false where the log has none.
	Group(id ids.RangeID) (g GroupState, ok bool)
	// Groups lists the ids of all groups, ascending.
	Groups() []ids.RangeID
	// Entries reads [lo, hi), at most maxBytes but at least one entry. raft.ErrCompacted, raft.ErrUnavailable
	// as in raft.Storage. Entries are immutable.
	Entries(id ids.RangeID, lo, hi ids.Index, maxBytes uint64) ([]*raftpb.Entry, error)
	// Term of an entry, or of the position before the first.
	Term(id ids.RangeID, i ids.Index) (ids.Term, error)
	// StoreRecords lists the living records of a kind, by ascending key.
	StoreRecords(kind byte) []StoreRecord
	// Size is the bytes of all segments; GroupSize the bytes of a group's living entries.
	Size() int64
	GroupSize(id ids.RangeID) int64
	// Compact drops or rewrites segments whose frames are mostly dead; called by the log writer after
	// truncations. It may append.
	Compact() error
	Close() error
}

// GroupState is what the log holds of a group, without its entries.
type GroupState struct {
	HardState raftpb.HardState
	// Before is the position before the first entry.
	Before Position
	Last   ids.Index
	Meta   []byte
}
