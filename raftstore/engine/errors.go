package engine

import (
	"errors"
	"fmt"

	"github.com/locuskv/locus/internal/ids"
)

// Why a directory could not be opened as an engine; wrapped in *OpenError.
var (
	// ErrUnusable: the directory cannot be created, listed or written, or is not one.
	ErrUnusable = errors.New("directory is not usable")
	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("directory is in use by another process")
	// ErrNewerFormat: a later release wrote the directory; this one would misread it.
	ErrNewerFormat = errors.New("directory was written in another format")
	// ErrCorrupt: what the directory holds cannot be what an engine wrote.
	ErrCorrupt = errors.New("directory is damaged")
)

// ErrOpenIterators is returned by Close while iterators are open: closing would pull the files from
// under them.
var ErrOpenIterators = errors.New("engine: closed while iterators are open")

// LimitError refuses a batch, before anything of the call is written.
type LimitError struct {
	What  string // what is too large: "batch bytes", "batch operations", "key bytes", "value bytes"
	Seq   ids.Seq
	Got   int64
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("engine: %s of the batch at sequence %d are %d, the limit is %d", e.What, e.Seq, e.Got, e.Limit)
}

// KeyError refuses a key that no engine can hold: an empty one, or one of the reserved prefix.
type KeyError struct {
	Key    []byte
	Reason string
}

func (e *KeyError) Error() string { return fmt.Sprintf("engine: key %q %s", e.Key, e.Reason) }

// SequenceError refuses a batch whose sequence is not above everything committed before.
type SequenceError struct {
	Seq  ids.Seq
	Last ids.Seq
}

func (e *SequenceError) Error() string {
	return fmt.Sprintf("engine: batch at sequence %d does not follow sequence %d", e.Seq, e.Last)
}

// DiscardedError refuses a read at a sequence whose versions may be gone. A reader that registers its
// sequence before the discard sequence is chosen never sees it.
type DiscardedError struct {
	Seq     ids.Seq
	Discard ids.Seq // the oldest sequence that can be read
}

func (e *DiscardedError) Error() string {
	return fmt.Sprintf("engine: read at sequence %d, but versions below %d may be gone", e.Seq, e.Discard)
}

// OpenError says why a directory is not an engine.
type OpenError struct {
	Dir    string
	Detail string // empty, or who holds it, or which formats met
	Err    error  // one of the sentinels above, or what Badger said
}

func (e *OpenError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("engine: open %s: %v", e.Dir, e.Err)
	}
	return fmt.Sprintf("engine: open %s: %v: %s", e.Dir, e.Err, e.Detail)
}

func (e *OpenError) Unwrap() error { return e.Err }
