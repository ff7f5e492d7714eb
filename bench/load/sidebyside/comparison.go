package sidebyside

import (
	"cmp"
	"slices"
	"time"

	"github.com/locuskv/locus/bench/load"
)

// Comparison is the result. It is also its form in JSON.
type Comparison struct {
	Begun     time.Time `json:"begun"`
	Took      float64   `json:"took_seconds"`
	System    string    `json:"system"`
	CPUs      int       `json:"cpus"`
	InMemory  bool      `json:"data_in_memory"` // so that an fsync cost nothing
	Rounds    int       `json:"rounds"`
	Duration  float64   `json:"duration_seconds"` // of a turn
	Warmup    float64   `json:"warmup_seconds"`   // before it
	Keys      int       `json:"keys"`
	ValueSize int       `json:"value_size"`
	Locus     Store     `json:"locus"`
	Etcd      Store     `json:"etcd"`
	Loads     []Load    `json:"loads"`
	Leases    []Leases  `json:"leases"`
	Rows      []Result  `json:"rows"`
}

// Store is what is the same for all rows of a store: three nodes, all numbers are of them together. Memory is
// anonymous resident memory (RssAnon) in bytes; zero where the system does not tell.
type Store struct {
	Version    string  `json:"version"`
	Durability string  `json:"durability"`
	IdleCPUs   float64 `json:"idle_cpus"` // without data and without requests
	Idle       int64   `json:"rss_anon_idle"`
	Loaded     int64   `json:"rss_anon_loaded"`
	End        int64   `json:"rss_anon_end"`
	// LoadedMapped is the resident part of mapped files (RssFile), which is where etcd has its data.
	LoadedMapped int64 `json:"rss_file_loaded,omitempty"`
}

// Load is how long a store took to take the keys.
type Load struct {
	Store   string  `json:"store"`
	Ranges  int     `json:"ranges,omitempty"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"keys_per_second"`
}

// Leases are how many ranges each store led in the end, of the keyspace with so many ranges.
type Leases struct {
	Ranges  int   `json:"ranges"`
	ByStore []int `json:"by_store"`
}

// Result is a row of the table: a workload on Locus with so many ranges, and on etcd. Rows that differ in
// nothing but the ranges have the same measurement of etcd.
type Result struct {
	Row
	Name   string `json:"name"`
	Ranges int    `json:"ranges"`
	Locus  Side   `json:"locus"`
	Etcd   Side   `json:"etcd"`
	// Ratio of the median rates, Locus to etcd; 0 if etcd did nothing.
	Ratio float64 `json:"ratio"`
}

// Side is what a store did in a row: of each number the median of the rounds, and what its name says.
type Side struct {
	Rate    float64     `json:"ops_per_second"`
	RateMin float64     `json:"ops_per_second_min"`
	RateMax float64     `json:"ops_per_second_max"`
	Rates   []float64   `json:"ops_per_second_rounds"`
	P50     load.Micros `json:"p50_us"`
	P99     load.Micros `json:"p99_us"`
	P999    load.Micros `json:"p99_9_us"`
	Max     load.Micros `json:"max_us"` // the highest of all rounds
	// CPUs that the nodes took, and those of the store that was not under test, at most.
	CPUs       float64 `json:"cpus"`
	Bystanders float64 `json:"bystander_cpus_max"`
	// Attempts per increment, if that is what was done.
	Attempts float64 `json:"attempts_per_increment,omitempty"`
	// RowCache is the share of the point reads that Locus's row caches answered; nil if there were none.
	RowCache *float64      `json:"row_cache_hit_rate,omitempty"`
	Errors   int64         `json:"errors"`
	Failed   []load.Failed `json:"failed"`
}

// rows puts the turns together.
func (m *match) rows() []Result {
	peer := m.contestants[len(m.contestants)-1]
	var out []Result
	for _, c := range m.contestants[:len(m.contestants)-1] {
		for _, row := range m.o.Rows {
			r := Result{
				Row: row, Name: row.Name(), Ranges: c.ranges, Locus: side(m.turns[turn{row, c}]), Etcd: side(m.turns[turn{row, peer}]),
			}
			if r.Etcd.Rate > 0 {
				r.Ratio = r.Locus.Rate / r.Etcd.Rate
			}
			m.result.Locus.Durability = cmp.Or(m.result.Locus.Durability, m.turns[turn{row, c}][0].report.Durability)
			m.result.Etcd.Durability = cmp.Or(m.result.Etcd.Durability, m.turns[turn{row, peer}][0].report.Durability)
			out = append(out, r)
		}
	}
	return out
}

// side summarizes the rounds of a contestant in a row.
func side(rounds []*played) Side {
	s := Side{Failed: []load.Failed{}}
	of := func(value func(*played) float64) []float64 {
		var out []float64
		for _, p := range rounds {
			out = append(out, value(p))
		}
		return out
	}
	s.Rates = of(func(p *played) float64 { return p.report.All.Rate })
	s.Rate, s.RateMin, s.RateMax = median(s.Rates), slices.Min(s.Rates), slices.Max(s.Rates)
	s.P50 = load.Micros(median(of(func(p *played) float64 { return float64(p.report.All.P50) })))
	s.P99 = load.Micros(median(of(func(p *played) float64 { return float64(p.report.All.P99) })))
	s.P999 = load.Micros(median(of(func(p *played) float64 { return float64(p.report.All.P999) })))
	s.Max = load.Micros(slices.Max(of(func(p *played) float64 { return float64(p.report.All.Max) })))
	s.CPUs = median(of(func(p *played) float64 { return p.servers }))
	s.Bystanders = slices.Max(of(func(p *played) float64 { return p.bystanders }))
	s.Attempts = median(of(func(p *played) float64 { return p.report.AttemptsPerIncrement }))
	s.RowCache = cacheRate(rounds)
	for _, p := range rounds {
		for _, f := range slices.Concat(p.report.Errors, p.report.WarmupErrors, inexact(p.report)) {
			s.fail(f)
		}
	}
	return s
}

// cacheRate is the median of the rounds that have one.
func cacheRate(rounds []*played) *float64 {
	var rates []float64
	for _, p := range rounds {
		if r := p.report.RowCacheHitRate; r != nil {
			rates = append(rates, *r)
		}
	}
	if len(rates) == 0 {
		return nil
	}
	m := median(rates)
	return &m
}

// inexact is a counter that does not hold what was acknowledged, as an error.
func inexact(r *load.Report) []load.Failed {
	if r.Counter == nil || r.Counter.Exact {
		return nil
	}
	return []load.Failed{{Op: load.Increment, Kind: "the counter is wrong", Count: 1, Example: r.Counter.String()}}
}

func (s *Side) fail(f load.Failed) {
	s.Errors += f.Count
	for i, have := range s.Failed {
		if have.Op == f.Op && have.Kind == f.Kind {
			s.Failed[i].Count += f.Count
			return
		}
	}
	s.Failed = append(s.Failed, f)
}

// median of at least one number; of an even number of them the mean of the two in the middle.
func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
