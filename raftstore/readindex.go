package raftstore

import (
	"encoding/binary"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// readWaiter is somebody who wants to know that this replica leads now, and to be called once what was
// committed at that moment is visible here.
type readWaiter struct {
	// confirmed is called with nil once the round came back and index is applied, on the Raft side or the
	// apply queue; or with the error.
	confirmed func(error)
	index     ids.Index
}

// readRounds shares ReadIndex rounds between readers: one round is under way, whoever comes meanwhile waits
// for the next, because a round only covers what was asked before it began. It belongs to the Raft side.
type readRounds struct {
	next    []*readWaiter
	current []*readWaiter
	// first and id are the ids of the round under way: it is asked again under a fresh one, and the answer to any will
	// do. They are unique in the life of the process: a reused one could be answered by an old round.
	first, id uint64
	asked     int // ticks since it was asked
	// since is the store's monotonic time before it was first asked.
	since    time.Duration
	underWay bool
	// applying wait for their index to be applied.
	applying []*readWaiter
}

// maxWaitingReads bounds the readers that wait for one round.
const maxWaitingReads = 1 << 16

// confirmLeadership calls f once this replica is known to have led after the call, and everything is visible here
// that was acknowledged then, or that somebody who has seen token may have seen; or with an error. Under a lease it
// calls f at once.
func (r *Replica) confirmLeadership(token hlc.Timestamp, f func(error)) {
	if index, ok := r.underLease(token); ok {
		if index == 0 {
			f(nil)
			return
		}
		r.post(raftInput{run: func() {
			if r.raft.stopped {
				f(r.notLeaseholder())
				return
			}
			r.raft.reads.applying = append(r.raft.reads.applying, &readWaiter{confirmed: f, index: index})
			r.raft.reads.release(r, r.snapshot().applied.Index)
		}})
		return
	}
	r.post(raftInput{run: func() {
		if r.raft.stopped {
			f(r.notLeaseholder())
			return
		}
		s := r.snapshot()
		if !s.isLeader {
			f(r.notLeaseholder())
			return
		}
		r.wake()
		if len(r.raft.reads.next) >= maxWaitingReads {
			f(&api.OverloadedError{What: "reads of range " + r.id.String(), RetryAfter: retryAfter})
			return
		}
		r.raft.reads.next = append(r.raft.reads.next, &readWaiter{confirmed: f})
	}})
}

// advance begins a round if none is under way. Before the leader has applied an entry of its term nothing is
// asked: Raft would only queue it.
func (q *readRounds) advance(r *Replica) {
	if len(q.next) > 0 {
		q.begin(r)
	}
}

// begin asks for those who wait, if there are any: the answer renews the lease.
func (q *readRounds) begin(r *Replica) {
	if q.underWay || !r.snapshot().leaseholder {
		return
	}
	q.current, q.next = q.next, nil
	q.underWay = true
	q.since = r.store.opts.Monotonic() // NB: before the question (rule D3)
	q.ask(r)
	q.first = q.id
}

// kick lets a new leaseholder's readers begin.
func (q *readRounds) kick(r *Replica) { r.post(raftInput{run: func() {}}) }

// ask starts the round, under a fresh id.
func (q *readRounds) ask(r *Replica) {
	q.id = r.store.nextReadID()
	q.asked = 0
	r.raft.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, q.id))
	r.store.metrics.readRound()
}

// tick asks again when an answer is overdue: rounds are lost silently.
func (q *readRounds) tick(r *Replica) {
	if !q.underWay {
		return
	}
	if q.asked++; q.asked >= r.store.opts.HeartbeatTicks*2 {
		q.ask(r)
	}
}

// confirmed ends the round: its readers go on once its index is applied.
func (q *readRounds) confirmed(r *Replica, rs raft.ReadState) {
	if !q.underWay || len(rs.RequestCtx) != 8 {
		return
	}
	if id := binary.LittleEndian.Uint64(rs.RequestCtx); id < q.first || id > q.id {
		return // a round that was given up
	}
	r.grantLease(q.since)
	done := q.current
	q.current, q.underWay = nil, false
	for _, w := range done {
		w.index = ids.Index(rs.Index)
	}
	q.applying = append(q.applying, done...)
	q.release(r, r.snapshot().applied.Index)
}

// release calls whoever waited for an index that is now applied.
func (q *readRounds) release(r *Replica, applied ids.Index) {
	kept := q.applying[:0]
	for _, w := range q.applying {
		if w.index <= applied {
			w.confirmed(nil)
		} else {
			kept = append(kept, w)
		}
	}
	clear(q.applying[len(kept):])
	q.applying = kept
}

// idle says whether nobody waits.
func (q *readRounds) idle() bool { return !q.underWay && len(q.next) == 0 && len(q.applying) == 0 }

// fail ends every wait. Whoever waits for an applied index only has its round confirmed already, and goes
// on.
func (q *readRounds) fail(err error) {
	waiting := append(q.current, q.next...)
	q.current, q.next, q.underWay = nil, nil, false
	for _, w := range waiting {
		w.confirmed(err)
	}
}

// close ends every wait of a replica that stops.
func (q *readRounds) close(err error) {
	q.fail(err)
	applying := q.applying
	q.applying = nil
	for _, w := range applying {
		w.confirmed(err)
	}
}
