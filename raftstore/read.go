package raftstore

import (
	"errors"
	"math"
	"sync"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
)

// reading is a range at one sequence: what a read takes in one step (rule D1). Release it.
type reading struct {
	r    *Replica
	desc *topology.Descriptor
	seq  ids.Seq
	rows rowsAt
	// count of accepted entries, of a reading of newest data.
	count uint64
	// at judges expiry (rule C7).
	at hlc.Timestamp
}

func (v *reading) release() { v.r.store.holds.release(v.seq) }

// take fixes role, bounds and sequence in one step. ts 0 reads the newest; otherwise the range as of ts, which
// must be closed here.
func (r *Replica) take(bounds uint64, ts hlc.Timestamp) (*reading, error) {
	v, err := r.takeLocked(bounds, ts)
	var moved *api.EpochMismatchError
	if errors.As(err, &moved) {
		moved.Routes = r.store.routesOf(r.snapshot().desc)
	}
	return v, err
}

func (r *Replica) takeLocked(bounds uint64, ts hlc.Timestamp) (*reading, error) {
	published := ids.Seq(r.store.published.Load())
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := &r.mu.state
	if err := r.servable(s, bounds); err != nil {
		return nil, err
	}
	v := &reading{r: r, desc: s.desc, at: s.applied.TS}
	if ts == 0 || ts >= s.applied.TS {
		if ts > s.applied.Closed {
			return nil, &api.TimestampUnavailableError{Timestamp: ts, Oldest: r.history.oldest(), Reason: "it is not closed here yet"}
		}
		v.at = max(v.at, ts)
		v.seq, v.rows, v.count = r.store.holds.acquire(s.visible), s.rowsAt(published), s.applied.Count
		return v, nil
	}
	// The search reads applied states anywhere above the discard sequence, which must stay where it is meanwhile.
	oldest := r.store.holds.acquireOldest()
	seq, ok, err := r.history.at(r.store.engine, ts, oldest, s.visible, r.store.holds.undoneIntervals())
	r.store.holds.release(oldest)
	if err != nil {
		r.store.fatal(err)
		return nil, err
	}
	if ok && seq == s.visible {
		v.seq, v.at = r.store.holds.acquire(seq), ts
		return v, nil
	}
	if !ok || !r.store.holds.acquireOld(seq) {
		return nil, r.tooOld(ts)
	}
	v.seq, v.at = seq, ts
	return v, nil
}

// servable says whether a request for these bounds may be read here.
func (r *Replica) servable(s *replicaState, bounds uint64) error {
	switch {
	case s.gone || s.desc == nil || r.retired(s.desc):
		return &api.RangeNotFoundError{Range: r.id}
	case s.ingesting, s.frozen && s.leaseholder:
		// NB: a freeze matters on the leaseholder alone. Whoever lost the lead since may never learn what became of
		// its split, and serves only what needs no lead.
		return &api.RetryError{Reason: "the range is being split or restored"}
	case bounds != s.desc.Epoch.Bounds:
		return &api.EpochMismatchError{Range: r.id} // the caller adds the routes, without the lock
	}
	return nil
}

// oldestReadable is about the oldest timestamp that works here: the start of the retention window, or the oldest that is held.
func (r *Replica) oldestReadable() hlc.Timestamp {
	return max(r.history.oldest(), r.store.oldestKept())
}

// tooOld refuses a timestamp. Where this replica can't be read as far back as the window and the holds say, be it that it came
// by a snapshot or that its store heard too late of a hold, another may be.
func (r *Replica) tooOld(ts hlc.Timestamp) error {
	oldest := r.oldestReadable() // before oldestWanted, which rises with time
	return &api.TimestampUnavailableError{
		Timestamp: ts, Oldest: oldest, Reason: "it is older than what this replica keeps", Elsewhere: oldest > r.store.oldestWanted(),
	}
}

