package raftstore

import (
	"slices"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/invariant"
	"github.com/locuskv/locus/internal/topology"
)

// command is one thing that waits in a sequencer.
type command struct {
	req *locuspb.Request // a write or a call; nil for the store's own commands
	// closeTo asks for an entry that closes this timestamp (0: none).
	closeTo hlc.Timestamp
	// closeNow asks for an entry that closes its own timestamp.
	closeNow bool
	// change makes the command a descriptor change, which goes alone (rule A2).
	change *descriptorChange
	// attempt is what a run of a call in optimistic mode has done (rule A7); nil for all others.
	attempt *attempt
	bytes   int
	done    func(*locuspb.Response)
}

// descriptorChange is a split or a replica change, asked for at an epoch.
type descriptorChange struct {
	epoch topology.Epoch
	// build makes the new descriptor (and a split's child) from the current one, or refuses.
	build func(current *topology.Descriptor) (left, right *topology.Descriptor, err error)
}

// retryAfter is when whoever was refused for too much load may try again.
const retryAfter = 50 * time.Millisecond

// fail answers a command with an error.
func (c *command) fail(err error) { c.done(&locuspb.Response{Error: api.ToProto(err)}) }

// answer is a command that was evaluated, with the response that it gets once its entry is applied.
type answer struct {
	cmd  *command
	resp *locuspb.Response
}

// inflight is one evaluated batch. Batches are answered in the order of their evaluation.
type inflight struct {
	base    uint64 // of its entry, or for a batch without an entry, of the next one
	entry   *batchEntry
	answers []answer
	// applied: the entry was accepted and is visible. read: for a batch without an entry, a leadership
	// check made after its evaluation has come back (rule A3).
	applied, read bool
}

func (f *inflight) complete() bool {
	if f.entry != nil {
		return f.applied
	}
	return f.read
}

// sequencer is the one queue of writes of a range, on its leaseholder. Commands are evaluated one after
// another against the engine and the overlay of what was proposed before; the writes of all that waited
// become one batch entry (docs/ARCHITECTURE.md, "The write path").
//
// Three parties touch it: whoever submits commands, the evaluation (its own queue), and the publication of
// applied entries. What they share is under mu; the rest belongs to the evaluation.
type sequencer struct {
	r     *Replica
	queue Queue // QueueEval

	mu struct {
		sync.Mutex
		waiting   []*command
		bytes     int
		scheduled bool
		inflight  []*inflight
		// open: commands are accepted. It is closed while this store is not the leaseholder.
		open bool
	}

	// The evaluation's own.

	term ids.Term // of office; 0 when not in office
	// generation names this run of evaluations to the Raft side: a proposal of an older one is not made.
	generation uint64
	// resumeAt: after a reset nothing is evaluated until this index is applied, so that whatever of the old
	// run is in the log has been decided.
	resumeAt ids.Index
	base     uint64
	lastTS   hlc.Timestamp
	closed   hlc.Timestamp
	overlay  *overlay
	sessions *sessionTable
	// applied lists entries whose writes may leave the overlay at the next evaluation (rule A4).
	leaving []*inflight
}

func newSequencer(r *Replica) *sequencer {
	return &sequencer{r: r, queue: r.store.exec.NewQueue(QueueEval), overlay: &overlay{}}
}

// submit queues a command, or refuses it.
func (q *sequencer) submit(c *command) {
	limits := &q.r.store.opts
	fenced := q.r.fenced(q.r.snapshot().desc)
	q.mu.Lock()
	switch {
	case !q.mu.open || fenced:
		q.mu.Unlock()
		c.fail(q.r.notLeaseholder())
		return
	case len(q.mu.waiting) >= limits.MaxQueuedCommands || q.mu.bytes+c.bytes > limits.MaxQueuedBytes:
		q.mu.Unlock()
		c.fail(&api.OverloadedError{What: "range " + q.r.id.String(), RetryAfter: retryAfter})
		return
	}
	q.mu.waiting = append(q.mu.waiting, c)
	q.mu.bytes += c.bytes
	q.scheduleLocked()
	q.mu.Unlock()
}

