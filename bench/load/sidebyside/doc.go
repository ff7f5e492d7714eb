// Package sidebyside measures Locus and etcd on one machine, in turns: three nodes of each as processes, the
// same keys, the same workloads, the same clients.
//
//	Run ── start      three Locus nodes, three etcd servers; loopback, data in one temporary directory
//	    ├─ fill       the keys: once into etcd, and into one keyspace of Locus for each number of ranges
//	    ├─ rounds     for each round and row: Locus, etcd, in an order that turns from round to round
//	    └─ Comparison medians, spreads, latencies, errors; memory and CPU of the nodes
//
// How it is kept fair:
//
//   - A row's turns follow each other within seconds, so that drift of the machine hits all of them, and no
//     store always comes first.
//   - The store that is not under test stays up, idle. Stopping it (SIGSTOP) would save the little that its
//     heartbeats take, and cost what a stopped clock does to leases and elections when it goes on. Instead each
//     turn waits until all nodes are quiet (see settle), so that one store's compaction is not done on the
//     other's time, and what the idle one still took is in the result.
//   - Both are driven by a process of their own kind, started anew for each turn, with the same flags.
//   - etcd runs with its defaults, its fsync above all; it is given the number of connections with which it
//     was fastest here (bench/peers).
//
// What it guarantees: whatever way Run ends, no process and no file of its remains (see bench/load/children).
// Nothing is left out of a result: a turn's errors are told, and one that can't be run ends the whole.
package sidebyside
