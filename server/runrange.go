package server

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/udf"
)

// rangeRunner executes range and map functions on ranges of this node.
type rangeRunner struct {
	store      store
	clock      *hlc.Clock
	functions  *functions
	dispatcher *dispatcher // for layouts
	// slots bound how many ranges are worked on at a time: functions are CPU, and so is everything else here.
	slots chan struct{}

	mu struct {
		sync.Mutex
		closed bool
	}
	active sync.WaitGroup // requests at work; they may have a view open
}

// begin is false when the node is stopping; else active.Done follows.
func (r *rangeRunner) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.closed {
		r.active.Add(1)
	}
	return !r.mu.closed
}

// close refuses new requests and waits for those at work, so that the engine is not closed under a view.
// REQUIRES: their contexts have ended. A native function that does not look at its own is waited for.
func (r *rangeRunner) close() {
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.active.Wait()
}

func newRangeRunner(s store, clock *hlc.Clock, f *functions, d *dispatcher) *rangeRunner {
	return &rangeRunner{store: s, clock: clock, functions: f, dispatcher: d, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
}

// run executes one request; its errors are part of the answer.
func (r *rangeRunner) run(ctx context.Context, req *locuspb.RunRangeRequest) *locuspb.RunRangeResponse {
	resp, err := r.try(ctx, req)
	if err != nil {
		resp = &locuspb.RunRangeResponse{Error: api.ToProto(err)}
	}
	resp.Clock = uint64(r.clock.Hint())
	return resp
}

func (r *rangeRunner) try(ctx context.Context, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	if !r.begin() {
		return nil, &api.RetryError{Reason: "the node is stopping"}
	}
	defer r.active.Done()
	// The timestamp comes from other leaseholders' clocks; this one must be past it to serve it.
	if err := r.clock.Update(hlc.Timestamp(max(req.Clock, req.Timestamp))); err != nil {
		return nil, err
	}
	span := api.SpanFromProto(req.Span)
	l, f, err := r.prepare(ctx, req, span)
	if err != nil {
		return nil, err
	}
	defer f.release()
	// The wait for a slot is as long as the queue; only the gateway, whose end is this context's, knows how long that may be.
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMs))
	defer cancel()
	view, err := openView(ctx, r.store, req, hlc.Timestamp(req.Timestamp))
	if err != nil {
		return nil, err
	}
	w := &work{view: view, span: span, layout: l, req: req, enough: req.WorkBytes}
	defer func() { w.view.Close() }()
	if req.Timestamp != 0 {
		return r.part(ctx, f, w)
	}
	// The view was opened behind a check that this is the leaseholder: no write acknowledged before the run began is above the clock now.
	now := r.clock.Now()
	if !r.long(span, ids.RangeID(req.RangeId)) {
		w.newest, w.lasts, w.enough = true, now, min(req.WorkBytes, newestBytes)
		if !r.clock.Anchored() {
			w.lasts = math.MaxUint64 // nobody knows what has expired
		}
		resp, err := r.part(ctx, f, w)
		switch {
		case err != nil && !errors.Is(err, errExpired):
			return nil, err
		case err == nil && resp.Resume == nil:
			return resp, nil
		case err != nil && !r.clock.Anchored():
			return nil, &api.RetryError{Reason: "the store has just started and does not know the time"}
		}
	}
	w.view.Close()
	again, err := openView(ctx, r.store, req, now)
	if err != nil {
		return nil, err
	}
	w.view, w.newest, w.lasts, w.enough = again, false, 0, req.WorkBytes
	return r.part(ctx, f, w)
}

// newestBytes bounds what is tried on the newest data, which has to be done at once. A timestamp that can be read at again has to be
// closed, which takes a write to the log: on the newest data there is none, as long as the work is done in one part. Else, and where a
// record has expired that the log does not know of (rule C7), it is all done at the time at which it began.
const newestBytes = 16 << 20

