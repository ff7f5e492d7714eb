// Package gateway runs a range function over a span of any number of ranges, at one timestamp.
//
//	span ─▶ timestamp: the caller's, or fresh: the highest clock of the span's leaseholders and the token
//	     ─▶ segments: the span, tiled by the cluster map, in key order
//	     ─▶ RunRange on each segment's leaseholder, a bounded number at a time; on another replica, if the leaseholder's
//	        does not reach back to the timestamp
//	     ─▶ accumulators merged in key order, as soon as all before them are there
//	     ─▶ progress now and then; in the end the result
//
// A map function has no accumulators: its outputs are handed on page by page (stream.go).
//
// Guarantees: every key of the span is visited exactly once at the timestamp (promise P8). A segment, or a page
// of one, is done whole or not at all: an accumulator is taken only from an answer that came back complete. What a split, a
// move or a leader change interrupted is tiled again and redone, alone. A part of the span that nobody is
// known to hold is asked for again and in the end reported as *api.SpanUnavailableError; it is never skipped.
//
// It never repeats what failed for a reason of the function's or the caller's own, and never redoes segments
// that are done.
//
// A run is one goroutine (run.loop) that owns all its state, and one short-lived goroutine for each segment
// in flight, which reports over a channel; there are no locks.
package gateway
