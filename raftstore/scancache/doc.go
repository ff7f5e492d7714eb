// Package scancache keeps, for one store, packed batches of spans that functions have scanned, in a bounded amount of memory:
// a function that runs again over data that has not changed pays for its own work, not for the engine's iterator.
//
// A block is all that readers find in a span, as a batch, with the sequences and timestamps for which that is true: from the
// newest version or tombstone in the span on, up to the first later write there, and between the nearest expiries on either
// side of the timestamp that it was read at. So one block serves every reader in between.
//
// # The protocol (rule D5)
//
//	applier: engine commits batches -> Applied(batches) -> their sequences become visible
//	reader:  takes its sequence -> Find; where there is nothing, Begin -> scans the engine at its sequence -> Add each block -> End
//
// Invariant: what a block says of its span is what the engine shows there at each sequence from the block's first up to, and
// without, its last. Two checks keep it, under one lock:
//
//   - Applied is called for everything that is written to the engine after the store is open, whoever writes it: entries,
//     snapshots, wipes. The first write to a key of a block that had no end ends it.
//   - A scan sees the versions above its own sequence that are there when it begins (engine.Facts.Later), and between Begin
//     and End each write to its span is noted. What is added ends at the lowest of these.
//
// So it matters neither which range a key belongs to nor what becomes of the range: splits, snapshots and wipes are writes, or
// nothing at all. Undone intervals lie below all blocks, because recovery is over when the cache is made.
//
// NB: a version that garbage collection has dropped is at or below the discard sequence, which no reader is below; so a
// tombstone that the scan no longer saw does not matter to any. Blocks begin at the discard sequence all the same.
//
// # Memory
//
// Blocks that have no end are disjoint, and lie in a tree by their starts; those that have ended, which only readers of the past
// want, in another. When there is too much, blocks that have ended go first, and then any, at random: a scan of more than
// there is room for, again and again, would find nothing at all if the oldest went.
//
// What it never does: read the engine, start a goroutine, or wait for anything but its lock.
//
// Start reading at Cache.Find.
package scancache
