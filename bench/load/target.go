package load

import (
	"context"
	"errors"
)

// Target is a store under load. Its methods are safe for concurrent use, and end by themselves when the store
// does not answer. The slices they are given are read only and the caller's again afterwards.
type Target interface {
	// Get reads a key, linearizable.
	Get(ctx context.Context, key []byte) (value []byte, found bool, err error)
	// Put writes a key; it returns when the write is as durable as the store makes it.
	Put(ctx context.Context, key, value []byte) error
	// Scan reads up to n records from a key on, in key order, and returns how many there were.
	Scan(ctx context.Context, from []byte, n int) (int, error)
	// Increment adds one to the decimal number under a key, atomically; a missing key counts as 0. Attempts is
	// how often it was tried until nobody came in between: 1 at best.
	Increment(ctx context.Context, key []byte) (attempts int, err error)
}

// Error is a target's error with the kind that it is counted as.
type Error struct {
	Kind  string // a word or two
	Cause error
}

func (e *Error) Error() string { return e.Cause.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Kinds of errors that this package itself knows. Targets add their own.
const (
	KindTimeout  = "timeout"
	KindNotFound = "not found" // a key that was loaded, or whose insert was acknowledged
	KindOther    = "other"
)

// errNotFound is the cause of KindNotFound.
var errNotFound = &Error{Kind: KindNotFound, Cause: errors.New("a loaded key is not there")}

// kindOf names the kind of an error.
func kindOf(err error) string {
	if e := new(Error); errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return KindTimeout
	}
	return KindOther
}
