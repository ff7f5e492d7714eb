package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Second is what happened in about one second of a run.
type Second struct {
	Elapsed time.Duration // since the run began, warm-up included
	Warmup  bool          // nothing of it is measured
	Ops     int64         // that ended and succeeded
	Took    time.Duration // the second's true length
	P50     time.Duration
	P99     time.Duration
	Errors  int64
}

// String is the second as one line.
func (s Second) String() string {
	line := fmt.Sprintf("%4.0fs  %8.0f ops/s  p50 %s  p99 %s  %d errors", s.Elapsed.Seconds(), float64(s.Ops)/s.Took.Seconds(), round(s.P50), round(s.P99), s.Errors)
	if s.Warmup {
		line += "  (warm-up)"
	}
	return line
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// run is one run under way.
type run struct {
	target   Target
	o        Options
	workload workload
	choice   string
	noise    noise
	zeta     float64
	inserts  *inserts
	recorder *recorder

	begun, from, to time.Time     // the measured time is [from, to)
	issued          atomic.Uint64 // operations of the open loop
	late            atomic.Int64  // fell due, but not begun
	counted         atomic.Int64  // increments that were acknowledged, warm-up included
	uncounted       atomic.Int64  // increments that failed: they may have taken effect
}

// Run works on a target as the options say. Each second it tells live, if that is not nil, from a goroutine of
// its own. An error is the options' or ctx's; what operations fail with is in the report.
func Run(ctx context.Context, t Target, o Options, live func(Second)) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := prepare(t, o)
	before, err := r.counter(ctx)
	if err != nil {
		return nil, err
	}
	warm, err := r.work(ctx, live)
	if err != nil {
		return nil, err
	}
	report := r.report(warm)
	after, err := r.counter(ctx)
	if err != nil {
		return nil, err
	}
	report.Counter = r.judge(before, after)
	return report, nil
}

func prepare(t Target, o Options) *run {
	w, _ := workloadNamed(o.Workload) // validated
	r := &run{
		target: t, o: o, workload: w, choice: o.Choice, noise: newNoise(o.Seed, o.ValueSize),
		inserts: newInserts(uint64(o.Keys)), recorder: newRecorder(),
	}
	if r.choice == "" {
		r.choice = w.choice
	}
	if r.choice != Uniform {
		r.zeta = zeta(0, 0, uint64(o.Keys)) // about 30 ns a key, and before the time begins
	}
	return r
}

// work runs the workers until the time is over and what they began has ended, and returns what happened in
// the warm-up.
func (r *run) work(ctx context.Context, live func(Second)) (*tally, error) {
	workers := make([]*worker, r.o.Clients)
	for i := range workers {
		workers[i] = newWorker(r, i)
	}
	r.begun = time.Now()
	r.from = r.begun.Add(r.o.Warmup)
	r.to = r.from.Add(r.o.Duration)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { w.work(ctx) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	warm := r.watch(done, live)
	return warm, ctx.Err()
}

// watch collects once a second until done.
func (r *run) watch(done <-chan struct{}, live func(Second)) *tally {
	warm := newTally()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := r.begun
	for {
		select {
		case <-done:
			_, w := r.recorder.collect()
			warm.merge(w)
			return warm
		case now := <-tick.C:
			m, w := r.recorder.collect()
			warm.merge(w)
			if live != nil {
				live(r.second(m, w, last, now))
			}
			last = now
		}
	}
}

func (r *run) second(measured, warm *tally, last, now time.Time) Second {
	measured.merge(warm)
	all := measured.all()
	s := Second{Elapsed: now.Sub(r.begun), Took: now.Sub(last), Warmup: now.Before(r.from), Errors: measured.failed()}
	s.Ops, s.P50, s.P99 = all.count(), all.quantile(0.5), all.quantile(0.99)
	return s
}

// counter reads the counter, if the workload is about it.
func (r *run) counter(ctx context.Context) (int64, error) {
	if r.workload.name != "counter" {
		return 0, nil
	}
	value, found, err := r.target.Get(ctx, CounterKey)
	if err != nil || !found {
		return 0, err
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the key %q does not hold a counter: %w", CounterKey, err)
	}
	return n, nil
}

// judge compares the counter with what was acknowledged.
func (r *run) judge(before, after int64) *CounterReport {
	if r.workload.name != "counter" {
		return nil
	}
	c := &CounterReport{Before: before, After: after, Acknowledged: r.counted.Load(), Failed: r.uncounted.Load()}
	rise := after - before
	c.Exact = c.Acknowledged <= rise && rise <= c.Acknowledged+c.Failed
	return c
}
