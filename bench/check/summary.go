package check

import (
	"fmt"
	"time"

	"github.com/locuskv/locus/bench/history"
)

// Operations counts what clients did, by outcome.
type Operations struct {
	Keys       int   `json:"unique_keys"`      // acknowledged
	Calls      int   `json:"counter_calls"`    // acknowledged
	Optimistic int   `json:"optimistic_calls"` // of them, those in optimistic mode
	Writes     int   `json:"register_writes"`  // acknowledged, deletions included
	Conflicts  int   `json:"conflicts"`        // compare-and-swaps whose comparison did not hold
	Reads      int64 `json:"reads"`
	Snapshots  int   `json:"snapshots"`       // fresh ones, of all ranges
	Again      int   `json:"snapshots_again"` // read once more
	Ambiguous  int   `json:"ambiguous"`       // may or may not have taken effect
	Refused    int   `json:"refused"`         // did nothing, the cluster says
}

// Operations counts what was done so far.
func (l *Load) Operations() Operations {
	o := Operations{Reads: l.reads.Load()}
	for _, w := range l.writers {
		for n := range w.len() {
			switch what, _ := w.get(n); what {
			case acknowledged:
				o.Keys++
			case ambiguous:
				o.Ambiguous++
			case refused:
				o.Refused++
			}
		}
	}
	for _, c := range l.counters {
		c.mu.Lock()
		o.Calls += len(c.adds)
		for _, a := range c.adds {
			if a.Optimistic {
				o.Optimistic++
			}
		}
		o.Ambiguous += len(c.unknown)
		c.mu.Unlock()
	}
	all, again := l.cuts.list()
	o.Snapshots, o.Again = len(all), again
	for _, x := range l.clock.Operations() {
		switch {
		case x.Output.Unknown:
			o.Ambiguous++
		case x.Output.Failed:
			o.Conflicts++
		case x.Input.Kind == history.Get:
			o.Reads++
		default:
			o.Writes++
		}
	}
	return o
}

func (o Operations) String() string {
	return fmt.Sprintf("acknowledged: %d unique keys, %d counter calls (%d optimistic), %d writes of registers; %d comparisons that did not hold; %d reads; %d snapshots, %d read again; ambiguous: %d; refused: %d",
		o.Keys, o.Calls, o.Optimistic, o.Writes, o.Conflicts, o.Reads, o.Snapshots, o.Again, o.Ambiguous, o.Refused)
}

// Report sums up the load, with the errors that clients got.
func (l *Load) Report(took time.Duration) string {
	return fmt.Sprintf("%s; in %s%s", l.Operations(), round(took), l.errors.String())
}
