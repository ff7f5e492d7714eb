// Package server puts one node together and is the one place where the rooms of Locus meet. Start opens a
// node, Stop ends it; cmd/locus and tests do nothing else.
//
//	clients ──gRPC──▶ locusService ─▶ batchStream ─▶ dispatcher ─▶ raftstore.Store ◀─ evaluator ◀─ functions
//	                       │                             │ checks        │                            ▲
//	                       ├─▶ gateway ─▶ peers ─────────┴─▶ rangeRunner ┘ (range functions)          │ modules
//	                       └─▶ driverCall ─▶ office (placement.Driver) ◀─ reporter (heartbeats)       │
//	nodes ────gRPC──▶ nodeService ─▶ transport.Receiver ─▶ store     │        │                   catalog
//	                                                                 └─▶ system (keyspace 0) ◀────────┘
//
// Where to start reading: node.go (the order of things), then dispatch.go (a request), reporter.go and
// office.go (the node and the placement driver), functions.go (a function), gateway (a range function).
//
// # Start
//
// Each step needs the ones before it; what fails undoes them, and nothing on disk is damaged.
//
//  1. listen: gRPC, HTTP, and a trial of the gossip port, before any data is touched.
//  2. open the directory: lock, format, Raft log, engine (directory.go).
//  3. identify: the log's identity; else join a cluster; else begin one. With Options.Join never the last.
//  4. assemble: clock, connections, transport, WebAssembly runtime.
//  5. open the store: recovery (undo, replay). From here Raft could send, but nothing comes in.
//  6. gossip.
//  7. serve gRPC.
//  8. loops: ticks, the office of the placement driver, heartbeats, functions that were ready before (preparer.go).
//  9. serve HTTP: who finds it open finds a node that has started. Ready it is when /readyz says so.
//
// # Stop
//
//  1. not ready any more; leases are handed to other voters, for at most 2 s.
//  2. the office closes, heartbeats end, gossip says that the node leaves.
//  3. gRPC takes no more; requests under way have 2 s, range functions until they notice.
//  4. the transport closes, ticks end, the store takes its last checkpoint.
//  5. HTTP ends, so that a stop can be watched.
//  6. workers, runtime, connections, engine, log and the directory's lock, in this order.
//
// # What it guarantees
//
//   - A failed write or sync, or damage found on disk, ends the node (Wait): what it would acknowledge
//     after that could be lost.
//   - Every queue is bounded: a Batch stream by requests and bytes (batch.go), the transport by bytes, range
//     functions and pure calls by slots, their streams by pages (gateway/stream.go). Beyond its bound a stream is not read, a message dropped, a request
//     refused. The disk is bounded too: ranges with a replica on a store that is nearly full take no puts (disk.go).
//   - Node-to-node calls name their cluster and are refused by another one; clients can't write the system
//     keyspace.
//
// What it never does: it decides nothing about placement (package placement does), nothing about
// consistency (raftstore does), and takes nothing that gossip says for more than a hint.
//
// # Locks
//
// Each component has at most one mutex, named mu, and holds it for memory only: never while it calls
// another component or does I/O. So there is no order to keep, but for catalog.turn, which is held
// during a whole change of the functions and before catalog.mu, and functions.mu, which comes before the locks of a
// WebAssembly function that is closed.
package server
