// Package check puts a cluster of real processes under load, hurts it, and judges what clients were told: the library
// behind "locus check" and the tests of bench/kill.
//
//	Load      clients: unique keys, counters (a function, in
//	          both its modes), registers, reads, snapshots       ─┐
//	Nemesis   kills, pauses, partitions, transfers, splits,       ├─▶ Load.Judge ─▶ *Violation
//	          from a seed (partitions by cluster.Links;          ─┘
//	          clients reach every node)
//
// What has to hold: every acknowledged unique key is there, with its value and timestamp, and found by every read that
// begins later; counters are exact, and each sum they returned follows from the one before; registers are linearizable
// (porcupine, "undecided" counts as a failure); timestamps agree with real time on each key, and with each client's order
// over all keys; all replicas are equal. Snapshots of all ranges have exactly the writes at or below their timestamp (P3),
// which is not below anything that was acknowledged before it was asked for (C2), and are the same to whoever reads them
// again, by scans or gets, from later leaseholders (cuts.go). And the cluster has to go on: a range that takes no write for Pace.Patience
// after a fault is over is an error too.
//
// NB: operations outlast every fault, so that hardly an outcome stays unknown.
//
// Start with Run.
package check
