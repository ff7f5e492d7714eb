package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// Code identifies a typed error on the wire. Codes are stable for ever: new ones are added at the end.
type Code uint32

// Codes. 0 is never sent.
const (
	CodeInternal             Code = 1
	CodeInvalidArgument      Code = 2
	CodeNotFound             Code = 3
	CodeNotOneGroup          Code = 4
	CodeSessionExpired       Code = 5
	CodePermission           Code = 6
	CodeFuelExhausted        Code = 7
	CodeAmbiguous            Code = 8
	CodeConditionFailed      Code = 9
	CodeOverloaded           Code = 10
	CodeTimestampUnavailable Code = 11
	CodeSpanUnavailable      Code = 12
	CodeLimit                Code = 13
	CodeFunction             Code = 14
	CodeFunctionNotFound     Code = 15
	CodeRangeNotFound        Code = 16
	CodeEpochMismatch        Code = 17
	CodeNotLeaseholder       Code = 18
	CodeKeyspaceNotFound     Code = 19
	CodeKeyspaceExists       Code = 20
	CodeClusterMismatch      Code = 21
	CodeClockOffset          Code = 22
	CodeUnavailable          Code = 23
	CodeResultNotKept        Code = 24
	CodeNotDriver            Code = 25
	CodeDeadline             Code = 26
	CodeRetry                Code = 27
	CodeDiskFull             Code = 28
	CodeContinuation         Code = 29
)

// Sentinels, to be told apart with errors.Is.
var (
	// ErrNotFound: the key does not exist.
	ErrNotFound = errors.New("locus: key not found")
	// ErrNotOneGroup: a batch or a read-write call touched keys of more than one group.
	ErrNotOneGroup = errors.New("locus: the keys are not of one group")
	// ErrSessionExpired: the command's first attempt is older than the session window, so whether it took
	// effect can no longer be known.
	ErrSessionExpired = errors.New("locus: session expired; the outcome of the command is not known")
	// ErrPermission: the caller, or the function, may not do this.
	ErrPermission = errors.New("locus: permission denied")
	// ErrFuelExhausted: a function used up its bound of CPU and was stopped; nothing it did remains.
	ErrFuelExhausted = errors.New("locus: function exhausted its fuel")
	// ErrResultNotKept: the command was applied by an earlier attempt, whose result was too large to keep.
	ErrResultNotKept = errors.New("locus: command was applied by an earlier attempt; its result was not kept")
)

// InvalidArgumentError says what was wrong with a request.
type InvalidArgumentError struct{ Reason string }

func (e *InvalidArgumentError) Error() string { return "locus: " + e.Reason }

// InternalError is a failure that has no better type; it names the node's own words.
type InternalError struct{ Reason string }

func (e *InternalError) Error() string { return "locus: internal error: " + e.Reason }

// AmbiguousError says that a command may or may not have taken effect. It wraps the cause, for example
// the context's error.
type AmbiguousError struct{ Cause error }

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("locus: outcome unknown: %v", e.Cause)
}
func (e *AmbiguousError) Unwrap() error { return e.Cause }

// ConditionError says that a conditional write found something else.
type ConditionError struct {
	Key       []byte // user key in client errors, global key between nodes
	Exists    bool
	Value     []byte
	Timestamp hlc.Timestamp
}

func (e *ConditionError) Error() string {
	if !e.Exists {
		return fmt.Sprintf("locus: condition failed: key %q does not exist", e.Key)
	}
	return fmt.Sprintf("locus: condition failed: key %q has another value, written at %s", e.Key, e.Timestamp)
}

// OverloadedError says that a queue is full; nothing was done.
type OverloadedError struct {
	What       string
	RetryAfter time.Duration
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("locus: %s is overloaded; retry after %s", e.What, e.RetryAfter)
}

// DiskFullError says that a store with a replica of the range has less free space than it must keep. Puts and
// read-write calls are refused until there is room again; nothing was done.
type DiskFullError struct {
	Store uint64
	Free  int64 // bytes
	Limit int64 // bytes: below it a store is nearly full
}