func (q *sequencer) schedule() {
	q.mu.Lock()
	q.scheduleLocked()
	q.mu.Unlock()
}

func (q *sequencer) scheduleLocked() {
	if !q.mu.scheduled {
		q.mu.scheduled = true
		q.queue.Post(q.step)
	}
}

// step evaluates one batch.
func (q *sequencer) step() {
	q.mu.Lock()
	q.mu.scheduled = false
	q.mu.Unlock()
	if q.term == 0 {
		return
	}
	for _, f := range q.leaving {
		q.overlay.drop(f.entry.Data, f.base)
	}
	q.leaving = q.leaving[:0]
	if q.sessions == nil {
		q.r.thaw(q.resumeAt)
	}
	q.r.store.noticeStep()
	v, desc, ok := q.begin()
	if !ok {
		return
	}
	defer q.r.store.holds.release(v.seq)
	q.r.store.yield()
	cmds, more := q.take()
	if len(cmds) == 0 {
		return
	}
	if cmds[0].change != nil {
		// It was taken because nothing is in flight: now, and perhaps not yet when the view was fixed (rule A2).
		desc = q.r.snapshot().desc
	}
	q.evaluate(cmds, v, desc)
	if more {
		q.schedule()
	}
}

// begin fixes the view of an evaluation in one step: role, bounds and visible sequence (rule A4). The sequence is held.
func (q *sequencer) begin() (*view, *topology.Descriptor, bool) {
	r := q.r
	published := ids.Seq(r.store.published.Load())
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := &r.mu.state
	if s.term != q.term || !s.leaseholder || s.frozen || s.transferring || s.ingesting || s.gone || r.fenced(s.desc) || !r.store.clock.Anchored() {
		return nil, nil, false
	}
	if s.applied.Index < q.resumeAt {
		return nil, nil, false
	}
	if q.sessions == nil { // first evaluation in office, or after a reset
		q.base, q.lastTS, q.closed = s.applied.Count, max(s.applied.TS, s.applied.Closed), s.applied.Closed
	}
	// The discard sequence may have passed what an idle range shows, and must not pass what is being read.
	return &view{store: r.store, seq: r.store.holds.acquire(s.visible), rows: s.rowsAt(published), overlay: q.overlay}, s.desc, true
}

// take removes the commands of the next batch from the queue: a descriptor change alone, others until the
// batch is full. It takes nothing while enough entries are in flight.
func (q *sequencer) take() (cmds []*command, more bool) {
	limits := &q.r.store.opts
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.waiting) == 0 || len(q.mu.inflight) >= limits.MaxInflightEntries {
		return nil, false
	}
	if len(q.mu.inflight) > 0 && (q.mu.waiting[0].change != nil || q.changingLocked() || !q.worthwhileLocked()) {
		return nil, false
	}
	n, size := 0, 0
	for n < len(q.mu.waiting) && n < limits.MaxEntryCommands {
		c := q.mu.waiting[n]
		if n > 0 && (c.change != nil || size+c.bytes > limits.MaxEntryBytes) {
			break
		}
		n, size = n+1, size+c.bytes
		if c.change != nil {
			break
		}
	}
	cmds = append(cmds, q.mu.waiting[:n]...)
	clear(q.mu.waiting[:n])
	q.mu.waiting = q.mu.waiting[n:]
	q.mu.bytes -= size
	return cmds, len(q.mu.waiting) > 0
}

// changingLocked says whether a descriptor change is in flight, behind which nothing is evaluated before it is applied (rule A2).
func (q *sequencer) changingLocked() bool {
	return slices.ContainsFunc(q.mu.inflight, func(f *inflight) bool { return f.entry != nil && f.entry.Kind != entryBatch })
}

