// Package rowcache keeps, for one store, the newest applied row of keys that were read or written lately, in a bounded
// amount of memory.
//
// A linearizable point read on a leaseholder wants one thing of the engine: the newest version of a key. A Cache
// answers that from memory, for present and for absent keys.
//
// # The protocol (rule D4)
//
//	applier: engine commits seq -> Apply(seq, key, row) for each of its data writes -> seq becomes visible
//	reader:  takes its sequence at -> Get(key, gen, at); on a miss reads the engine at at -> Fill(key, gen, at, ...)
//
// Invariant: a row in the cache is the newest that was handed to Apply, or newer than which nothing was. Three checks
// keep it, all of them under the lock of the key's shard:
//
//   - Apply is called for every data write of every entry in every role, before its sequence is visible. It replaces
//     the row if there is one, keeps it where there is none if the caller says so (a leaseholder does: what was just
//     written is often read next), and raises the shard's touched sequence either way.
//   - Fill keeps a row only if its read was at or above touched. A read that began before a write to the shard was
//     applied may have missed it; it comes too late, however the two interleave.
//   - Get returns a row only if its version is at or below the reader's sequence. A reader that began before a write
//     became visible does not see it.
//
// An absent key has the sequence of the read that missed it as its version: nothing is known of readers before it.
//
// NB: sequences are the store's and not the range's. A reader that takes the last sequence visible on its range is
// refused for ever where other ranges write and its own does not. It may take the last sequence that the *store* has
// published instead, if it looks that up before it takes the state of its range: the range has nothing between the two.
//
// gen names a lineage of applied state: whatever changes a range's data without Apply (a snapshot, a wipe) makes a new
// gen, under which nothing is found of before.
// A reader asks and fills under the gen that its range had at its sequence: one that reads the past from before a
// snapshot under the present gen would be answered wrong. Rows of dead gens leave by eviction. Whether a row has expired is for
// the caller to judge (rule C7).
//
// # Memory
//
// Rows lie in shards, each with a lock, a ring of bytes and an index of hashes to offsets, none of which holds a
// pointer: the garbage collector sees two slices per shard. A ring is filled in the order of arrival, and its oldest row
// makes room for the next one, unless it was read since it was written there: then it gets a second place (CLOCK; FIFO
// with second chance). Rings and indexes start empty and grow by doubling; while one is copied, the old one stands
// beside it. Otherwise New's bound covers all: keys, values, headers, index, and what deleted rows leave behind.
//
// What it never does: read the engine, start a goroutine, wait for anything but a shard's lock, or hold more than one.
//
// Start reading at Cache; then shard.put and shard.evict.
package rowcache
