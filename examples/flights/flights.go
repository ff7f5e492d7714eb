package flights

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/locuskv/locus/examples/flights/delays"
)

// FunctionName is the name that Module declares for its function. It takes no argument (JSON null), and
// its result is a JSON array of Airport, by code.
const FunctionName = "flights-delays"

// Module is the function, as WebAssembly.
//
//go:embed flights.wasm
var Module []byte

//go:embed data/flights-100k.csv.gz
var sample []byte

// Sample is a bundled file of 100,000 flights spread over the first half of 2001: gzipped CSV, for Read.
func Sample() io.ReadCloser { return io.NopCloser(bytes.NewReader(sample)) }

// Accumulator summarizes records; see package delays.
type Accumulator = delays.Accumulator

// Airport is the summary of one origin.
type Airport = delays.Airport

// Top are the n airports with the highest mean delay among those with at least minFlights flights; equal
// means go by code.
func Top(a []Airport, n int, minFlights int64) []Airport {
	top := slices.DeleteFunc(slices.Clone(a), func(x Airport) bool { return x.Flights < minFlights })
	slices.SortFunc(top, func(x, y Airport) int {
		return cmp.Or(cmp.Compare(y.MeanDelay, x.MeanDelay), strings.Compare(x.Origin, y.Origin))
	})
	return top[:min(n, len(top))]
}

// Numberer makes the keys of records. The zero value is ready; it holds one count per origin and day.
type Numberer struct{ seen map[string]int }

// Key is ORIGIN/YYYY-MM-DD/NNNN, where NNNN counts the flights of this origin and day in the order of the
// calls, from 0001; it grows beyond four digits.
func (n *Numberer) Key(r Record) []byte {
	if n.seen == nil {
		n.seen = make(map[string]int)
	}
	day, _, _ := strings.Cut(r.Date, "T")
	prefix := r.Origin + "/" + day + "/"
	i := n.seen[prefix] + 1
	n.seen[prefix] = i
	return fmt.Appendf(nil, "%s%04d", prefix, i)
}

// stored is the value of a record.
type stored struct {
	Date        string `json:"date"`
	Delay       int    `json:"delay"`
	Distance    int    `json:"distance"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
}

// Value is a record as a small JSON object:
// {"date":"2001-01-01T00:01","delay":33,"distance":2176,"origin":"LAS","destination":"PHL"}
func Value(r Record) []byte {
	b, err := json.Marshal(stored(r))
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return b
}
