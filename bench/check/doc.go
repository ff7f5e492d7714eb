// Package check puts a cluster of real processes under load, hurts it, and judges what clients were told: the library
// behind "locus check" and the tests of bench/kill.
//
//	Load      clients: unique keys, counters (a function), registers, reads ─┐
//	Nemesis   kills, pauses, partitions, transfers, splits, from a seed      ├─▶ Load.Judge ─▶ *Violation
//	          (partitions by cluster.Links; clients reach every node)       ─┘
//
// What has to hold: every acknowledged unique key is there, with its value and timestamp, and found by every read that
// begins later; counters are exact, and each sum they returned follows from the one before; registers are linearizable
// (porcupine, "unknown" counts as a failure); timestamps agree with real time on each key, and with each client's order
// over all keys; all replicas are equal. And the cluster has to go on: a range that takes no write for Pace.Patience
// after a fault is over is an error too.
//
// NB: operations outlast every fault, so that hardly an outcome stays unknown.
//
// Start with Run.
package check
