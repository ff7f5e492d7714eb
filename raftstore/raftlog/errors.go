package raftlog

import (
	"errors"
	"fmt"

	"github.com/locuskv/locus/internal/ids"
)

var (
	// ErrFailed wraps the first failed write or sync: the log takes nothing more until it is opened again.
	ErrFailed = errors.New("raftlog: failed before, and takes no more writes")
	// ErrClosed is returned by every method of a closed log.
	ErrClosed = errors.New("raftlog: closed")
	// ErrNoGroup is returned by reads of a group that the log does not hold.
	ErrNoGroup = errors.New("raftlog: no such group")
)

// CorruptionError says that bytes that were once durable are not what was written. Nothing is repaired: a replica
// that forgot what it acknowledged or whom it voted for would be worse than one that is gone.
type CorruptionError struct {
	File   string
	Offset int64
	// Group is the group whose entry is damaged, 0 where that isn't known.
	Group  ids.RangeID
	Reason string
}

func (e *CorruptionError) Error() string {
	group := ""
	if e.Group != 0 {
		group = fmt.Sprintf(" (range %v)", e.Group)
	}
	return fmt.Sprintf("raftlog: %s is damaged at offset %d%s: %s", e.File, e.Offset, group, e.Reason)
}

// FormatError says that a file was written in a format that this version does not know.
type FormatError struct {
	File    string
	Version uint32
	Known   uint32
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("raftlog: %s has format version %d, and this program knows only version %d: "+
		"it was written by a newer version of Locus, or it is damaged", e.File, e.Version, e.Known)
}

// InvariantError says that a Write contradicts what the log holds of the group. Nothing of its batch was written.
type InvariantError struct {
	Group  ids.RangeID
	State  string // what the log holds
	Reason string
}

func (e *InvariantError) Error() string {
	return fmt.Sprintf("raftlog: write to range %v refused: %s; the log has %s", e.Group, e.Reason, e.State)
}
