package sidebyside

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/locusload"
)

// Options say what is compared.
type Options struct {
	// Locus and Helper are the binaries: locus itself, and bench/peers. An empty Helper is built.
	Locus, Helper string
	// Parent is where the temporary directory is made; empty: the system's. Its disk is what is measured.
	Parent string
	// Rounds is how often each row is measured; Duration and Warmup are of one turn of one store.
	Rounds           int
	Duration, Warmup time.Duration
	Keys, ValueSize  int
	// Ranges are the numbers of ranges that Locus has its keys in; each is a store of its own in the table.
	Ranges []int
	Rows   []Row
	// Tell, if not nil, is told in words how it goes. It is called from one goroutine at a time.
	Tell func(string)
}

// Row is a workload and a number of clients.
type Row struct {
	Workload string `json:"workload"`
	Clients  int    `json:"clients"`
}

// Name is the row for people.
func (r Row) Name() string {
	what := map[string]string{"put": "puts", "get": "gets", "mix": "mix 95/5"}[r.Workload]
	plural := "s"
	if r.Clients == 1 {
		plural = ""
	}
	return fmt.Sprintf("%s, %d client%s", cmp.Or(what, r.Workload), r.Clients, plural)
}

// DefaultRows are the rows of the table for a number of clients in the busy ones.
func DefaultRows(clients int) []Row {
	return []Row{
		{"put", clients}, {"put", 1}, {"get", clients}, {"get", 1}, {"mix", max(1, clients/4)}, {"counter", clients},
	}
}

// ParseRows reads WORKLOAD/CLIENTS,...
func ParseRows(text string) ([]Row, error) {
	var out []Row
	for part := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(part, "/")
		clients, err := strconv.Atoi(number)
		if !ok || err != nil {
			return nil, fmt.Errorf("--rows: %q is not WORKLOAD/CLIENTS", part)
		}
		out = append(out, Row{name, clients})
	}
	return out, nil
}

// Validate says what is wrong with the options, by the names of the flags.
func (o *Options) Validate() error {
	if o.Rounds < 1 || o.Rounds > 1000 {
		return fmt.Errorf("--rounds %d is not between 1 and 1000", o.Rounds)
	}
	if len(o.Ranges) == 0 || len(o.Rows) == 0 {
		return fmt.Errorf("there is nothing to compare: %d numbers of ranges, %d rows", len(o.Ranges), len(o.Rows))
	}
	for _, n := range o.Ranges {
		if n < 1 || n > locusload.MaxRanges {
			return fmt.Errorf("--ranges %d is not between 1 and %d", n, locusload.MaxRanges)
		}
	}
	for _, r := range o.Rows {
		l := o.load(r)
		if err := l.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// load are the options of a turn.
func (o *Options) load(r Row) load.Options {
	l := load.Defaults()
	l.Workload, l.Clients, l.Duration, l.Warmup, l.Keys, l.ValueSize = r.Workload, r.Clients, o.Duration, o.Warmup, o.Keys, o.ValueSize
	return l
}

// Turns is how many turns all rounds have.
func (o *Options) Turns() int { return o.Rounds * len(o.Rows) * (len(o.Ranges) + 1) }