func (e *DiskFullError) Error() string {
	return fmt.Sprintf("locus: the disk of store s%d is nearly full: %d bytes are free, less than the limit of %d", e.Store, e.Free, e.Limit)
}

// ContinuationError says why a run can't be gone on with from a continuation: it was altered, is of another cluster,
// has expired, or is of another run than the request's.
type ContinuationError struct{ Reason string }

func (e *ContinuationError) Error() string {
	return "locus: the continuation can't be used: " + e.Reason
}

// TimestampUnavailableError says that a timestamp can't be read (any more, or here); Oldest is the
// oldest that works.
type TimestampUnavailableError struct {
	Timestamp hlc.Timestamp
	Oldest    hlc.Timestamp
	Reason    string
	// Elsewhere: the replica that says so can't be read as far back as the cluster keeps timestamps; another replica
	// of the range may show this one (Refusals).
	Elsewhere bool
}

func (e *TimestampUnavailableError) Error() string {
	return fmt.Sprintf("locus: timestamp %s can't be read: %s; the oldest that can is %s", e.Timestamp, e.Reason, e.Oldest)
}

// SpanUnavailableError says that part of a span could not be reached.
type SpanUnavailableError struct {
	Span  keys.Span
	Cause error
}

func (e *SpanUnavailableError) Error() string {
	return fmt.Sprintf("locus: span %s is unavailable: %v", e.Span, e.Cause)
}
func (e *SpanUnavailableError) Unwrap() error { return e.Cause }

// LimitError names a limit that a request broke.
type LimitError struct {
	What  string // "key length", "value length", ...
	Limit int64
	Got   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("locus: %s is %d, more than the limit of %d", e.What, e.Got, e.Limit)
}

// FunctionError is an error that a function returned on purpose, or a trap. Nothing it did remains.
type FunctionError struct {
	Function string
	Code     int64
	Message  string
}

func (e *FunctionError) Error() string {
	return fmt.Sprintf("locus: function %q failed (%d): %s", e.Function, e.Code, e.Message)
}

// PermissionError says what a function tried to reach outside of what it may. Nothing it did remains, and
// what it asked for never reached its memory. errors.Is(err, ErrPermission) holds.
type PermissionError struct {
	Function string
	Action   string   // "read" or "write"
	Key      []byte   // user key or the start of a scan, cut at 64 bytes
	Prefixes [][]byte // of the keys that the function may read, or write; none: it may touch nothing
}

func (e *PermissionError) Error() string {
	may := "nothing"
	for i, p := range e.Prefixes {
		switch {
		case i == 0:
			may = fmt.Sprintf("keys that begin with %q only", p)
		default:
			may = fmt.Sprintf("%s or %q only", strings.TrimSuffix(may, " only"), p)
		}
	}
	return fmt.Sprintf("locus: permission denied: function %q may not %s the key %q; it may %s %s", e.Function, e.Action, e.Key, e.Action, may)
}

// Is makes the error one of ErrPermission.
func (e *PermissionError) Is(target error) bool { return target == ErrPermission }

// FuelError says which function used up which bound; nothing it did remains. errors.Is(err, ErrFuelExhausted) holds.
type FuelError struct {
	Function string
	Limit    uint64        // instructions; 0 if it was time that ran out
	Bound    time.Duration // of an entry with the host's work for it; 0 if it was fuel that ran out
}

func (e *FuelError) Error() string {
	if e.Limit > 0 {
		return fmt.Sprintf("locus: function %q was stopped when it had used up its fuel, %d instructions", e.Function, e.Limit)
	}
	return fmt.Sprintf("locus: function %q was stopped at its bound of time, %s", e.Function, e.Bound)
}

// Is makes the error one of ErrFuelExhausted.
func (e *FuelError) Is(target error) bool { return target == ErrFuelExhausted }

// FunctionNotFoundError names a function or version that a node does not have.
type FunctionNotFoundError struct {
	Name    string
	Version uint32 // 0: any
	Node    string
}