// read serves a get or a scan at the consistency it asks for.
func (r *Replica) read(req *locuspb.Request, done func(*locuspb.Response)) {
	fail := func(err error) { done(&locuspb.Response{Error: api.ToProto(err)}) }
	c := req.Consistency
	serve := func(ts hlc.Timestamp) {
		r.store.exec.Go(QueueRead, func() { r.serve(req, ts, false, done) })
	}
	switch c.GetLevel() {
	case locuspb.ConsistencyLevel_LINEARIZABLE:
		if get := req.GetGet(); get != nil {
			if resp, ok := r.getCached(req, get.Key); ok {
				done(resp)
				return
			}
		}
		r.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {
			if err != nil {
				fail(err)
				return
			}
			serve(0)
		})
	case locuspb.ConsistencyLevel_SNAPSHOT:
		if c.Timestamp == 0 {
			fail(&api.InvalidArgumentError{Reason: "a snapshot read needs a timestamp"})
			return
		}
		r.whenClosed(hlc.Timestamp(c.Timestamp), func(err error) {
			if err != nil {
				fail(err)
				return
			}
			serve(hlc.Timestamp(c.Timestamp))
		})
	case locuspb.ConsistencyLevel_BOUNDED_STALENESS:
		if c.MaxStalenessMs < 0 {
			fail(&api.InvalidArgumentError{Reason: "a staleness is not negative"})
			return
		}
		closed := r.snapshot().applied.Closed
		if !r.store.clock.Anchored() {
			fail(&api.RetryError{Reason: "the store has just started and waits for others to confirm its clock"})
			return
		}
		least := max(r.store.clock.Now().AddMillis(-c.MaxStalenessMs), hlc.Timestamp(req.Token))
		// What is closed here may be too old; then the leaseholder closes as much as was asked for.
		r.whenClosed(least, func(err error) {
			if err != nil {
				fail(err)
				return
			}
			serve(max(closed, least))
		})
	case locuspb.ConsistencyLevel_EVENTUAL:
		serve(0)
	default:
		fail(&api.InvalidArgumentError{Reason: "unknown consistency level"})
	}
}

// whenClosed calls f once ts is closed here; a leaseholder closes it if need be (rule C1).
func (r *Replica) whenClosed(ts hlc.Timestamp, f func(error)) {
	s := r.snapshot()
	switch {
	case s.applied.Closed >= ts:
		f(nil)
	case !s.leaseholder:
		f(r.notLeaseholder())
	case ts > r.store.clock.Now():
		f(&api.ClockOffsetError{Remote: ts, Local: r.store.clock.Last(), Max: r.store.clock.MaxOffset()})
	default:
		r.seq.submit(&command{closeTo: ts, done: func(resp *locuspb.Response) { f(api.FromProto(resp.Error)) }})
	}
}

// serve reads, on a reader's worker. settled: the log says already what had expired when the read began.
func (r *Replica) serve(req *locuspb.Request, ts hlc.Timestamp, settled bool, done func(*locuspb.Response)) {
	if r.store.stopped() {
		done(&locuspb.Response{Error: api.ToProto(&api.UnavailableError{Reason: "the store is stopping"})})
		return
	}
	v, err := r.take(req.BoundsEpoch, ts)
	if err != nil {
		done(&locuspb.Response{Error: api.ToProto(err)})
		return
	}
	var resp *locuspb.Response
	var expiry hlc.Timestamp // the nearest above v.at that the answer depends on
	switch op := req.Op.(type) {
	case *locuspb.Request_Get:
		resp, expiry, err = v.get(op.Get)
	case *locuspb.Request_Scan:
		resp, expiry, err = v.scan(op.Scan)
	default:
		err = &api.InvalidArgumentError{Reason: "the request is not a read"}
	}
	v.release()
	if err != nil {
		done(&locuspb.Response{Error: api.ToProto(err)})
		return
	}
	resp.Timestamp = uint64(v.at)
	if ts == 0 && !settled && expiry != 0 && req.Consistency.GetLevel() == locuspb.ConsistencyLevel_LINEARIZABLE {
		if !r.store.clock.Anchored() {
			done(&locuspb.Response{Error: api.ToProto(&api.RetryError{Reason: "the store has just started and does not know the time"})})
			return
		}
		if now := r.store.clock.Now(); expiry <= now {
			// By the clock the value has expired, by the log it has not: the log decides (rule C7). Once: what expires
			// while the read goes on, it may see.
			r.whenClosed(now, func(err error) {
				if err != nil {
					done(&locuspb.Response{Error: api.ToProto(err)})
					return
				}
				r.store.exec.Go(QueueRead, func() { r.serve(req, 0, true, done) })
			})
			return
		}
	}
	r.store.metrics.read()
	done(resp)
}

