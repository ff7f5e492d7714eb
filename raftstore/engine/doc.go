// Package engine is the versioned ordered storage under a store: one engine per store, shared by all of
// its ranges.
//
// A version of a key is the store's own apply sequence, not a timestamp. Each applied entry of a range is
// one Batch, committed at the next sequence, and holds all that the entry changes: data, the range's
// applied state, its sessions. So
//
//   - an entry is visible, and survives a crash, whole or not at all;
//   - a reader fixes one sequence and sees one state of everything, for as long as it likes;
//   - a replica that was removed can be wiped and filled again, and nothing of its former life shows:
//     deletes are versions like any other;
//   - the way from a timestamp to a sequence is the history of one key (History).
//
// # What survives a crash
//
// Nothing here is synced on the write path: durability is the Raft log's, and the engine's recovery point
// stands there too. A checkpoint at sequence S is: every batch up to S applied, Sync, and S written to the
// log. After a crash the engine holds everything up to S, and of what followed any set of whole batches:
//
//	applied     1 2 3 ... S | S+1 S+2 S+3 S+4 S+5 ...
//	after power loss        |  x   .   x   x   .        whole, or gone, with holes
//	Undo(S)                 |  back to the state at S, by new batches on top
//
// Then the log is replayed from S. There is one recovery for an orderly stop, a killed process and power
// loss. Replaying over what is there instead would let a split or a session record of the surviving tail be
// seen by entries that came before it.
//
// # Badger, and where it is not trusted
//
// Badger runs in managed mode (OpenBadger). What was learned from its source and by experiment, release
// 4.9.6, and what follows from it here:
//
//   - DB.Sync leaves the logs of rotated memtables unsynced, so that a tail could be lost below a synced
//     beginning. Badger.Sync goes over all files; its comment says why that is enough.
//   - WriteBatch, and entries with versions of their own, give up atomicity. Apply uses one transaction
//     per batch with one commit version.
//   - A transaction is limited to 15% of a memtable, for ever and on every replica alike. Limits are
//     Badger's less a margin, judged before anything is written; an engine too small for MinBatchBytes
//     does not open.
//   - Values never go to the value log: MaxValueLen is below its threshold.
//   - Badger's iterators hide tombstones and walk every version of a key. Ours see all versions, choose
//     by themselves, and after eight versions of one key seek past it.
//   - Errors of flushes are only logged, and tables that can't be read are left out at open. The first
//     logged error stops the engine (BackgroundError); damage found at open is an error that names the file.
//   - A block whose checksum is wrong reads as if it were empty, silently, in reads and in compactions.
//     OpenBadger therefore checks every table first (verifyTables), and Verify does it on a live engine.
//     Damage that appears in between, on a table's first read since, is not noticed: the remaining gap.
//   - The log of a memtable is replayed up to its first damaged record and cut there, without an error.
//     Damage in the middle of an unflushed log is not noticed either.
//
// Compression is off: blocks are read from the mapped file without a copy, and the machine's two cores
// have better uses. For the same reason there is no block cache: the mapped file is one.
//
// # The in-memory twin
//
// Memory is the same interface without a disk, for simulation: deterministic, with faults on request, and
// with a Crash that keeps any set of unsynced batches. Package enginetest is what both must do.
//
// # What it never does
//
// It knows no ranges, no Raft and no clock. It never retries a failed write or sync: the first error is
// fatal to the store. It never reads below the discard sequence.
//
// Start with engine.go, then Apply and Sync in badger.go, then undo.go. value.go and scan.go know the form of
// users' records; history.go turns timestamps into sequences.
//
// Locks: Memory has one mutex. Badger's own locks are below everything here; Badger.discarding is held
// only around SetDiscard.
package engine
