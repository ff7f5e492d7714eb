package client

import (
	"errors"
	"fmt"

	"github.com/locuskv/locus/api"
)

// Sentinels, to be told apart with errors.Is.
var (
	// ErrNotFound: the key does not exist.
	ErrNotFound = api.ErrNotFound
	// ErrNotOneGroup: a batch or a call on a key or group touched keys of more than one group.
	ErrNotOneGroup = api.ErrNotOneGroup
	// ErrSessionExpired: the first attempt of a command is older than the session window (1 h by default), so
	// whether it took effect can no longer be known.
	ErrSessionExpired = api.ErrSessionExpired
	// ErrPermission: the caller, or the function, may not do this.
	ErrPermission = api.ErrPermission
	// ErrFuelExhausted: a function used up its bound of CPU; nothing it did remains.
	ErrFuelExhausted = api.ErrFuelExhausted
	// ErrResultNotKept: the command was applied by an earlier attempt, whose result was too large to keep.
	ErrResultNotKept = api.ErrResultNotKept
	// ErrClosed: the DB, snapshot or writer is closed.
	ErrClosed = errors.New("locus: closed")
)

// Errors with fields, to be told apart with errors.As.
type (
	// AmbiguousError says that a command may or may not have taken effect. It wraps the cause, for example the
	// context's error.
	AmbiguousError = api.AmbiguousError
	// OverloadedError says that a queue is full; nothing was done.
	OverloadedError = api.OverloadedError
	// DiskFullError says that a store of the range is nearly full: puts and calls that write are refused until there is
	// room, reads and deletes are not. It did nothing.
	DiskFullError = api.DiskFullError
	// LimitError names a limit that a request broke.
	LimitError = api.LimitError
	// FunctionError is an error that a function returned on purpose, or a trap. Nothing it did remains.
	FunctionError = api.FunctionError
	// FuelError says which function used up which bound: errors.Is(err, ErrFuelExhausted) holds.
	FuelError = api.FuelError
	// PermissionError says which key a function tried to reach outside of what its manifest allows:
	// errors.Is(err, ErrPermission) holds.
	PermissionError = api.PermissionError
	// FunctionNotFoundError names a function or version that a node does not have.
	FunctionNotFoundError = api.FunctionNotFoundError
	// InvalidArgumentError says what was wrong with a request.
	InvalidArgumentError = api.InvalidArgumentError
	// ContinuationError says why a run can't be gone on with from a Continuation.
	ContinuationError = api.ContinuationError
	// KeyspaceNotFoundError names a keyspace that does not exist.
	KeyspaceNotFoundError = api.KeyspaceNotFoundError
	// KeyspaceExistsError names a keyspace that exists already.
	KeyspaceExistsError = api.KeyspaceExistsError
	// UnavailableError says that nobody could serve the request; it did nothing.
	UnavailableError = api.UnavailableError
	// DeadlineError says that time ran out: errors.Is(err, context.DeadlineExceeded) holds.
	DeadlineError = api.DeadlineError
	// InternalError is a node's failure that has no better type.
	InternalError = api.InternalError
)

// ConditionError says that a conditional write found something else, and what.
type ConditionError struct {
	Key []byte
	// Exists says whether the key exists; Current is its record then.
	Exists  bool
	Current Item
}

func (e *ConditionError) Error() string {
	if !e.Exists {
		return fmt.Sprintf("locus: condition failed: key %q does not exist", e.Key)
	}
	return fmt.Sprintf("locus: condition failed: key %q has another value, written at %s", e.Key, e.Current.Timestamp)
}

// TimestampUnavailableError says that a timestamp can't be read any more; Oldest is the oldest that can.
type TimestampUnavailableError struct {
	Timestamp, Oldest Timestamp
	Reason            string
}

func (e *TimestampUnavailableError) Error() string {
	return fmt.Sprintf("locus: timestamp %s can't be read: %s; the oldest that can is %s", e.Timestamp, e.Reason, e.Oldest)
}

// SpanUnavailableError says that part of a span could not be reached. Start and End are keys as the cluster
// orders them: keyspace and bucket first.
type SpanUnavailableError struct {
	Start, End []byte
	Cause      error
}

func (e *SpanUnavailableError) Error() string {
	return fmt.Sprintf("locus: span [%q,%q) is unavailable: %v", e.Start, e.End, e.Cause)
}
func (e *SpanUnavailableError) Unwrap() error { return e.Cause }

// public turns an error of the cluster into the one that callers see. ks, which may be nil, is where keys
// are decoded.
func public(err error, ks *Keyspace) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *api.AmbiguousError:
		return &AmbiguousError{Cause: public(e.Cause, ks)}
	case *api.ConditionError:
		out := &ConditionError{Key: ks.userKey(e.Key), Exists: e.Exists}
		if e.Exists {
			out.Current = Item{Key: out.Key, Value: e.Value, Timestamp: Timestamp(e.Timestamp)}
		}
		return out
	case *api.TimestampUnavailableError:
		return &TimestampUnavailableError{
			Timestamp: Timestamp(e.Timestamp), Oldest: Timestamp(e.Oldest), Reason: e.Reason,
		}
	case *api.KeyspaceNotFoundError:
		if ks != nil {
			return &KeyspaceNotFoundError{Name: ks.name} // nodes know it by its number
		}
	case *api.SpanUnavailableError:
		return &SpanUnavailableError{Start: e.Span.Start, End: e.Span.End, Cause: public(e.Cause, ks)}
	}
	return err
}
