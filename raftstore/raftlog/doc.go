// Package raftlog is the write-ahead log of all Raft groups of one store: entries, votes, terms, commit indexes, and
// what else of a replica or a store must never go back.
//
// # What it guarantees
//
//   - A batch is one frame: after a crash it is there whole or not at all, for all its groups together.
//   - What was appended before a Sync returned is there after every crash.
//   - What it returns is what was appended. Damage to anything that is provably durable is a *CorruptionError with
//     file and offset, at Open or when an entry is read; nothing is skipped or repaired.
//   - It refuses writes that contradict Raft, before anything is written: gaps, replaced committed entries, falling
//     terms, second votes, truncation beyond the log (*InvariantError).
//   - After a failed write or sync it takes nothing more (ErrFailed).
//
// # What it never does
//
// It starts no goroutine, reads no clock and draws no random numbers: on the file system in memory (internal/vfs) the
// same calls leave the same bytes. It knows nothing of ranges, replicas or what an entry says. It does not compress.
//
// # Files
//
// The log is a row of segments, numbered without gaps; the newest is written, and dropped from the oldest on.
//
//	segment k                                      segment k+1
//	+--------+-------+-------+-------+-----------+ +--------+-------+-------+------+-----------
//	| header | state | batch | batch | (zeros)   | | header | state | batch | mark | zeros ...
//	+--------+-------+-------+-------+-----------+ +--------+-------+-------+------+-----------
//	            |        \ one frame per Append                |              \ MarkEnd: all before
//	            \ all groups but their entries, all            \ equals what   is synced
//	              store records, at the segment's beginning      k adds up to
//
// Each segment begins with a copy of everything small. That is what makes dropping the segments before it safe, with
// no record of where the newest vote of some idle group lies; and it lets recovery compare what it has rebuilt with
// what the writer had in memory. Entries are where they were written, or where Compact has written them again.
//
// A segment gets its name only after the one before it and its own header and state are durable, so that there can
// be no crash after which anything but the end of the last segment is in doubt.
//
// # Where a tail may be cut
//
// Every frame says up to where the log was synced when it was written. A bad frame at offset x of the last segment
// is damage if any whole frame behind it says "synced beyond x", and else a torn tail that nobody was told of, which
// is overwritten with zeros (rule E6, docs/invariants.md). The last synced frame has none behind it; so a store that
// has nothing to do for a moment calls MarkEnd, as do Open and Close. A frame's checksum covers its segment's id and
// its offset: old or misplaced bytes are never taken for a frame.
//
// # In memory
//
// An index holds for each group its small state and one slot an entry (term, segment, offset, size); a cache bounded in
// bytes holds the newest entries of all groups. Reads that miss it read the file, and check each entry's own checksum,
// which covers group, index and term.
//
// # Goroutines and locks
//
// One goroutine writes (Append, Sync, MarkEnd, Compact, Close). One read-write lock guards the index and the list of
// segments; it is never held while a file is touched. Readers hold segments by a count, so that a dropped one stays
// open until they are done. No other lock is taken under it.
//
// Start reading at Log (raftlog.go), then log.go for the way down, recover.go for the way back, rules.go for the laws.
package raftlog
