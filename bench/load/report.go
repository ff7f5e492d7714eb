package load

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Report is what a run came to. It is also its form in JSON.
type Report struct {
	Target    string  `json:"target,omitempty"` // for the caller to set
	Workload  string  `json:"workload"`
	Clients   int     `json:"clients"`
	Rate      float64 `json:"rate,omitempty"` // of an open loop, operations per second
	Keys      int     `json:"keys"`
	ValueSize int     `json:"value_size"`
	Choice    string  `json:"choice"`
	Warmup    float64 `json:"warmup_seconds"`
	// Seconds is the measured time, after the warm-up.
	Seconds float64 `json:"seconds"`
	// All are all operations together, Kinds each kind for itself.
	All   Operations   `json:"all"`
	Kinds []Operations `json:"kinds"`
	// Errors of the measured time, and of the warm-up. Failed operations are in no number above.
	Errors       []Failed `json:"errors"`
	WarmupErrors []Failed `json:"warmup_errors,omitempty"`
	// Unbegun are operations of an open loop that fell due and that no client had time for.
	Unbegun int64 `json:"unbegun,omitempty"`
	// AttemptsPerIncrement is 1 if no client ever came between another's read and write.
	AttemptsPerIncrement float64        `json:"attempts_per_increment,omitempty"`
	RecordsPerScan       float64        `json:"records_per_scan,omitempty"`
	Counter              *CounterReport `json:"counter,omitempty"`
	// Durability of the target's acknowledgements in words, and the share of its reads that its row cache
	// answered: for the caller to set.
	Durability      string   `json:"durability,omitempty"`
	RowCacheHitRate *float64 `json:"row_cache_hit_rate,omitempty"`
}

// Operations are the operations of a kind that succeeded. Ops and Rate are of those that ended in the measured
// time. The latencies are also of those that were under way at its end, however long they took; all are zero if
// there are none.
type Operations struct {
	Kind   Kind    `json:"kind,omitempty"`
	Ops    int64   `json:"ops"`
	Rate   float64 `json:"ops_per_second"`
	Mean   Micros  `json:"mean_us"`
	P50    Micros  `json:"p50_us"`
	P90    Micros  `json:"p90_us"`
	P99    Micros  `json:"p99_us"`
	P999   Micros  `json:"p99_9_us"`
	Max    Micros  `json:"max_us"`
	Failed int64   `json:"errors"`
}

// Micros is a time in microseconds.
type Micros float64

func micros(d time.Duration) Micros { return Micros(float64(d) / float64(time.Microsecond)) }

// Duration is the same as a duration.
func (m Micros) Duration() time.Duration {
	return time.Duration(float64(m) * float64(time.Microsecond))
}

// Failed are operations that failed alike.
type Failed struct {
	Op      Kind   `json:"op"`
	Kind    string `json:"kind"`
	Count   int64  `json:"count"`
	Example string `json:"example"` // one of them in words
}

// CounterReport compares the counter with the increments.
type CounterReport struct {
	Before       int64 `json:"before"`
	After        int64 `json:"after"`
	Acknowledged int64 `json:"acknowledged"` // warm-up included
	Failed       int64 `json:"failed"`       // may have taken effect or not
	// Exact: the counter rose by what was acknowledged, or by some of what failed more. Nobody else may work on
	// the counter meanwhile.
	Exact bool `json:"exact"`
}

// String is the comparison in words.
func (c *CounterReport) String() string {
	text := fmt.Sprintf("rose from %d to %d by %d acknowledged increments", c.Before, c.After, c.Acknowledged)
	if c.Failed > 0 {
		text += fmt.Sprintf(" and %d that failed", c.Failed)
	}
	return text
}

// Loaded is what a load came to. It is also its form in JSON.
type Loaded struct {
	Keys      int     `json:"keys"`
	ValueSize int     `json:"value_size"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"keys_per_second"`
}

// NewLoaded reports that all keys were written.
func NewLoaded(o Options, took time.Duration) Loaded {
	return Loaded{o.Keys, o.ValueSize, took.Seconds(), float64(o.Keys) / took.Seconds()}
}

func (r *run) report(warm *tally) *Report {
	total := r.recorder.total
	took := r.o.Duration
	out := &Report{
		Workload: r.o.Workload, Clients: r.o.Clients, Rate: r.o.Rate, Keys: r.o.Keys, ValueSize: r.o.ValueSize,
		Choice: r.choice, Warmup: r.o.Warmup.Seconds(), Seconds: took.Seconds(),
		Errors: total.errors(), WarmupErrors: warm.errors(), Unbegun: r.late.Load(),
	}
	for _, k := range kinds {
		l, used := total.latencies[k]
		failed := total.failedOf(k)
		if !used && failed == 0 {
			continue
		}
		if l == nil {
			l = new(latencies)
		}
		out.Kinds = append(out.Kinds, operations(k, l, took, failed))
	}
	out.All = operations("", total.all(), took, total.failed())
	if n := total.of(Increment).count(); n > 0 {
		out.AttemptsPerIncrement = float64(total.attempts) / float64(n)
	}
	if n := total.of(Scan).count(); n > 0 {
		out.RecordsPerScan = float64(total.records) / float64(n)
	}
	return out
}

func operations(k Kind, l *latencies, took time.Duration, failed int64) Operations {
	q := func(q float64) Micros { return micros(l.quantile(q)) }
	return Operations{
		Kind: k, Ops: l.ended, Rate: float64(l.ended) / took.Seconds(), Mean: micros(l.mean()),
		P50: q(0.5), P90: q(0.9), P99: q(0.99), P999: q(0.999), Max: micros(l.max), Failed: failed,
	}
}

// errors in a fixed order: the most frequent first.
func (t *tally) errors() []Failed {
	out := []Failed{}
	for f, e := range t.failures {
		out = append(out, Failed{Op: f.op, Kind: f.kind, Count: e.count, Example: e.example})
	}
	slices.SortFunc(out, func(a, b Failed) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Op, b.Op), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

func (t *tally) failedOf(k Kind) int64 {
	var n int64
	for f, e := range t.failures {
		if f.op == k {
			n += e.count
		}
	}
	return n
}
