package load

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The histograms: from half a microsecond to a minute, in steps of a thousandth.
const (
	lowest  = time.Microsecond
	highest = time.Minute
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(lowest), int64(highest), digits)
}

// latencies are what operations of a kind took.
type latencies struct {
	histogram *hdrhistogram.Histogram
	sum, max  time.Duration // exact, also beyond the histogram's range
	ended     int64         // operations of those that ended before the measured time did
}

func (l *latencies) add(d time.Duration) {
	if l.histogram == nil {
		l.histogram = newHistogram() // 140 kB: only for what there is
	}
	l.sum += d
	l.max = max(l.max, d)
	if err := l.histogram.RecordValue(int64(min(max(d, 0), highest))); err != nil {
		panic(err) // the range was just seen to
	}
}

func (l *latencies) merge(from *latencies) {
	l.ended += from.ended
	if from.count() == 0 {
		return
	}
	if l.histogram == nil {
		l.histogram = newHistogram()
	}
	l.histogram.Merge(from.histogram)
	l.sum += from.sum
	l.max = max(l.max, from.max)
}

func (l *latencies) reset() {
	l.sum, l.max, l.ended = 0, 0, 0
	if l.histogram != nil {
		l.histogram.Reset()
	}
}

func (l *latencies) count() int64 {
	if l.histogram == nil {
		return 0
	}
	return l.histogram.TotalCount()
}

// quantile is the latency that a share q of the operations did not exceed.
func (l *latencies) quantile(q float64) time.Duration {
	if l.count() == 0 {
		return 0
	}
	return min(time.Duration(l.histogram.ValueAtQuantile(100*q)), l.max)
}

func (l *latencies) mean() time.Duration {
	if l.count() == 0 {
		return 0
	}
	return l.sum / time.Duration(l.count())
}

// failure names errors that are counted together.
type failure struct {
	op   Kind
	kind string
}

// failures are how often, and one of them in words.
type failures struct {
	count   int64
	example string
}

// tally is what happened, by kinds.
type tally struct {
	latencies map[Kind]*latencies
	failures  map[failure]*failures
	attempts  int64 // of increments
	records   int64 // scanned
}

func newTally() *tally {
	return &tally{latencies: make(map[Kind]*latencies), failures: make(map[failure]*failures)}
}

func (t *tally) of(k Kind) *latencies {
	l := t.latencies[k]
	if l == nil {
		l = new(latencies)
		t.latencies[k] = l
	}
	return l
}

func (t *tally) fail(f failure, count int64, example string) {
	e := t.failures[f]
	if e == nil {
		e = &failures{example: example}
		t.failures[f] = e
	}
	e.count += count
}

// add counts one operation.
func (t *tally) add(o outcome) {
	t.attempts += int64(o.attempts)
	t.records += int64(o.records)
	if o.err != nil {
		t.fail(failure{o.kind, kindOf(o.err)}, 1, o.err.Error())
		return
	}
	l := t.of(o.kind)
	l.add(o.ended.Sub(o.due))
	if o.inTime {
		l.ended++
	}
}

func (t *tally) merge(from *tally) {
	for k, l := range from.latencies {
		t.of(k).merge(l)
	}
	for f, e := range from.failures {
		t.fail(f, e.count, e.example)
	}
	t.attempts += from.attempts
	t.records += from.records
}

func (t *tally) reset() {
	for _, l := range t.latencies {
		l.reset()
	}
	clear(t.failures)
	t.attempts, t.records = 0, 0
}

// all are the latencies of all kinds together.
func (t *tally) all() *latencies {
	out := new(latencies)
	for _, l := range t.latencies {
		out.merge(l)
	}
	return out
}

func (t *tally) failed() int64 {
	var n int64
	for _, e := range t.failures {
		n += e.count
	}
	return n
}

// outcome is one operation that ended.
type outcome struct {
	kind       Kind
	due, ended time.Time // due: when it began; in an open loop, when it should have
	inTime     bool      // ended before the measured time did
	attempts   int
	records    int
	err        error
}

// recorder takes outcomes from many workers. Each writes to one of a few shards, so that they seldom wait for
// one another and the histograms of thousands of workers stay small.
type recorder struct {
	shards []shard
	total  *tally // of what was collected; the collector's alone
}

type shard struct {
	sync.Mutex
	measured *tally
	warm     *tally // of operations that ended before the measured time began
}

func newRecorder() *recorder {
	r := &recorder{shards: make([]shard, 4*runtime.GOMAXPROCS(0)), total: newTally()}
	for i := range r.shards {
		r.shards[i].measured, r.shards[i].warm = newTally(), newTally()
	}
	return r
}

func (r *recorder) record(worker int, o outcome, measured bool) {
	s := &r.shards[worker%len(r.shards)]
	s.Lock()
	defer s.Unlock()
	if measured {
		s.measured.add(o)
	} else {
		s.warm.add(o)
	}
}

// collect moves what was measured since the last time into the total, and returns it together with what was
// done in the warm-up since.
func (r *recorder) collect() (measured, warm *tally) {
	measured, warm = newTally(), newTally()
	for i := range r.shards {
		s := &r.shards[i]
		s.Lock()
		measured.merge(s.measured)
		warm.merge(s.warm)
		s.measured.reset()
		s.warm.reset()
		s.Unlock()
	}
	r.total.merge(measured)
	return measured, warm
}
