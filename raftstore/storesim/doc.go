// Package storesim runs whole clusters of raftstore stores, with clients and faults, in one goroutine from one seed.
//
// What runs is production's code but for four parts: the executor (internal/sim instead of a pool of workers), the
// network, the clock, and the disks (vfs.Memory under the real log, engine.Memory instead of Badger). Crashes lose
// what was not synced, in part; messages are lost, doubled, delayed and reordered; stores are cut off one way or both.
//
// A run ends with the faults healed, every store up and everything at rest. Then replicas must hold equal state (I2),
// descriptors tile the key space (I3), the history of each key is linearizable (P1, judged by porcupine) and a
// counter has counted every acknowledged call once (P4). A ledger of what clients wrote and saw (ledger.go) judges
// consistent cuts (P3), the order of timestamps (P2) and expiry; each voter must be able to lead (leads.go). One leader per
// term (I1) and replica ids that are used once (I11) are checked throughout, and the store's own invariants stop a run at
// once. docs/testing.md lists the mutations that this was seen to catch.
//
// Start reading at run.go.
package storesim
