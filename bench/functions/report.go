package functions

import (
	"slices"
	"time"
)

// Report is what was measured. It is also its form in JSON.
type Report struct {
	Version string    `json:"version"`
	System  string    `json:"system"`
	CPUs    int       `json:"cpus"`
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	Flights int       `json:"flights"`
	Data    string    `json:"data"` // where the flights came from
	Rounds  int       `json:"rounds"`
	Quick   bool      `json:"quick,omitempty"`
	Redis   string    `json:"redis"` // its version, or why there is none
	// LoadBefore and LoadAfter are the machine's load averages of a minute; empty where the system does not tell.
	LoadBefore string `json:"load_before,omitempty"`
	LoadAfter  string `json:"load_after,omitempty"`
	Rows       []*Row `json:"rows"`
}

// Row is a line of the table, with all that was compared for it.
type Row struct {
	Name       string      `json:"name"`
	Title      string      `json:"title"`
	Contenders []Contender `json:"contenders"`
	Aims       []Aim       `json:"aims"`
	Notes      []string    `json:"notes,omitempty"`
	// Skipped says what is missing, and why.
	Skipped []string `json:"skipped,omitempty"`
	Failed  string   `json:"failed,omitempty"`
}

// Contender is one way to do a thing.
type Contender struct {
	State string `json:"state,omitempty"` // warm, cold, or how far away the client is
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Series
	// Received is how many bytes came to the client, the median of the turns; 0: not counted.
	Received float64 `json:"received_bytes,omitempty"`
}

// Series are measurements of the same.
type Series struct {
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"` // in the order of the rounds
}

func seriesOf(samples []float64) Series {
	s := Series{Samples: samples, Median: median(samples)}
	if len(samples) > 0 {
		s.Min, s.Max = slices.Min(samples), slices.Max(samples)
	}
	return s
}

func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Aim is something that was to be reached, beside what was.
type Aim struct {
	State  string  `json:"state,omitempty"`
	What   string  `json:"what"`
	Unit   string  `json:"unit"` // x: times
	Want   float64 `json:"want"`
	AtMost bool    `json:"at_most"` // Want is the most, and not the least
	Got    float64 `json:"got"`
	Met    bool    `json:"met"`
}

func (r *Row) aim(state, what, unit string, got, want float64, atMost bool) {
	met := got >= want
	if atMost {
		met = got <= want
	}
	r.Aims = append(r.Aims, Aim{State: state, What: what, Unit: unit, Want: want, AtMost: atMost, Got: got, Met: met})
}

// skip says once that something is missing.
func (r *Row) skip(what string) {
	if !slices.Contains(r.Skipped, what) {
		r.Skipped = append(r.Skipped, what)
	}
}

// times is how many times a is of b; 0 if that can't be told.
func times(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
