// Package raftstore keeps many ranges on one store: each range is a Raft group over the store's one log and one
// engine, with a sequencer that orders and evaluates its writes.
//
// # What it guarantees
//
// A command that was answered without an error is in the log of a quorum, synced, and took effect exactly once; a
// linearizable read sees every command that was answered before it began; a read at a timestamp sees exactly the
// entries at or below it, on whatever replica. docs/invariants.md lists the invariants (I1 to I12) and rules (A1
// to G) that comments here refer to.
//
// # What it never does
//
// It never reads a clock but through Options.Clock, never starts a goroutine, never sleeps, and never blocks a
// worker on another's work: everything is a step on a queue (Executor). Production runs the queues on a Pool; the
// simulation runs them all in one goroutine, in an order drawn from a seed. It knows nothing of gRPC, of
// membership, of placement, or of what functions are.
//
// # The parties
//
//	 commands                    messages, ticks
//	    |                              |
//	sequencer --- proposal ---> Raft side (drive) ------> Transport
//	(QueueEval)                 (QueueRaft)  |    \
//	    ^                         ^   ^      |     storage messages
//	    |                         |   |   entries       |
//	 accepted entries             |   |      |          v
//	    |                         |   +------|----- logWriter (QueueLog): one frame, one fsync
//	    +---- applier (QueueApply): engine <-+
//	                |
//	             readers (QueueRead, QueueReadCall): engine at the range's visible sequence
//
// Start reading at sequencer.go, then driver.go, logwriter.go and apply.go; then split.go, snapshot.go with
// ingest.go, checkpoint.go with recover.go, retire.go and destroy.go; clocks.go for whose time counts; retain.go with
// holds.go for how long history is kept.
//
// # Locks
//
// Order: Store.mu, then Replica.mu, then holds.mu or history.mu. sequencer.mu, inbox, logWriter.mu and applier.mu
// are leaves: nothing is locked under them but a queue's own lock; clockWatch.mu is one but for the clock's.
package raftstore
