// Package gateway runs a range function over a span of any number of ranges, at one timestamp.
//
//	span ─▶ timestamp: the caller's, or fresh: the highest clock of the span's leaseholders and the token
//	     ─▶ segments: the span, tiled by the cluster map, in key order (segment.go)
//	     ─▶ RunRange on each segment's leaseholder, a bounded number at a time; each does a part of it at once. On another
//	        replica, if the leaseholder's does not reach back to the timestamp
//	     ─▶ accumulators merged in key order, as soon as neighbours are there
//	     ─▶ progress now and then, with a continuation (checkpoint.go, token.go); in the end the result
//
// A map function has no accumulators: its outputs are handed on page by page (stream.go).
//
// Guarantees: every key of the span is visited exactly once at the timestamp (promise P8). A part of a
// segment is done whole or not at all: an accumulator, or a page, is taken only from an answer that came back complete. What a split, a
// move or a leader change interrupted is tiled again and redone, alone. What a continuation says is done is not done again
// by the gateway that goes on from it. A part of the span that nobody is
// known to hold is asked for again and in the end reported as *api.SpanUnavailableError; it is never skipped.
//
// It never repeats what failed for a reason of the function's or the caller's own, and never redoes parts
// that are done.
//
// A run is one goroutine (run.loop) that owns all its state, and one short-lived goroutine for each segment
// in flight, which reports over a channel; there are no locks.
package gateway
