package engine

import (
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Op is one write of a batch.
type Op struct {
	Key    []byte
	Value  []byte // ignored for a delete
	Delete bool
}

// Batch is written whole or not at all, at one sequence. A key stands in it at most once.
type Batch struct {
	Seq ids.Seq // above every sequence committed before; assigned by the caller
	Ops []Op
}

// Limits bound one batch; a larger one is refused by Apply with *LimitError before anything is written.
type Limits struct {
	MaxBatchBytes int64
	MaxBatchOps   int64
}

// Engine is versioned ordered storage: a version of a key is the apply sequence of the batch that wrote it.
//
// Apply is called by one goroutine at a time; everything else is safe for concurrent use. Any error of
// Apply, Sync or an iterator is fatal to the store: the caller stops, it never retries.
type Engine interface {
	// Apply commits the batches in order and returns when all are visible. What it wrote survives a crash
	// only after Sync, and then only all batches up to a later one that survived may be missing or present
	// in any combination: see Undo.
	Apply(batches []Batch) error
	// Get reads the newest version of key at or below seq. The value is a copy that the caller owns.
	// found is false for a missing key and for a tombstone; version is then the tombstone's, or 0.
	Get(key []byte, seq ids.Seq) (value []byte, version ids.Seq, found bool, err error)
	// NewIterator iterates over span as of seq. Close it.
	NewIterator(o IterOptions) Iterator
	// Sync makes everything that Apply returned for durable (files and directory).
	Sync() error
	// Undo takes every key back to what it was at seq, in batches at fresh sequences above every sequence
	// in the engine, and returns the last sequence it used. For opening after a crash, before anything
	// else. Afterwards (seq, last] is an undone interval: no reader may choose a sequence inside it.
	Undo(seq ids.Seq) (last ids.Seq, err error)
	// MaxSeq is the highest sequence the engine holds.
	MaxSeq() ids.Seq
	// SetDiscard lets versions be dropped that are neither above seq nor the newest at or below it. It must
	// be called after every open, and never falls.
	SetDiscard(seq ids.Seq)
	// Limits of a batch.
	Limits() Limits
	// Size estimates the bytes on disk.
	Size() int64
	Close() error
}

// IterOptions choose what an iterator sees.
type IterOptions struct {
	Span    keys.Span // engine keys
	Seq     ids.Seq   // versions above are not seen
	Reverse bool
	// Tombstones: deleted keys are seen too, with Deleted() true.
	Tombstones bool
	// Since: only keys whose chosen version is above it are seen. 0: all.
	Since ids.Seq
}

// Iterator is positioned on the first key when made. Key and Value are valid until the next call.
type Iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Version() ids.Seq
	Deleted() bool
	Next()
	Seek(key []byte) // forward: first key >= key; reverse: last key < key
	Err() error
	Close()
}
