// Package vfs is the few file operations that durable parts of Locus need, behind an interface small enough
// to be simulated honestly.
//
// # What it guarantees
//
// Two implementations answer alike (one conformance test runs against both):
//
//   - OS: real files. Sync is fdatasync on Linux, SyncDir an fsync of the directory, Preallocate fallocate.
//   - NewMemory: a deterministic file system in memory that knows what was synced and what was not.
//     Memory.Crash returns the disk as a machine might find it after losing power: an arbitrary part of what
//     was not synced is gone, in pieces of 512 bytes, and directory changes without a SyncDir may be undone.
//     Faults can be injected into any operation, and bits flipped.
//
// The rules that a caller must follow, because the memory file system holds it to them:
//
//	what                         is durable after
//	bytes written, file's size   File.Sync
//	a name created or removed    FS.SyncDir of its directory
//	a rename                     FS.SyncDir of the directory (of both, if they differ); atomic always
//
// After a failed Sync nothing is known about the bytes it should have saved, and a later Sync that succeeds
// says nothing about them either (Linux marks the pages clean): a caller must treat it as fatal.
//
// # What it never does
//
// It buffers nothing, retries nothing, and has no working directory, permissions, links or times.
//
// Start reading at FS and File.
package vfs