func (e *FunctionNotFoundError) Error() string {
	v := ""
	if e.Version != 0 {
		v = fmt.Sprintf(" version %d", e.Version)
	}
	if e.Node == "" { // the cluster itself has none
		return fmt.Sprintf("locus: function %q%s not found", e.Name, v)
	}
	return fmt.Sprintf("locus: function %q%s not found on node %s", e.Name, v, e.Node)
}

// Route is where a range can be reached, as far as the sender knows.
type Route struct {
	Descriptor  *topology.Descriptor
	Leaseholder ids.StoreID // 0: not known
	Term        ids.Term    // in which Leaseholder led; orders hints
	Bytes       uint64      // approximate
	Records     uint64      // approximate
}

// RangeNotFoundError says that a store has no replica of a range. Routes may hold a cure.
type RangeNotFoundError struct {
	Range  ids.RangeID
	Routes []Route
}

func (e *RangeNotFoundError) Error() string {
	return fmt.Sprintf("locus: no replica of range %s here", e.Range)
}

// EpochMismatchError says that a request was made for bounds that are no longer the range's; Routes
// holds the descriptors of what lies there now.
type EpochMismatchError struct {
	Range  ids.RangeID
	Routes []Route
}

func (e *EpochMismatchError) Error() string {
	return fmt.Sprintf("locus: range %s has other bounds now", e.Range)
}

// NotLeaseholderError says that a replica does not lead; Leaseholder is who does, if known.
type NotLeaseholderError struct {
	Range       ids.RangeID
	Leaseholder ids.StoreID
	Routes      []Route
}

func (e *NotLeaseholderError) Error() string {
	return fmt.Sprintf("locus: not the leaseholder of range %s", e.Range)
}

// RetryError says that a command did nothing, or will be found done, when it is sent again under the
// same session and number.
type RetryError struct{ Reason string }

func (e *RetryError) Error() string { return "locus: retry: " + e.Reason }

// KeyspaceNotFoundError names a keyspace that does not exist.
type KeyspaceNotFoundError struct{ Name string }

func (e *KeyspaceNotFoundError) Error() string {
	return fmt.Sprintf("locus: keyspace %q does not exist", e.Name)
}

// KeyspaceExistsError names a keyspace that exists already.
type KeyspaceExistsError struct{ Name string }

func (e *KeyspaceExistsError) Error() string {
	return fmt.Sprintf("locus: keyspace %q exists already", e.Name)
}

// ClusterMismatchError says that two nodes are of different clusters.
type ClusterMismatchError struct{ Want, Got string }

func (e *ClusterMismatchError) Error() string {
	return fmt.Sprintf("locus: node is of cluster %s, not of %s", e.Got, e.Want)
}

// ClockOffsetError says that a timestamp was refused for being too far in the future.
type ClockOffsetError struct {
	Remote, Local hlc.Timestamp
	Max           time.Duration
}

func (e *ClockOffsetError) Error() string {
	return fmt.Sprintf("locus: timestamp %s is more than %s ahead of this node's clock (%s)", e.Remote, e.Max, e.Local)
}

// UnavailableError says that nobody could serve the request in time; it certainly did nothing.
type UnavailableError struct{ Reason string }

func (e *UnavailableError) Error() string { return "locus: unavailable: " + e.Reason }

// NotDriverError says that a node does not run the placement driver; Address is who may.
type NotDriverError struct{ Address string }

func (e *NotDriverError) Error() string { return "locus: this node does not run the placement driver" }

// DeadlineError is context.DeadlineExceeded across the wire, or context.Canceled if Canceled is set.
type DeadlineError struct {
	Reason   string
	Canceled bool
}

func (e *DeadlineError) Error() string {
	if e.Canceled {
		return "locus: canceled: " + e.Reason
	}
	return "locus: deadline exceeded: " + e.Reason
}

// Is makes errors.Is hold for the context's error that it stands for.
func (e *DeadlineError) Is(target error) bool {
	if e.Canceled {
		return target == context.Canceled
	}
	return target == context.DeadlineExceeded
}
