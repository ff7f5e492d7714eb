// Package local runs one WebAssembly function without a node, on records that are given to it: for those who write
// functions (locus fn test). The runtime, its bounds and the function's capabilities are those of a node; the store
// is a sorted list in memory.
//
//	report, err := local.Run(ctx, module, local.Options{Key: []byte("visits"), Argument: []byte("1"), Records: records})
//	// report.Result, report.Writes, report.Logs, report.Fuel
//
// What it guarantees: a call sees the keys of its group and nothing else, as on a node, and what it wrote is in the
// report only if it succeeded. A range function is folded over several parts of the records, whose accumulators are
// merged, so that a wrong merge shows.
//
// What it never does: it keeps nothing, and shows nothing of what many nodes add: leader changes, splits, other calls.
package local
