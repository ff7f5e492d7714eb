// Command power mounts a file system in memory that loses, on command, what was not synced: power loss for processes that
// were killed, and can't lose it otherwise, because the kernel keeps what a killed process wrote.
//
//	power [-names-by-directory] [-capacity BYTES] MOUNTPOINT
//
// It mounts without help (mount(2); no fusermount), so it needs root and /dev/fuse, and supports shared mappings. It answers
// each line of its standard input with one line on its standard output, the first unasked:
//
//	(start)            ok, or an error and the end
//	cut                only what was synced is left
//	cut SEED           and any part of the rest, drawn from the seed
//	freeze             the next cut is of this moment, whatever is written and synced until then
//	capacity BYTES     so much fits on the disk from now on; what does not fails with ENOSPC, and statfs tells of it
//	fail-syncs         syncs fail with EIO, and what they did not write no later one does
//	heal-syncs         they no longer do
//	(end of input)     it unmounts and ends
//
// A cut unmounts and mounts again, which drops what the kernel cached; whoever still has a file open makes it fail. What
// counts as synced is said by package disk. A shared mapping's pages reach this process when the kernel writes them back:
// at a sync, and at the latest when the mount ends, where they are unsynced writes like others.
//
// It is a module of its own, so that nobody who builds Locus needs a FUSE library. Package bench/cluster starts it for whole
// nodes (bench/kill, TestPowerLoss), and the engine's model test for Badger alone (raftstore/engine, -engine.power).
package main
