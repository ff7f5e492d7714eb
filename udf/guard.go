package udf

import (
	"bytes"
	"fmt"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Capabilities are what a function may reach within what its kind allows, and the limits that it sets itself.
type Capabilities = shape.Capabilities

// Guard is the view or transaction of one call as the function's capabilities let it be seen. Every access of native
// functions and of guests goes through it.
//
// Invariant: I13. What the function may not read is refused before the store is asked for it.
type Guard struct {
	function string
	can      *Capabilities
	view     StoreView
	tx       StoreTx // nil: the function may not write

	maxReads, maxWrites uint64 // bytes; 0 is no limit
	reads, writes       uint64
}

var _ StoreTx = (*Guard)(nil)

// NewGuard puts a guard before a view and a transaction, which are nil where the function's kind gives it none. The
// limits are in bytes; the function's own lower them, and 0 is none.
func NewGuard(function string, can *Capabilities, view StoreView, tx StoreTx, maxReads, maxWrites uint64) Guard {
	return Guard{
		function: function, can: can, view: view, tx: tx,
		maxReads: lower(maxReads, can.Limits.Reads), maxWrites: lower(maxWrites, can.Limits.Writes),
	}
}

// lower is the lower of two limits of which 0 is none.
func lower(a, b uint64) uint64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// Get reads a key that the function may read.
func (g *Guard) Get(key []byte) (value []byte, found bool, err error) {
	if !g.can.Reads.Allows(key) {
		return nil, false, denied(g.function, "read", key, g.can.Reads)
	}
	if value, found, err = g.view.Get(key); err != nil {
		return nil, false, err
	}
	if err := g.count("read", &g.reads, g.maxReads, len(key)+len(value)); err != nil {
		return nil, false, err
	}
	return value, found, nil
}

// CheckSpan refuses a span that has a key which the function may not read. It must lie within one of its prefixes: a
// span is not cut, for what a function makes of a part of what it asked for is no answer to what it was asked.
func (g *Guard) CheckSpan(span Span) error {
	if !g.can.Reads.Covers(span) {
		return denied(g.function, "read", span.Start, g.can.Reads)
	}
	return nil
}

// Scan reads a span that the function may read.
func (g *Guard) Scan(span Span, f func(batch []byte) bool) error {
	if err := g.CheckSpan(span); err != nil {
		return err
	}
	var over error
	err := g.view.Scan(span, func(batch []byte) bool {
		over = g.count("read", &g.reads, g.maxReads, len(batch))
		return over == nil && f(batch)
	})
	if over != nil {
		return over
	}
	return err
}

// Put writes a key that the function may write.
func (g *Guard) Put(key, value []byte, ttl time.Duration) error {
	if err := g.mayWrite(key, len(value)); err != nil {
		return err
	}
	return g.tx.Put(key, value, ttl)
}

// Delete deletes a key that the function may write.
func (g *Guard) Delete(key []byte) error {
	if err := g.mayWrite(key, 0); err != nil {
		return err
	}
	return g.tx.Delete(key)
}

func (g *Guard) mayWrite(key []byte, n int) error {
	if !g.can.Writes.Allows(key) {
		return denied(g.function, "write", key, g.can.Writes)
	}
	return g.count("written", &g.writes, g.maxWrites, len(key)+n)
}

func (g *Guard) count(what string, sum *uint64, limit uint64, n int) error {
	if *sum += uint64(n); limit > 0 && *sum > limit {
		return &api.LimitError{What: fmt.Sprintf("bytes %s by function %q", what, g.function), Limit: int64(limit), Got: int64(*sum)}
	}
	return nil
}

// CheckBatch refuses a batch with a record that a range or map function may not read, before any of it is handed to
// the function. Invariant: I13.
func CheckBatch(function string, can *Capabilities, batch []byte) error {
	if !can.Reads.Restricted {
		return nil
	}
	r := packed.NewReader(batch)
	for r.Next() {
		if !can.Reads.Allows(r.Key()) {
			return denied(function, "read", r.Key(), can.Reads)
		}
	}
	return nil // damage is for who reads the batch
}

// maxDeniedKey cuts the key of a denial: it only has to be recognised.
const maxDeniedKey = 64

func denied(function, action string, key []byte, may shape.Access) error {
	e := &api.PermissionError{Function: function, Action: action, Key: bytes.Clone(key[:min(len(key), maxDeniedKey)])}
	for _, p := range may.Prefixes {
		e.Prefixes = append(e.Prefixes, []byte(p))
	}
	return e
}

// CheckResult refuses a result, an accumulator or one output of a map function that is longer than the function's own
// limit on results. Of a map function it is each output: how many come of a batch depends on how the host cuts batches.
func CheckResult(function, what string, can *Capabilities, n int) error {
	if limit := can.Limits.Result; limit > 0 && uint64(n) > limit {
		return &api.LimitError{What: fmt.Sprintf("%s of function %q", what, function), Limit: int64(limit), Got: int64(n)}
	}
	return nil
}

// PrefixSpan is the span of the keys that begin with prefix.
func PrefixSpan(prefix []byte) Span { return shape.PrefixSpan(prefix) }

// Reads restricts a function to keys that begin with one of the prefixes; without any, it may read nothing. For a
// range or map function these are the records that it may be run over.
func Reads(prefixes ...string) Option { return func(o *shape.Options) { o.Reads.Restrict(prefixes) } }

// Writes restricts what a function may put and delete to keys that begin with one of the prefixes; without any, it
// may write nothing.
func Writes(prefixes ...string) Option { return func(o *shape.Options) { o.Writes.Restrict(prefixes) } }

// MaxResult limits a result, an encoded accumulator, or each output of a map function, in bytes.
func MaxResult(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Result = bytes } }

// MaxReads limits the keys and values that a call reads, in bytes.
func MaxReads(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Reads = bytes } }

// MaxWrites limits the keys and values that a call writes, in bytes.
func MaxWrites(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Writes = bytes } }

// Commutative says that calls of a read-write function on one key come to the same in any order.
func Commutative() Option { return func(o *shape.Options) { o.Commutative = true } }
