// Package wasm runs WebAssembly functions on wazero. A Runtime belongs to a node; Compile checks a module
// and gives a Function, which is an udf.Runnable like every native one. docs/abi.md says, byte by byte,
// what a guest exports and imports.
//
//	Runtime ──Compile──► Function ──► pool ──► instance ──► guest's exports
//	                                             ▲   │ imports "locus": get, scan, put, delete, ...
//	                                             └───┘ (host.go; pointers checked, results bounded)
//
// What it guarantees:
//   - A guest reaches nothing but its arguments and what its kind allows of the view or transaction it was
//     called with: no file, no network, no environment. Its clock is the call's timestamp and its
//     randomness comes from the call's ID.
//   - Of what its manifest does not let it read no byte reaches its memory (I13, udf.Guard and CheckBatch).
//   - Every pointer and length that a guest gives is checked against its memory. A bad one ends the call.
//   - Memory, tables, results, written bytes, open scans and log lines are bounded (Options, limits.go), and
//     so is the time of every entry into a guest: api.ErrFuelExhausted says that it was used up.
//   - A trap, an exit, or a time-out discards the instance. An instance serves one call or one accumulator
//     at a time, and a range run begins with a fresh accumulator.
//   - No more than Options.Workers guests run at once on a node, and as many more in optimistic mode, so that they never
//     keep every processor from what keeps the cluster alive for longer than a guest takes to look at its bound.
//
// What it never does: it shares no instance between functions, runs no start section, and never holds a
// worker while it waits for an instance, nor while an accumulator waits for its next batch. The time bound
// costs: a guest looks for it at every branch backwards (about 50 ns each), so guests with tight loops run
// ten times slower than they could. Isolation rests on wazero's compiler.
//
// Locks: pool.mu guards the idle list and is never held while a guest runs or the store is asked.
//
// Start reading at function.go, then instance.go and host.go.
package wasm