// These bound it in time, where records come from the scan cache and where they don't: what is thrown away must not take much longer than
// the write would have, and from the cache it is likely to be done soon.
const (
	newestTime       = 8 * time.Millisecond
	newestEngineTime = 2 * time.Millisecond
)

// errExpired ends work on the newest data.
var errExpired = errors.New("a record has expired, by the clock and not by the log")

// long says that a span is a whole range with more data than is tried on the newest.
func (r *rangeRunner) long(span keys.Span, id ids.RangeID) bool {
	info, ok := r.store.Range(id)
	return ok && info.Descriptor != nil && span.ContainsSpan(info.Descriptor.Span) && info.Bytes+info.Records*packed.HeaderLen > newestBytes
}

// part works until enough has been read. What is tried on the newest data and thrown away is in the accounts as work, and as no part.
func (r *rangeRunner) part(ctx context.Context, f function, w *work) (*locuspb.RunRangeResponse, error) {
	w.resp = &locuspb.RunRangeResponse{Version: f.version, Timestamp: uint64(w.view.Timestamp())}
	began := time.Now()
	err := w.fold(ctx, f.runnable)
	u := &usage{
		rangeID: ids.RangeID(w.req.RangeId), part: !w.newest || w.resp.Resume == nil, err: err, fuel: w.resp.Fuel, time: time.Since(began),
		recordsRead: w.resp.Records, bytesRead: w.resp.Bytes,
	}
	if errors.Is(err, errExpired) {
		u.part, u.err = false, nil
	}
	r.functions.accounts.add(functionVersion{w.req.Function, f.version}, u)
	if err != nil {
		return nil, err
	}
	return w.resp, nil
}

// work is a part of a range that a function is run on.
type work struct {
	view   raftstore.View
	span   keys.Span
	layout keys.Layout
	req    *locuspb.RunRangeRequest
	enough uint64 // bytes of records; 0: all
	resp   *locuspb.RunRangeResponse

	until  time.Time     // when it has worked enough
	newest bool          // the view is of the newest data
	engine bool          // some of it came from the engine
	lasts  hlc.Timestamp // records must live beyond; 0: as the view says
}

// fold runs the function over a view of a range; what it took is in resp also if it fails.
func (w *work) fold(ctx context.Context, f udf.Runnable) error {
	if w.req.PageBytes > 0 {
		return w.mapPage(ctx, f)
	}
	return w.accumulate(ctx, f)
}

// prepare finds the keyspace's layout and the function.
func (r *rangeRunner) prepare(ctx context.Context, req *locuspb.RunRangeRequest, span keys.Span) (keys.Layout, function, error) {
	if err := checkSecret(span); err != nil {
		return keys.Layout{}, function{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMs))
	defer cancel()
	l, _, err := r.dispatcher.layout(ctx, span.Start, true)
	if err != nil {
		return keys.Layout{}, function{}, err
	}
	// The gateway has resolved the version, and all ranges run that one: 0 is the native function, never whichever is active here.
	f, err := r.functions.resolvePinned(ctx, req.Function, req.Version)
	return l, f, err
}

// accumulate folds batches until it has worked enough, and says where to go on.
func (w *work) accumulate(ctx context.Context, f udf.Aggregator) error {
	acc, err := f.NewAccumulator(ctx, udf.Codec(w.req.Codec), w.req.Argument)
	if err != nil {
		return err
	}
	defer acc.Close()
	enough := w.workload()
	err = w.eachBatch(ctx, func(batch []byte) (bool, error) {
		if err := acc.Add(ctx, batch); err != nil {
			return false, err
		}
		if !enough(len(batch)) {
			return true, nil
		}
		w.resp.Resume = w.resume(batch)
		return false, nil
	})
	if err == nil {
		w.resp.Accumulator, err = acc.Encode(ctx)
	}
	w.resp.Fuel = acc.Fuel()
	return err
}

// workTime ends a part of a range, so that progress is told, others get the slot, and what a split or a leader
// change costs is small.
const workTime = 250 * time.Millisecond