// worthwhileLocked says whether what waits is enough for an entry beside those in flight: as many commands as these have,
// or as many bytes as an entry takes. So a few clients get an entry at once, and many share two large ones in turn instead
// of spreading over as many small ones as may be in flight: each costs every replica a message, a frame and a commit. The
// end of an entry in flight asks again.
func (q *sequencer) worthwhileLocked() bool {
	if q.mu.bytes >= q.r.store.opts.MaxEntryBytes {
		return true
	}
	n := 0
	for _, f := range q.mu.inflight {
		if f.entry != nil {
			n += len(f.answers)
		}
	}
	return len(q.mu.waiting) >= n
}

// putBack returns commands that found no room in an entry to the head of the queue.
func (q *sequencer) putBack(cmds []*command) {
	q.mu.Lock()
	defer q.mu.Unlock()
	invariant.Check(q.mu.open, "range %s: evaluated out of office", q.r.id) // only the evaluation's own queue closes it
	q.mu.waiting = append(append([]*command(nil), cmds...), q.mu.waiting...)
	for _, c := range cmds {
		q.mu.bytes += c.bytes
	}
	q.scheduleLocked()
}

// evaluate runs a batch and proposes what it writes.
func (q *sequencer) evaluate(cmds []*command, v *view, desc *topology.Descriptor) {
	s := q.r.store
	if q.sessions == nil {
		t, err := loadSessions(s.engine, q.r.id, v.seq)
		if err != nil {
			s.fatal(err)
			return
		}
		q.sessions = t
	}
	ts := max(s.clock.Now(), q.lastTS.Next())
	v.at, v.logged = ts, q.lastTS
	b := &batch{q: q, view: v, desc: desc, entry: &batchEntry{
		Kind: entryBatch, Term: q.term, Base: q.base, Bounds: desc.Epoch.Bounds, TS: ts,
		Closed: max(q.closed, ts.Add(-closeLag)),
	}}
	if c := cmds[0].change; c != nil {
		b.change(cmds[0])
	} else {
		for i, c := range cmds {
			if b.full() {
				q.putBack(cmds[i:])
				break
			}
			b.command(c)
		}
		b.finish()
		b.closing = b.closing || v.judged // an entry says what the answers take for granted
	}
	s.metrics.evaluate(len(cmds))
	if b.failed != nil {
		s.fatal(b.failed)
		return
	}
	if b.empty() {
		if len(b.answers) > 0 {
			q.answerUnwritten(b)
		}
		return
	}
	q.propose(b)
}

// propose sends a batch's entry on its way.
func (q *sequencer) propose(b *batch) {
	e := b.entry
	invariant.Check(e.TS > q.lastTS && e.TS > q.closed, "range %s: entry timestamp %s not above %s and closed %s (I4, I5)", q.r.id, e.TS, q.lastTS, q.closed)
	f := &inflight{base: e.Base, entry: e, answers: b.answers}
	q.base, q.lastTS, q.closed = e.Base+1, e.TS, e.Closed
	q.mu.Lock()
	q.mu.inflight = append(q.mu.inflight, f)
	q.mu.Unlock()
	q.r.store.yield()
	q.r.post(raftInput{proposal: &proposal{generation: q.generation, entry: e, data: appendEntry(nil, e)}})
}

// answerUnwritten answers a batch that writes nothing: once everything it may have seen in the overlay is
// applied, and after a leadership check made from now on (rule A3).
func (q *sequencer) answerUnwritten(b *batch) {
	f := &inflight{base: q.base, answers: b.answers}
	q.mu.Lock()
	q.mu.inflight = append(q.mu.inflight, f)
	q.mu.Unlock()
	q.r.confirmLeadership(0, func(err error) { // no token: the overlay has all that is committed and not applied
		q.mu.Lock()
		f.read = true
		if err != nil && slices.Contains(q.mu.inflight, f) {
			// Nothing was written. If leadership was lost, everything in flight fails; if there were too many readers,
			// only this batch does.
			for i := range f.answers {
				f.answers[i].resp = &locuspb.Response{Error: api.ToProto(err)}
			}
		}
		answers := q.popLocked()
		q.mu.Unlock()
		q.r.store.acknowledge(answers)
	})
}

