// Package storesim runs whole clusters of raftstore stores, with clients and faults, in one goroutine from one seed.
//
// What runs is production's code but for four parts: the executor (internal/sim instead of a pool of workers), the
// network, the clocks, and the disks (vfs.Memory under the real log, engine.Memory instead of Badger). nemesis.go does
// the harm: messages, crashes, pauses, clocks, disks; placement.go splits and moves ranges and replaces stores.
//
// After each step that may matter, what must hold at every moment is checked (observe.go), and the store's own
// invariants stop a run at once. A run ends with the faults healed, every store up and everything at rest. Then replicas must
// hold equal state (I2), descriptors tile the key space (I3), the history of each key is linearizable (P1, judged by
// bench/history) and a counter has counted every acknowledged call once (P4). A ledger of what clients wrote and saw
// (ledger.go) judges consistent cuts (P3), the order of timestamps (P2) and expiry; each voter must be able to lead (leads.go).
//
// Campaign plays many seeds, on several goroutines; `locus sim` is its command line. docs/testing.md lists the faults, the
// judges, and the mutations that they catch (mutations_test.go).
//
// Start reading at run.go.
package storesim
