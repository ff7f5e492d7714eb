package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// Optimistic mode (rule A7) is for calls that take long: they run beside the sequencer, on a snapshot, and note what they
// read. The sequencer then only checks that all of it is as it was, in the engine and the overlay, and takes the writes;
// otherwise the call runs again. What is compared is what a read would return, by the timestamps of records: a key that
// was written and deleted again meanwhile is as it was, so that no tombstone has to be looked for, and the snapshot need
// not stay open for the check.

const (
	// maxAttempts is how often an optimistic call runs before it is refused.
	maxAttempts = 10
	// maxOptimisticReads bounds the keys and records that one run may read: the sequencer reads them again.
	maxOptimisticReads = 20_000
	// maxOptimisticCalls bounds the calls on a store that wait, run, or wait for their check.
	maxOptimisticCalls = 256
	// readWeight is what a read counts in the sequencer's bounds on bytes, of its queue and of one evaluation: checking
	// it is work, and its mark takes memory.
	readWeight = 128
)

// attempt is what one run of an optimistic call has done.
type attempt struct {
	// count of accepted entries that the snapshot shows: nothing can have changed while the range still has it.
	count uint64
	// keys and spans were read, and showed this.
	keys  map[string]hlc.Timestamp // 0: absent
	spans []spanMark
	// expiry is the nearest of all records that were read.
	expiry hlc.Timestamp
	// judged: something had expired since the snapshot's last entry (see view).
	judged bool
	writes []optimisticWrite
	resp   *locuspb.CallResponse
	err    error
	// again runs the call once more.
	again func()
}

type spanMark struct {
	span   keys.Span
	digest uint64
}

// optimisticWrite is a write whose expiry counts from the timestamp of the entry to come.
type optimisticWrite struct {
	dataWrite
	ttlMillis int64
}

// callOptimistically runs a call on a snapshot and queues its outcome. tries is how often it ran before.
func (s *Store) callOptimistically(r *Replica, req *locuspb.Request, tries int, reply func(*locuspb.Response)) {
	fail := func(err error) { reply(&locuspb.Response{Error: api.ToProto(err)}) }
	if tries >= maxAttempts {
		fail(&api.RetryError{Reason: fmt.Sprintf("what the call read was written meanwhile, %d times", tries)})
		return
	}
	if s.optimistic.Add(1) > maxOptimisticCalls {
		s.optimistic.Add(-1)
		fail(&api.OverloadedError{What: "optimistic calls of this node", RetryAfter: retryAfter})
		return
	}
	s.exec.Go(QueueCall, func() {
		a, size, err := s.attempt(r, req)
		if err != nil {
			s.optimistic.Add(-1)
			fail(err)
			return
		}
		a.again = func() {
			s.optimistic.Add(-1)
			s.callOptimistically(r, req, tries+1, reply)
		}
		s.metrics.optimisticRun(tries > 0)
		r.seq.submit(&command{req: req, attempt: a, bytes: size, done: func(resp *locuspb.Response) {
			s.optimistic.Add(-1)
			reply(resp)
		}})
	})
}

// attempt runs a call on the range's newest state. The error is one of the store, not of the call.
func (s *Store) attempt(r *Replica, req *locuspb.Request) (*attempt, int, error) {
	if s.stopped() {
		return nil, 0, &api.UnavailableError{Reason: "the store is stopping"}
	}
	st := r.snapshot()
	if !st.leaseholder {
		return nil, 0, r.notLeaseholder()
	}
	v, err := r.take(req.BoundsEpoch, 0)
	if err != nil {
		return nil, 0, err
	}
	defer v.release()
	a := &attempt{count: v.count, keys: make(map[string]hlc.Timestamp)}
	// Expiry is judged by the clock, which rule C7 allows here: the batch's timestamp will be above it, what expires in
	// between makes the call run again, and what has expired since the last entry makes the batch have one.
	now := s.clock.Now()
	tx := &snapshotTx{
		checkedTx: checkedTx{r: r, desc: v.desc, session: req.Session, limit: s.opts.MaxCommandBytes},
		attempt:   a, now: now,
		view: &view{store: s, seq: v.seq, rows: v.rows, overlay: &overlay{}, at: now, logged: v.at},
	}
	a.resp, a.err = s.opts.Evaluator.Evaluate(req.GetCall(), tx)
	tx.closed = true
	if tx.failed != nil {
		s.fatal(tx.failed)
		return nil, 0, tx.failed
	}
	if tx.over != nil {
		return nil, 0, tx.over
	}
	a.judged = tx.view.judged
	return a, 256 + len(req.GetCall().GetArgument()) + tx.bytes + tx.reads*readWeight, nil
}

// snapshotTx is the Tx of a call in optimistic mode.
type snapshotTx struct {
	checkedTx
	attempt *attempt
	view    *view // the snapshot, under the call's own writes
	now     hlc.Timestamp
	reads   int
	// over: the call has read too much, and whatever it makes of that error is not its result.
	over error
}

