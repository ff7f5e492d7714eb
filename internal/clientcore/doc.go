// Package clientcore is what a client of Locus decides, without doing any of it: where a request goes,
// when and whether it is sent again, under which session and number, and what its caller is told.
//
// It has no I/O, no goroutine, no clock and no randomness of its own. Events go in, effects come out:
//
//	Submit Cancel                      ┌──────┐   Sends    requests to stores
//	Deliver Fail LinkDown         ───▶ │ Core │ ─▶ Done    results and errors of operations
//	RoutesArrived RoutesFailed Tick    └──────┘   Routes   a span whose routes are wanted
//	                                              Wake     when to call Tick at the latest
//
// Package client drives one Core with gRPC streams; the simulation drives many with a simulated network,
// so that what is tested under faults is what runs in production. A Core is not safe for concurrent use.
// Equal events in equal order, with an equal Rand, have equal effects.
//
// What it guarantees:
//
//   - A command (a write, or a call on a key) takes effect at most once, however often it is sent: all its
//     attempts carry the same session, number and time of the first attempt (rules B1 and B2,
//     docs/invariants.md), and it goes whole to the range that holds its first key now (rule B5).
//   - A session's floor is never above a number whose command somebody still waits for.
//   - Every operation ends exactly once, at its deadline at the latest. A command whose outcome is not
//     known ends as *api.AmbiguousError or api.ErrSessionExpired (rule B6); every other error of a command
//     means that it did nothing, but for api.ErrResultNotKept, which says that it was applied.
//   - The token only rises, and covers every timestamp that an answer has shown to the client.
//
// What it never does: it never gives up a command because of a retry budget (the budget only slows
// retries down), never renews a first attempt, and never takes an older route for a newer one.
//
// Start with Core, then op.go for the life of an operation and deliver.go for what each error leads to.
package clientcore
