// Package invariant stops the process when something that must hold does not.
//
// A broken invariant means that memory or code can't be trusted any more. Going on could turn a crash,
// which Locus survives, into wrong data, which it does not: so Check panics, with the state that it is
// given, and nothing may recover from that to go on as before.
//
// Check is for conditions that are cheap to test; they stay on in production. Costly ones stand behind
// Enabled, which is a constant: true under -race and under the build tag locus_invariants, else false, and
// then the compiler removes them.
//
//	invariant.Check(ts > last, "I4: range %s: timestamp %s after %s", id, ts, last)
//	if invariant.Enabled {
//		invariant.Check(sortedByKey(batch), "batch of %d records is out of order", len(batch))
//	}
//
// It is never for what a user, a peer or a disk can cause: those get errors.
package invariant
