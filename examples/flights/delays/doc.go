// Package delays is the arithmetic of the flights example: an exact, mergeable summary of delays per
// origin airport. The WebAssembly guest and the program that checks it both use it, so it imports nothing
// that would make a guest large: no fmt, no encoding/json, no reflection.
//
// A summary counts, for each origin, how many flights had each delay in whole minutes. Everything else
// follows from the counts: integer sums, and percentiles by the nearest rank. So a merge adds counts, and
// the result does not depend on how the data was split.
//
// Start with Accumulator; scan.go finds the delay in a record without parsing JSON.
package delays