// workload says when a request has read enough. One that does not ask for a part wants all of its span.
func (w *work) workload() (enough func(read int) bool) {
	if w.enough == 0 && w.req.PageBytes == 0 {
		return func(int) bool { return false }
	}
	w.until = time.Now().Add(workTime)
	if w.newest {
		w.until = time.Now().Add(newestTime)
	}
	total := uint64(0)
	return func(read int) bool {
		total += uint64(read)
		return w.enough > 0 && total >= w.enough || !time.Now().Before(w.until)
	}
}

// resume is where to go on behind a batch; nil if that is the span's end. In a hash-partitioned keyspace the batch has
// lost its keys' buckets; Encode finds the last one's again.
func (w *work) resume(batch []byte) []byte {
	if at := append(w.layout.Encode(lastKey(batch)), 0); w.span.Contains(at) {
		return at
	}
	return nil
}

// mapPage maps batches until there is a page of outputs, or it has worked enough, and says where the next page begins.
func (w *work) mapPage(ctx context.Context, f udf.Mapper) error {
	m, err := f.NewMapping(ctx, udf.Codec(w.req.Codec), w.req.Argument)
	if err != nil {
		return err
	}
	defer m.Close()
	size, limit, enough := 0, int(min(w.req.PageBytes, maxPage)), w.workload()
	err = w.eachBatch(ctx, func(batch []byte) (bool, error) {
		outputs, err := m.Map(ctx, batch)
		if err != nil {
			return false, err
		}
		w.resp.Outputs = append(w.resp.Outputs, outputs...)
		for _, o := range outputs {
			size += len(o) + udf.OutputOverhead
		}
		if worked := enough(len(batch)); size < limit && !worked {
			return true, nil
		}
		w.resp.Resume = w.resume(batch)
		return false, nil
	})
	w.resp.Fuel = m.Fuel()
	return err
}

// maxPage bounds what a page may be asked to hold.
const maxPage = 4 << 20

func lastKey(batch []byte) (key []byte) {
	for r := packed.NewReader(batch); r.Next(); {
		key = r.Key()
	}
	return key
}

// openView opens the request's range at a timestamp. A view that comes after the caller has gone is closed.
func openView(ctx context.Context, s store, req *locuspb.RunRangeRequest, ts hlc.Timestamp) (raftstore.View, error) {
	type opened struct {
		view raftstore.View
		err  error
	}
	ch := make(chan opened, 1)
	var settled atomic.Bool // by the view's coming, or by the caller's going
	s.OpenView(ids.RangeID(req.RangeId), req.BoundsEpoch, ts, func(v raftstore.View, err error) {
		if settled.CompareAndSwap(false, true) {
			ch <- opened{v, err}
		} else if err == nil {
			v.Close()
		}
	})
	select {
	case o := <-ch:
		return o.view, o.err
	case <-ctx.Done():
		if settled.CompareAndSwap(false, true) {
			return nil, ctx.Err()
		}
		o := <-ch
		return o.view, o.err
	}
}

// eachBatch hands the records of the span to f, until it has had enough, and counts them.
func (w *work) eachBatch(ctx context.Context, f func(batch []byte) (more bool, err error)) error {
	var stopped error
	err := w.view.Scan(w.span, w.layout.HeaderLen(), func(b raftstore.Batch) (more bool) {
		if stopped = ctx.Err(); stopped != nil {
			return false
		}
		if w.lasts != 0 && b.Expires != 0 && b.Expires <= w.lasts {
			stopped = errExpired
			return false
		}
		if w.newest && !b.Cached && !w.engine {
			w.until, w.engine = w.until.Add(newestEngineTime-newestTime), true
		}
		if more, stopped = f(b.Packed); stopped != nil {
			return false
		}
		w.resp.Records += uint64(b.Records)
		w.resp.Bytes += uint64(len(b.Packed))
		return more
	})
	if stopped != nil {
		return stopped
	}
	return err
}
