package load

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// errorPause keeps a client from asking a store that refuses everything as fast as it can.
const errorPause = 10 * time.Millisecond

// worker is one client.
type worker struct {
	run     *run
	index   int
	rng     *rand.Rand
	chooser chooser
	key     []byte
}

func newWorker(r *run, index int) *worker {
	w := &worker{run: r, index: index, rng: newRand(r.o.Seed, uint64(index))}
	keys := uint64(r.o.Keys)
	switch r.choice {
	case Uniform:
		w.chooser = &uniform{w.rng, keys}
	case Zipfian:
		w.chooser = newZipfian(w.rng, keys, r.zeta)
	case Latest:
		w.chooser = &latest{newZipfian(w.rng, keys, r.zeta), r.inserts}
	}
	return w
}

// work issues operations until the time is over.
func (w *worker) work(ctx context.Context) {
	for {
		due, ok := w.due(ctx)
		if !ok {
			return
		}
		o := w.operate(ctx)
		if ctx.Err() != nil {
			return // whatever the interruption made of the operation under way
		}
		o.due, o.ended = due, time.Now()
		o.inTime = o.ended.Before(w.run.to)
		w.run.recorder.record(w.index, o, !o.ended.Before(w.run.from))
		if o.err != nil {
			pause(ctx, errorPause)
		}
	}
}

// due waits until the next operation is to begin and returns when it was to; false: there is none.
func (w *worker) due(ctx context.Context) (time.Time, bool) {
	r := w.run
	if r.o.Rate == 0 {
		now := time.Now()
		return now, now.Before(r.to)
	}
	due := r.begun.Add(time.Duration(float64(r.issued.Add(1)-1) / r.o.Rate * float64(time.Second)))
	if !due.Before(r.to) {
		return due, false
	}
	pause(ctx, time.Until(due))
	if ctx.Err() != nil {
		return due, false
	}
	if !time.Now().Before(r.to) {
		// The store is behind by as much as the clients can be: what is left is told, not done, or the run
		// would last as long as the store likes.
		w.unbegun()
		return due, false
	}
	return due, true
}

// unbegun counts the operation that was taken, and all that nobody will take any more.
func (w *worker) unbegun() {
	r := w.run
	r.late.Add(1)
	all := uint64(math.Ceil(r.to.Sub(r.begun).Seconds() * r.o.Rate))
	for {
		n := r.issued.Load()
		if n >= all {
			return
		}
		if r.issued.CompareAndSwap(n, all) {
			r.late.Add(int64(all - n))
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// operate does one operation.
func (w *worker) operate(ctx context.Context) outcome {
	o := outcome{kind: w.run.workload.kindAt(w.rng.IntN(100))}
	switch o.kind {
	case Get:
		o.err = w.get(ctx, w.choose())
	case Put:
		o.err = w.put(ctx, w.choose())
	case Insert:
		n := w.run.inserts.begin()
		o.err = w.put(ctx, n)
		w.run.inserts.end(n)
	case Scan:
		w.key = AppendKey(w.key[:0], w.choose())
		o.records, o.err = w.run.target.Scan(ctx, w.key, 1+w.rng.IntN(maxScan))
	case ReadModifyWrite:
		n := w.choose()
		if o.err = w.get(ctx, n); o.err == nil {
			o.err = w.put(ctx, n)
		}
	case Increment:
		o.attempts, o.err = w.increment(ctx)
	}
	return o
}

func (w *worker) choose() uint64 { return w.chooser.next() }

func (w *worker) get(ctx context.Context, n uint64) error {
	w.key = AppendKey(w.key[:0], n)
	_, found, err := w.run.target.Get(ctx, w.key)
	if err == nil && !found {
		err = errNotFound
	}
	return err
}

func (w *worker) put(ctx context.Context, n uint64) error {
	w.key = AppendKey(w.key[:0], n)
	return w.run.target.Put(ctx, w.key, w.run.noise.cut(w.rng, w.run.o.ValueSize))
}

func (w *worker) increment(ctx context.Context) (int, error) {
	attempts, err := w.run.target.Increment(ctx, CounterKey)
	if err != nil {
		w.run.uncounted.Add(1)
	} else {
		w.run.counted.Add(1)
	}
	return attempts, err
}
