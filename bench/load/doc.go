// Package load is a load generator for ordered key-value stores: it chooses keys, issues operations from many
// clients at once, and tells how long they took.
//
//	Options ──▶ Run ── workers (one goroutine per client)
//	             │       ├─ chooser    which key: uniform, zipfian, latest
//	             │       ├─ Target     the store, behind four methods
//	             │       └─ recorder   HDR histograms per kind of operation, errors per kind of error
//	             └──▶ Report           what came out; Second once a second meanwhile
//
// What it guarantees:
//
//   - The same Options and seed choose the same keys and operations, whatever the store, so that two stores
//     get the same work. Only how the clients interleave is up to the store.
//   - Nothing is left out because it was slow: every operation that is under way at the end of the measured time
//     is waited for, and its latency counted; the rate is of those that ended in that time. A latency above the
//     histogram's range (60 s) counts as that, and the maximum is exact.
//   - Every operation that failed is counted under its kind, and one of each kind is told in words. Its
//     duration is in no histogram: those are of what succeeded.
//   - In an open loop (Options.Rate) an operation's latency counts from when it was due, not from when a client
//     had time for it, so that a store which stalls can't hide it by being asked less (coordinated omission).
//
// It never does I/O: a Target does. Its subfolders are the targets and the programs' parts:
//
//	bench/load/locusload    Locus as a target, and loading it
//	bench/load/children     child processes that do not outlive their parent
//	bench/load/sidebyside   Locus and a peer in turns on one machine
//	bench/peers             etcd, as a server and as a target: a module of its own
//
// Start reading at Run, then worker.go.
package load
