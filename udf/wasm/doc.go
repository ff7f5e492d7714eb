// Package wasm runs WebAssembly functions on wazero. A Runtime belongs to a node; Compile checks a module
// and gives a Function, which is an udf.Runnable like every native one. docs/abi.md says, byte by byte,
// what a guest exports and imports.
//
//	Runtime ──Compile──► Function ──► pool ──► instance ──► guest's exports
//	           │                                 ▲   │ imports "locus": get, scan, put, delete, ...
//	           └ meter: counts instructions      └───┘ (host.go; pointers checked, results bounded)
//
// What it guarantees:
//   - A guest reaches nothing but its arguments and what its kind allows of the view or transaction it was
//     called with: no file, no network, no environment. Its clock is the call's timestamp and its
//     randomness comes from the call's ID.
//   - Of what its manifest does not let it read no byte reaches its memory (I13, udf.Guard and CheckBatch).
//   - Every pointer and length that a guest gives is checked against its memory. A bad one ends the call.
//   - Memory, tables, results, written bytes, open scans and log lines are bounded (Options, limits.go), and
//     so are the instructions of every entry into a guest: its fuel (package meter says how it is counted, limits.go what the host's
//     work costs). api.ErrFuelExhausted says that it was used up.
//   - A guest never keeps Go's garbage collector, or the end of its caller's context, waiting for longer than a slice of
//     meter.Slice instructions: 0.1 to 1 ms, or one instruction that moves all of its memory (16 MiB: 2 ms).
//   - A trap, an exit, or the end of fuel or time discards the instance. An instance serves one call or one accumulator
//     at a time, and a range run begins with a fresh accumulator.
//   - No more than Options.Workers guests run at once on a node, and as many more in optimistic mode, so that they never
//     keep every processor from what keeps the cluster alive for longer than a slice.
//   - The memory of all instances is bounded by Options.PoolBytes, as long as what is in use leaves room.
//
// What it never does: it shares no instance between functions, runs no start section, and never holds a
// worker while it waits for an instance, nor while an accumulator waits for its next batch. It looks at no clock while a guest
// computes: the time of the host's work is bounded at each access. Isolation rests on wazero's compiler.
//
// Locks: keeper.mu guards the idle instances of all pools and is never held while a guest runs, the store is asked, or an instance
// is closed.
//
// Start reading at function.go, then instance.go, fuel.go and host.go.
package wasm
