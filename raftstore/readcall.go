package raftstore

import (
	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// errReading refuses the writes of a call that only reads. Who makes the functions refuses them before.
var errReading = &api.InvalidArgumentError{Reason: "a function that only reads can't write"}

// readCall runs a call that writes nothing as a linearizable read: beside the sequencer, so that no write waits for it.
func (r *Replica) readCall(req *locuspb.Request, done func(*locuspb.Response)) {
	r.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {
		if err != nil {
			done(&locuspb.Response{Error: api.ToProto(err)})
			return
		}
		r.store.exec.Go(QueueReadCall, func() { r.runReadCall(req, done) })
	})
}

func (r *Replica) runReadCall(req *locuspb.Request, done func(*locuspb.Response)) {
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
	now := max(v.at, s.clock.Now())
	tx := &readTx{
		checkedTx: checkedTx{r: r, desc: v.desc, session: req.Session},
		view:      &view{store: s, seq: v.seq, rows: v.rows, overlay: &overlay{}, at: now, logged: v.at},
	}
	result, err := s.opts.Evaluator.Evaluate(req.GetCall(), tx)
	tx.closed = true
	v.release()
	if tx.failed != nil {
		s.fatal(tx.failed)
		err = tx.failed
	}
	resp := &locuspb.Response{Timestamp: uint64(v.at), Result: &locuspb.Response_Call{Call: result}}
	if err != nil {
		resp = &locuspb.Response{Error: api.ToProto(err)}
	}
	if !tx.view.judged {
		s.metrics.read()
		done(resp)
		return
	}
	// Something has expired by the clock, and others may still see it by the log: nobody is told before the log says so, too (rule C7).
	r.whenClosed(now, func(err error) {
		if err != nil {
			fail(err)
			return
		}
		if resp.Error == nil {
			resp.Timestamp = uint64(now)
		}
		done(resp)
	})
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
