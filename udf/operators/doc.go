// Package operators answers queries on the nodes: filter, group and aggregate the records of a span, or project them,
// without any function being written. It is two functions that every node has, a range function and a map function, and
// so everything else that runs have comes with them: one timestamp, progress, continuations, explain, the scan cache.
//
//	Query ──compile──► plan (once per query and node) ──► accumulator per part of a range ──Encode──► gateway: Merge, Result
//	        │ parser of expr-lang/expr                     │ packed records
//	        └ closures, for an allowed part of it          └ fields: JSON (gjson), binary layouts, parts of the key
//
// What it guarantees:
//   - Counts, distinct groups, minima, maxima, and sums, means and variances of integers are exact, and depend neither on
//     the order of merges nor on how the data is cut. So do quantiles depend on nothing but the data. Sums of floats may
//     differ in the last bits. Quantiles, distinct counts and the counts of frequent values are within the errors that their
//     columns state; the latter are exact where there are few values, and depend on how the data is cut where not.
//   - What is missing is null, and aggregates skip it, as in SQL. So they do what is of the wrong type, and count that.
//   - An expression is refused with the place where it is wrong. What it costs a record is bounded (expression.go), and so
//     is the memory of the groups (plan.go).
//   - A record costs no allocation, unless it begins a group, or has texts with escapes or beyond ASCII to be changed.
//
// What it never does: it validates no JSON beyond the fields that are asked for, and runs no expression by a virtual
// machine.
//
// Start reading at Functions, then plan.go, accumulator.go and expression.go.
package operators
