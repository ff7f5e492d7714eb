package functions

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of Options.
const (
	MaxRecords  = 100_000_000
	MaxRounds   = 100
	MinDuration = 50 * time.Millisecond
	MaxDuration = time.Minute
)

// Options say what Run does.
type Options struct {
	Binary string // the locus to run
	Parent string // where the temporary directory is made; empty: the system's place
	// CompiledDir is where this process keeps compiled functions; empty: in the temporary directory.
	CompiledDir string
	Flights     string // a file of flights (CSV, gzipped or not); empty: the bundled ones, again and again
	// Records is how many flights are stored, in each of two layouts.
	Records int
	// Rounds is how many turns each contender has. Duration is how long a turn of calls lasts; a turn of an aggregate is one run.
	Rounds   int
	Duration time.Duration
	// Limit ends what is not done by then: rows that are missing say so.
	Limit time.Duration
	// Rows are the names of rows; empty: all.
	Rows []string
	// Quick takes less of everything else too: to see that it works, not for numbers.
	Quick bool
	// Tell, if not nil, is told what is done next.
	Tell func(string)
}

// Defaults are those of the command.
func Defaults() Options {
	return Options{Records: 3_000_000, Rounds: 5, Duration: 3 * time.Second, Limit: 30 * time.Minute}
}

// Quickly are the defaults with Quick.
func Quickly() Options {
	return Options{Records: 10_000, Rounds: 1, Duration: 200 * time.Millisecond, Limit: 30 * time.Minute, Quick: true}
}

// Validate says what is wrong, by the names of the command's flags.
func (o Options) Validate() error {
	switch {
	case o.Records < 1000 || o.Records > MaxRecords:
		return fmt.Errorf("--records %d is not between 1000 and %d", o.Records, MaxRecords)
	case o.Rounds < 1 || o.Rounds > MaxRounds:
		return fmt.Errorf("--rounds %d is not between 1 and %d", o.Rounds, MaxRounds)
	case o.Duration < MinDuration || o.Duration > MaxDuration:
		return fmt.Errorf("--duration %s is not between %s and %s", o.Duration, MinDuration, MaxDuration)
	case o.Limit <= 0:
		return fmt.Errorf("--limit %s is not above 0", o.Limit)
	}
	for _, name := range o.Rows {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("--rows: %q is none of %s", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// sizes are the amounts that are no options.
type sizes struct {
	sums      int // records of one range, of 100 bytes
	callKeys  int // keys that are called on
	few       int // keys of a small sum
	instances int // of a guest in C that are made to weigh them; of one in Go a quarter
}

func (o Options) sizes() sizes {
	if o.Quick {
		return sizes{sums: 5000, callKeys: 1000, few: 1000, instances: 16}
	}
	return sizes{sums: 100_000, callKeys: 100_000, few: 1000, instances: 64}
}