func (v *reading) get(op *locuspb.GetRequest) (*locuspb.Response, hlc.Timestamp, error) {
	if !v.desc.Span.Contains(op.Key) {
		return nil, 0, &api.EpochMismatchError{Range: v.r.id, Routes: v.r.store.routesOf(v.desc)}
	}
	rec, found, err := v.record(op.Key)
	if err != nil {
		return nil, 0, err
	}
	found = found && !rec.Expired(v.at)
	out := getResponse(found, rec.Data, rec.Timestamp, rec.Expires)
	return &locuspb.Response{Result: &locuspb.Response_Get{Get: out}}, hlc.Timestamp(out.Expires), nil
}

func (v *reading) record(key []byte) (engine.Value, bool, error) {
	val, found, err := v.r.store.get(key, v.seq, v.rows)
	v.fatalIf(err)
	return val, found, err
}

func (v *reading) fatalIf(err error) {
	if err != nil {
		v.r.store.fatal(err)
	}
}

// One scan response has this many bytes of records, or as many as the request allows up to a limit.
const (
	defaultScanBytes = 1 << 20
	maxScanBytes     = 8 << 20
)

func (v *reading) scan(op *locuspb.ScanRequest) (*locuspb.Response, hlc.Timestamp, error) {
	span := api.SpanFromProto(op.Span)
	if span.Empty() {
		return nil, 0, &api.InvalidArgumentError{Reason: "the span's start is not below its end"}
	}
	if !v.desc.Span.ContainsSpan(span) {
		return nil, 0, &api.EpochMismatchError{Range: v.r.id, Routes: v.r.store.routesOf(v.desc)}
	}
	maxBytes := op.MaxBytes
	if maxBytes == 0 || maxBytes > maxScanBytes {
		maxBytes = defaultScanBytes
	}
	out := &locuspb.ScanResponse{ReadTimestamp: uint64(v.at)}
	res, err := v.packed(engine.ScanOptions{
		Span: dataSpan(span), Reverse: op.Reverse, Limit: int64(min(op.Limit, math.MaxInt64)), MaxBytes: int64(maxBytes),
		KeysOnly: op.KeysOnly, Strip: 1,
		Yield: func(batch []byte) bool {
			out.Batches = append(out.Batches, batch)
			return true
		},
	})
	if err != nil {
		return nil, 0, err
	}
	out.Records = uint64(res.Records)
	if res.Resume != nil && (op.Limit == 0 || out.Records < op.Limit) {
		out.Resume = res.Resume[1:]
	}
	return &locuspb.Response{Result: &locuspb.Response_Scan{Scan: out}}, res.MinExpiryAfter, nil
}

// packed scans at the reading's sequence. What the engine can't read is damage: the store stops.
func (v *reading) packed(o engine.ScanOptions) (engine.ScanResult, error) {
	o.Seq, o.At = v.seq, v.at
	res, err := engine.ScanPacked(v.r.store.engine, o)
	v.fatalIf(err)
	return res, err
}

// openView is a reading that outlives the request, for functions.
type openView struct {
	*reading
	once *sync.Once
}

func (o openView) Timestamp() hlc.Timestamp { return o.at }
func (o openView) Close()                   { o.once.Do(o.release) } // twice would end another reader's hold

func (o openView) Get(key []byte) ([]byte, bool, error) {
	if !o.desc.Span.Contains(key) {
		return nil, false, api.ErrNotOneGroup
	}
	rec, found, err := o.record(key)
	if err != nil || !found || rec.Expired(o.at) {
		return nil, false, err
	}
	return rec.Data, true, nil
}

func (o openView) Scan(span keys.Span, strip int, f func(Batch) bool) error {
	if !o.desc.Span.ContainsSpan(span) {
		return &api.EpochMismatchError{Range: o.r.id, Routes: o.r.store.routesOf(o.desc)}
	}
	return o.batches(dataSpan(span), 1+strip, f)
}
