// Package disk is a file system in memory that knows what a loss of power would leave of it.
//
// Every file and directory has two states: the one that programs see, and the one that is durable. A sync moves what it
// covers from the first to the second; Cut drops the first, but for what its mode lets survive by chance.
//
// What becomes durable, and what a cut may keep beside that:
//
//	content    Sync of the file; a cut keeps or loses each page apart, and tears some into sectors of 512 bytes
//	size       Sync of the file; a cut keeps the old one or the new one
//	names      all creations, removals and renames are one journal, in order. Sync of a directory makes it durable up
//	           to the last change of that directory; Sync of a file up to the last one that names it, Datasync up
//	           to its creation, because a new file's inode is in the journal beside its name.
//	           A cut keeps some more of it, from the beginning on, and never a later change without an earlier one
//
// The journal is how ext4, XFS and Btrfs treat names, as far as Locus and Badger rely on it. With Names set to
// InDirectoriesOnly the sync of a file does not touch the journal, which is the least that POSIX promises.
//
// It can be full: writes and allocations beyond its capacity fail with ENOSPC, what has its place already can be written anew. And
// its syncs can be made to fail with EIO (FailSyncs).
//
// What it does not model: a disk that lies about a sync, reads that fail, the place that names and old versions of pages take, and bits that
// change by themselves.
package disk
