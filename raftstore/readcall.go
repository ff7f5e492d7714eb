package raftstore

import (
	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// errReading refuses the writes of a call that only reads. Who makes the functions refuses them before.
var errReading = &api.InvalidArgumentError{Reason: "a function that only reads can't write"}

// maxReadCalls bounds the calls on a store that only read and wait, or run.
const maxReadCalls = 4096

// readCall runs a call that writes nothing as a linearizable read: beside the sequencer, so that no write waits for it.
func (r *Replica) readCall(req *locuspb.Request, reply func(*locuspb.Response)) {
	s := r.store
	done := func(resp *locuspb.Response) {
		s.readCalls.Add(-1)
		reply(resp)
	}
	if s.readCalls.Add(1) > maxReadCalls {
		done(&locuspb.Response{Error: api.ToProto(&api.OverloadedError{What: "read-only calls of this node", RetryAfter: retryAfter})})
		return
	}
	r.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {
		if err != nil {
			done(&locuspb.Response{Error: api.ToProto(err)})
			return
		}
		s.exec.Go(QueueReadCall, func() { r.runReadCall(req, false, done) })
	})
}

// runReadCall runs a call. settled: the log says already what had expired when the call began.
func (r *Replica) runReadCall(req *locuspb.Request, settled bool, done func(*locuspb.Response)) {
	s := r.store
	fail := func(err error) { done(&locuspb.Response{Error: api.ToProto(err)}) }
	switch {
	case s.stopped():
		fail(&api.UnavailableError{Reason: "the store is stopping"})
		return
	case !s.clock.Anchored(): // the function is told the time
		fail(&api.RetryError{Reason: "the store has just started and does not know the time"})
		return
	}
	v, err := r.take(req.BoundsEpoch, 0)
	if err != nil {
		fail(err)
		return
	}
	if !v.desc.Span.Contains(req.GetCall().GetKey()) {
		v.release()
		fail(&api.EpochMismatchError{Range: r.id, Routes: s.routesOf(v.desc)})
		return
	}
	now := v.at
	if !settled {
		now = max(now, s.clock.Now())
	}
	tx := &readTx{
		checkedTx: checkedTx{r: r, desc: v.desc, session: req.Session},
		view:      &view{store: s, seq: v.seq, rows: v.rows, overlay: &overlay{}, at: now, logged: v.at},
	}
	result, err := s.opts.Evaluator.Evaluate(req.GetCall(), tx)
	tx.closed = true
	v.release()
	switch {
	case tx.failed != nil:
		s.fatal(tx.failed)
		fail(tx.failed)
	case tx.view.judged:
		// By the clock something has expired, by the log it has not: the log decides (rule C7), and what was written meanwhile counts.
		r.whenClosed(now, func(err error) {
			if err != nil {
				fail(err)
				return
			}
			s.exec.Go(QueueReadCall, func() { r.runReadCall(req, true, done) })
		})
	case err != nil:
		s.metrics.read()
		fail(err)
	default:
		s.metrics.read()
		done(&locuspb.Response{Timestamp: uint64(v.at), Result: &locuspb.Response_Call{Call: result}})
	}
}

// readTx is the Tx of a call that only reads.
type readTx struct {
	checkedTx
	view *view
}

func (t *readTx) Timestamp() hlc.Timestamp { return t.view.at }

func (t *readTx) Get(key []byte) ([]byte, bool, error) {
	if err := t.check(key); err != nil {
		return nil, false, err
	}
	rec, found, err := t.view.get(key)
	if err != nil {
		t.failed = err
	}
	return rec.Value, found, err
}

func (t *readTx) Scan(span keys.Span, strip int, f func(batch []byte) bool) error {
	if t.closed || !t.desc.Span.ContainsSpan(span) {
		return api.ErrNotOneGroup
	}
	_, err := t.view.scanPacked(span, strip, f)
	if err != nil {
		t.failed = err
	}
	return err
}

func (t *readTx) Put([]byte, []byte, int64) error { return errReading }
func (t *readTx) Delete([]byte) error             { return errReading }
