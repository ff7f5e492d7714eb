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
// MaxKeyLen and MaxValueLen bound its parts in the same way.
type Limits struct {
	MaxBatchBytes int64 // as Batch.Bytes counts
	MaxBatchOps   int64
}

// Engine is versioned ordered storage: a version of a key is the apply sequence of the batch that wrote it.
//
// Apply is called by one goroutine at a time; everything else is safe for concurrent use. Any error of
// Apply, Sync or an iterator is fatal to the store: the caller stops, it never retries.
type Engine interface {
	// Apply commits the batches in order and returns when all are visible. Before that a reader above them
	// may see a batch in part: readers choose sequences that Apply has returned for. Keys and values are the
	// caller's again afterwards.
	//
	// What it wrote is sure to survive a crash only after Sync. Of the batches since, each survives whole or
	// not at all, in any combination: see Undo.
	Apply(batches []Batch) error
	// Get reads the newest version of key at or below seq. The value is a copy that the caller owns.
	// found is false for a missing key and for a tombstone; version is then the tombstone's, or 0.
	// A seq below the discard sequence is refused with *DiscardedError, here and by iterators.
	Get(key []byte, seq ids.Seq) (value []byte, version ids.Seq, found bool, err error)
	// NewIterator iterates over span as of seq. Close it.
	NewIterator(o IterOptions) Iterator
	// Sync makes everything that Apply returned for durable (files and directory).
	Sync() error
	// Undo takes every key back to what it was at seq, in batches at fresh sequences above every sequence
	// in the engine, and returns the last sequence it used. For opening after a crash, before anything
	// else. Afterwards (seq, last] is an undone interval: no reader may choose a sequence inside it.
	// Versions at and below seq stay. It may be interrupted anywhere and run again; then, and after another
	// crash before the next checkpoint, the new interval replaces the one that began at the same seq.
	Undo(seq ids.Seq) (last ids.Seq, err error)
	// MaxSeq is the highest sequence the engine holds. After a reopening it may be lower than what was
	// applied: lost, or a tombstone that was dropped at or below the discard sequence.
	MaxSeq() ids.Seq
	// SetDiscard lets versions be dropped that are neither above seq nor the newest at or below it, and of
	// these also tombstones. Nothing is dropped before the first call after an open. It never falls: a lower
	// seq is ignored. It must not pass the checkpoint, or an Undo could not find what was there.
	SetDiscard(seq ids.Seq)
	// Reclaim frees the space of versions and tombstones that may be dropped, as far as they are in files. It may take
	// as long as writing the store's files anew, beside everything else.
	Reclaim() error
	// Limits of a batch.
	Limits() Limits
	// Size estimates the bytes on disk.
	Size() int64
	// Close is an orderly stop; nothing may be called afterwards. ErrOpenIterators while there are any.
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

// Record is what an iterator stands on. Key and Value are valid until the iterator's next call; Value is that of a record that is
// not deleted.
type Record struct {
	Key, Value []byte
	Version    ids.Seq
	Deleted    bool
}

// Iterator is positioned on the first key when made. Key and Value are valid until the next call.
type Iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Version() ids.Seq
	Deleted() bool
	// Record is all of these at once, for whoever wants them of many records.
	Record() Record
	Next()
	Seek(key []byte) // forward: first key >= key; reverse: last key < key
	// Later is the lowest version above Seq that the iterator has come past since the last call, of whatever key, shown or
	// not; 0: none. It may be too low, where a key has many. What is applied once the iterator is there need not be in it.
	Later() ids.Seq
	Err() error
	Close()
}