// popLocked takes the answers of all batches that are complete, in order.
func (q *sequencer) popLocked() []answer {
	var out []answer
	for len(q.mu.inflight) > 0 && q.mu.inflight[0].complete() {
		out = append(out, q.mu.inflight[0].answers...)
		q.mu.inflight[0] = nil
		q.mu.inflight = q.mu.inflight[1:]
	}
	if len(out) > 0 && len(q.mu.waiting) > 0 {
		q.scheduleLocked()
	}
	return out
}

// onAccepted is told, in order, of each accepted entry of this term once it is visible. It may be called
// for entries that this sequencer gave up long ago.
func (q *sequencer) onAccepted(term ids.Term, base uint64) []answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.mu.inflight {
		if f.entry != nil && f.entry.Term == term && f.base == base {
			f.applied = true
			q.queue.Post(func() { q.leaving = append(q.leaving, f) })
			q.scheduleLocked()
			break
		}
	}
	return q.popLocked()
}

// start takes office: commands are accepted and evaluated from the range's applied state.
func (q *sequencer) start(term ids.Term) {
	q.queue.Post(func() {
		if term < q.term || q.r.snapshot().gone { // a removed replica's last stop may have come before this
			return
		}
		q.giveUp(&api.RetryError{Reason: "new leader"})
		q.term, q.resumeAt = term, 0
		q.mu.Lock()
		q.mu.open = true
		q.scheduleLocked()
		q.mu.Unlock()
	})
}

// stop leaves office: everything that waits is answered with where to go.
func (q *sequencer) stop(term ids.Term) {
	q.queue.Post(func() {
		if term < q.term {
			return
		}
		q.term = 0
		q.mu.Lock()
		q.mu.open = false
		q.mu.Unlock()
		q.giveUp(&api.RetryError{Reason: "leader changed"})
		q.sendAway()
	})
}

// refuse answers everything that waits with where to go, in office: the store's clock is off, and nothing is evaluated.
// What is in flight goes on.
func (q *sequencer) refuse() { q.queue.Post(q.sendAway) }

func (q *sequencer) sendAway() {
	q.mu.Lock()
	waiting := q.mu.waiting
	q.mu.waiting, q.mu.bytes = nil, 0
	q.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	err := q.r.notLeaseholder()
	for _, c := range waiting {
		c.fail(err)
	}
}

// reset follows a proposal that was dropped or refused: what was evaluated on top of it is given up, and
// evaluation goes on from the applied state once everything up to last is applied (rule A1).
func (q *sequencer) reset(generation uint64, last ids.Index) {
	q.queue.Post(func() {
		if generation < q.generation {
			return
		}
		q.generation = max(q.generation, generation) // the Raft side takes nothing of it any more
		q.giveUp(&api.RetryError{Reason: "proposal dropped"})
		q.resumeAt = last
		q.schedule()
	})
}

// giveUp fails everything in flight and forgets what was evaluated.
func (q *sequencer) giveUp(err error) {
	q.generation++
	q.r.post(raftInput{generation: q.generation})
	q.mu.Lock()
	pending := q.mu.inflight
	q.mu.inflight = nil
	q.mu.Unlock()
	q.overlay, q.sessions, q.leaving = &overlay{}, nil, nil
	for _, f := range pending {
		for _, a := range f.answers {
			if f.entry != nil && a.cmd.req != nil && a.cmd.req.Session == nil {
				// Its entry may be committed all the same, and without a session a second run would not be noticed.
				a.cmd.fail(&api.AmbiguousError{Cause: err})
				continue
			}
			a.cmd.fail(err)
		}
	}
}

// idle reports whether nothing waits or is in flight.
func (q *sequencer) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.open && len(q.mu.waiting) == 0 && len(q.mu.inflight) == 0
}
