// Package transport carries Raft messages and snapshots between stores over gRPC.
//
// Outgoing (Transport, which implements raftstore.Transport):
//
//	Send(to, envelopes) ─▶ peer queue (bounded in bytes) ─▶ one goroutine a peer ─▶ one Raft stream
//	SendSnapshot(to, …) ─▶ bounded waiting list ─▶ at most 2 at a time ─▶ a Snapshot stream each, rate-limited
//
// Incoming (Receiver): the bodies of the Raft and Snapshot services.
//
// Guarantees: messages from one store to another arrive in the order in which they were sent, each at most
// once, as long as the stream lives; a frame holds what piled up while the previous one was being sent, so
// that an idle pair of stores waits for nothing. A snapshot arrives whole and checked (CRC32C of each chunk
// and the total length) or not at all. Every stream names the cluster and the store it is meant for, and a
// receiver that is another one refuses it.
//
// It never blocks its caller, never grows without bound (what does not fit is dropped and counted: Raft
// sends again), never retries a snapshot, and never judges what it carries.
//
// Locks: Transport.mu before peer.mu; neither is held during I/O.
package transport