// Timestamp is the time of the snapshot: the entry's is not known yet.
func (t *snapshotTx) Timestamp() hlc.Timestamp { return t.now }

func (t *snapshotTx) Get(key []byte) ([]byte, bool, error) {
	if err := t.check(key); err != nil {
		return nil, false, err
	}
	_, own := t.view.overlay.writes.Get(string(key))
	rec, found, err := t.view.get(key)
	if err != nil {
		t.failed = err
		return nil, false, err
	}
	if !own {
		t.attempt.keys[string(key)] = rec.TS
		if err := t.mark(rec.Expires); err != nil {
			return nil, false, err
		}
	}
	return rec.Value, found, nil
}

// mark counts a read.
func (t *snapshotTx) mark(expires hlc.Timestamp) error {
	if expires != 0 && (t.attempt.expiry == 0 || expires < t.attempt.expiry) {
		t.attempt.expiry = expires
	}
	if t.reads++; t.reads > maxOptimisticReads {
		t.over = &api.LimitError{What: "records read by one optimistic call", Limit: maxOptimisticReads, Got: int64(t.reads)}
	}
	return t.over
}

// Scan notes what the snapshot has in the part of the span that f was shown.
func (t *snapshotTx) Scan(span keys.Span, strip int, f func(batch []byte) bool) error {
	if t.closed || !t.desc.Span.ContainsSpan(span) {
		return api.ErrNotOneGroup
	}
	if err := t.mark(0); err != nil { // a scan costs something when there is nothing, too
		return err
	}
	last, err := t.view.scanPacked(span, strip, f)
	if err != nil {
		t.failed = err
		return err
	}
	read := keys.Span{Start: bytes.Clone(span.Start), End: bytes.Clone(span.End)}
	if last != nil {
		read.End = keys.Next(last)
	}
	base := *t.view
	base.overlay = &overlay{}
	d := newDigest()
	err = base.scan(read, func(r record) bool {
		d.add(r)
		return t.mark(r.Expires) == nil
	})
	if err != nil {
		t.failed = err
		return err
	}
	t.attempt.spans = append(t.attempt.spans, spanMark{span: read, digest: d.sum()})
	return t.over
}

func (t *snapshotTx) Put(key, value []byte, ttlMillis int64) error {
	return t.add(dataWrite{Key: bytes.Clone(key), Value: bytes.Clone(value)}, ttlMillis)
}

func (t *snapshotTx) Delete(key []byte) error {
	return t.add(dataWrite{Key: bytes.Clone(key), Delete: true}, 0)
}

func (t *snapshotTx) add(w dataWrite, ttlMillis int64) error {
	if err := t.admit(w); err != nil {
		return err
	}
	t.attempt.writes = append(t.attempt.writes, optimisticWrite{dataWrite: w, ttlMillis: ttlMillis})
	t.view.overlay.put(w, t.now, 0)
	return nil
}

// digest sums up records by key and timestamp, which name a version of a key.
type digest struct{ h maphash.Hash }

// digestSeed is that of all digests: they are compared within this process only.
var digestSeed = maphash.MakeSeed()

func newDigest() *digest {
	d := &digest{}
	d.h.SetSeed(digestSeed)
	return d
}

func (d *digest) add(r record) {
	var head [16]byte
	binary.LittleEndian.PutUint64(head[:], uint64(len(r.Key)))
	binary.LittleEndian.PutUint64(head[8:], uint64(r.TS))
	_, _ = d.h.Write(head[:])
	_, _ = d.h.Write(r.Key)
}

func (d *digest) sum() uint64 { return d.h.Sum64() }

// holds says whether everything that an attempt read is still so at this batch's timestamp.
func (b *batch) holds(a *attempt) (bool, error) {
	if a.expiry != 0 && a.expiry <= b.entry.TS {
		return false, nil
	}
	b.view.judged = b.view.judged || a.judged
	if a.count == b.entry.Base && len(b.entry.Data) == 0 {
		return true, nil // nothing was accepted or proposed since
	}
	for key, ts := range a.keys {
		rec, _, err := b.view.get([]byte(key))
		if err != nil || rec.TS != ts {
			return false, err
		}
	}
	for _, m := range a.spans {
		d := newDigest()
		if err := b.view.scan(m.span, func(r record) bool { d.add(r); return true }); err != nil || d.sum() != m.digest {
			return false, err
		}
	}
	return true, nil
}

// conclude is the outcome of an attempt that holds.
func (b *batch) conclude(a *attempt, dryRun bool) (*locuspb.Response, []dataWrite, error) {
	if a.err != nil {
		return nil, nil, a.err
	}
	resp := &locuspb.Response{Result: &locuspb.Response_Call{Call: a.resp}}
	if dryRun {
		a.resp.Writes = dryWrites(a.writes)
		return resp, nil, nil
	}
	writes := make([]dataWrite, len(a.writes))
	for i, w := range a.writes {
		writes[i] = w.dataWrite
		writes[i].Expires = b.expiry(w.ttlMillis, w.Delete)
	}
	return resp, writes, nil
}
