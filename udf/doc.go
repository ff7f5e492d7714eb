// Package udf runs functions where the data lives: it declares what a function is, holds the functions
// that are compiled into a node, and gives the server one way to run them, whether they are native Go or
// WebAssembly (package udf/wasm).
//
// Whoever writes a native function uses Pure, ReadOnly, ReadWrite, Range or Map and hands a Registry to the
// server:
//
//	square := udf.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil })
//	registry, err := udf.NewRegistry(square)
//
// The same function body builds into a WebAssembly guest with package udf/guest, whose types are these.
//
//	server ──Runnable──► native (this package) ──► func(ctx, Tx, In) (Out, error)
//	  │                  udf/wasm.Function     ──► guest instance
//	  └── StoreView, StoreTx: what the server lets a call see (user keys only)
//
// What it guarantees:
//   - A panic of a native function is an error of that call (*api.FunctionError), never of the node.
//   - An error of the store during a call ends the call with that very error, whatever the function made of
//     it, so that a swallowed error never commits half of a call.
//   - A function is called with the codec it was declared with, or not at all.
//   - A function reads and writes what its options (a guest: its manifest) allow and nothing else; what it is
//     denied, the store is not asked for (Guard, I13).
//   - Range functions get an accumulator of their own per run; nothing is shared between runs.
//
// What it never does: it bounds neither the time nor the memory of a native function (who compiles code
// into a node vouches for it; WebAssembly is bounded), keeps no state between calls, and starts no
// goroutine.
//
// Start reading at Runnable, then native.go and guard.go.
package udf
