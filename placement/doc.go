// Package placement decides where replicas should be: it is the placement driver.
//
// The driver runs on the node that holds the lease of the system range, for one term of office: from when
// that node becomes the leaseholder until it no longer is. Nodes report to it by heartbeats; it answers
// with the map of the cluster and with operators, each the next small step for one range (add a learner,
// swap voters in one joint change, transfer the lease, split). Whether a range is too large or too busy, and where it would
// be split, its leaseholder knows and says in its report; when, and which id the new range gets, the driver decides.
//
//	        heartbeats: ranges led, progress of their replicas, replicas held
//	nodes ------------------------------------------------------> cluster (the map of this office)
//	  ^                                                              | view (a value)
//	  |   map, operators, gone replicas                              v
//	  +----------------------------------------------- core <----- Plan (the allocator, pure)
//	                                                     |
//	                        office, ids, stores, keyspaces, holds (what must last)
//	                                                     v
//	                                           Records: keyspace 0
//
// # What it guarantees
//
//   - It is never needed for safety. Only a range's own log changes its replicas and bounds; an operator
//     carries the epochs it was decided on, and the range refuses it at any other. A wrong driver, a deposed
//     one or two at a time can make a cluster slow, never wrong.
//   - Ids (ranges, stores, keyspaces) are never handed out twice: the record that reserves them is durable
//     first. A node id keeps its store id for ever.
//   - It acts on old news of no range: descriptors are ordered by epoch and then by term, a leader's numbers by
//     term and applied index, a node's heartbeats by its clock.
//   - At most one operator per range is under way. It ends when its effect is seen in the range's own report,
//     or after a timeout, after which the range is left alone for a growing while.
//   - It plans no removal or promotion unless a quorum of voters is up and caught up before and after. A dead
//     store's replica is replaced first and removed in the same joint change; without a spare store it stays.
//   - Nobody is declared dead within a grace period after the office began: silence is measured by this node's
//     monotonic clock, since it took office.
//   - A hold of a timestamp is granted when every store that is heard from has confirmed it, and outlives the
//     driver. Stores keep to its deadline without one (holds.go).
//   - Balance ends: a move or transfer begins only where it lowers the sum of the squares of all counts, with
//     all that is under way counted as done.
//
// # What it never does
//
// It has no goroutine, no clock and no I/O of its own (the deadlines of holds go by the clocks that it hears of), knows no store, no Raft and no network, and remembers
// no intentions: what a half-done change is for can be read from the range (a learner beside enough voters is
// a move) or from a record (a keyspace marked as being created), so the next driver goes on from there.
//
// # The term of office
//
// Start reads the office number (record id/office), writes the next one on condition that it has not changed,
// and only then reads the other records. Every later write is conditional on the office number, in the same
// atomic write: all records lie in the system range, which is never split. So the writes of a deposed driver,
// however late they arrive, change nothing. A write whose outcome is not known ends the office (OnLost); the
// next one reads what came of it. Map versions begin with the office number, so that versions of different
// drivers differ.
//
// # How a server runs it
//
//   - When this node becomes leaseholder of range 1: NewDriver, Start. When it no longer is, or after OnLost:
//     Stop, and forget it. If it still leads range 1 after OnLost, make another, after a short pause.
//   - Call Tick every 100 to 250 ms. Pass every Heartbeat, Join and AllocateIDs of all nodes, this one's
//     included, to it; *api.NotDriverError and *api.UnavailableError mean: try again, perhaps elsewhere.
//   - Send a heartbeat about once a second, at once when a led range's descriptor or leadership changed, and
//     after HeartbeatResponse.next_ms if that is set.
//   - Execute each operator of an answer against the range it names, unless one of that range is under way: it
//     is handed out again until its effect is seen. There is nothing to report but the next heartbeat. Remove the replicas named gone, if their id is below next_replica_id.
//   - Pass the holds of an answer to the store, unless their version is below one heard before, and report the
//     version that the store keeps to with every heartbeat, 0 if that has no holds.
//   - Merge the routes of an answer into what the node knows, by epoch and term, rather than replacing it.
//   - Records: reads and writes of range 1 on this store, linearizable, with a session, so that a retried write
//     is applied once. Eraser: WriteRequest.delete_span on whatever range holds the span now.
//
// # Locks
//
// One: Driver.mu. It is held for computing only; I/O and callbacks run after it is released, so either may
// call the driver again, and a Records that answers before it returns is fine.
//
// Start reading at Driver and core (driver.go), then cluster.go (what is believed), allocator.go (what is
// decided), operators.go (what is under way). sim_test.go plays whole clusters under a seed.
package placement
