package functions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/examples/flights/delays"
	"github.com/locuskv/locus/examples/guests"
)

// layout is a way to store flights.
type layout struct {
	keyspace string
	value    func(flights.Record) []byte
	// add counts a record that was pulled, as the native function counts it.
	add func(a *delays.Accumulator, key, value []byte) error
	// near are the ways to have it counted where it lies.
	near []near
	// cold and warm are how many times faster than pulling the guest in C and the native function are to be.
	cold, warm float64
}

// near is a range function that does the aggregate.
type near struct {
	name, function string
	module         []byte // nil: native
	aimed          bool   // whether the layout's aims are about it
	approximate    bool   // whether its percentiles are within p95Error, and not exact
	run            func(ctx context.Context, span client.Span) ([]flights.Airport, error)
}

var (
	jsonLayout = &layout{
		keyspace: jsonKeyspace, value: flights.Value, add: (*delays.Accumulator).AddRecord, cold: 2, warm: 10,
		near: []near{
			airportsByOperators(""),
			builtin(native.DelaysJSON),
			guestC("delays"),
			{name: "guest in Go", function: flights.FunctionName, module: flights.Module, run: airports(flights.FunctionName)},
		},
	}
	fixedLayout = &layout{
		keyspace: fixedKeyspace, add: native.AddFixed, cold: 3, warm: 40,
		value: func(r flights.Record) []byte { return native.FixedValue(nil, r.Delay, r.Distance, r.Destination) },
		near:  []near{airportsByOperators("delay:i32@0"), builtin(native.DelaysFixed), guestC("delays-fixed")},
	}
	layouts = []*layout{jsonLayout, fixedLayout}
)

// builtin is a native function of package native: what is compiled into the node for this alone.
func builtin(function string) near {
	return near{name: "native function", function: function, run: airports(function)}
}

func airports(function string, o ...client.FuncOption) func(context.Context, client.Span) ([]flights.Airport, error) {
	f := client.NewRangeFunc[*struct{}, []flights.Airport](function, o...)
	return func(ctx context.Context, span client.Span) ([]flights.Airport, error) { return f.Run(ctx, span, nil) }
}

// guestC is a function of examples/guests/c/delays.c, whose result has sums instead of means, and no order.
func guestC(function string, o ...client.FuncOption) near {
	type summed struct {
		Origin  string `json:"origin"`
		Flights int64  `json:"flights"`
		Sum     int64  `json:"sum"`
		P95     int    `json:"p95"`
	}
	f := client.NewRangeFunc[*struct{}, []summed](function, o...)
	run := func(ctx context.Context, span client.Span) ([]flights.Airport, error) {
		sums, err := f.Run(ctx, span, nil)
		out := make([]flights.Airport, 0, len(sums))
		for _, s := range sums {
			out = append(out, flights.Airport{Origin: s.Origin, Flights: s.Flights, MeanDelay: float64(s.Sum) / float64(s.Flights), P95: s.P95})
		}
		slices.SortFunc(out, func(a, b flights.Airport) int { return strings.Compare(a.Origin, b.Origin) })
		return out, err
	}
	return near{name: "guest in C", function: function, module: guests.Delays, aimed: true, run: run}
}

// sameAnswer compares counts, means and percentiles: to the last bit, but for percentiles that are approximate.
func sameAnswer(got, want []flights.Airport, approximate bool) error {
	same := func(a, b flights.Airport) bool {
		off := 0.0
		if approximate {
			off = p95Error*math.Abs(float64(b.P95)) + 0.5 // it was rounded
		}
		return a.Origin == b.Origin && a.Flights == b.Flights && a.MeanDelay == b.MeanDelay && math.Abs(float64(a.P95-b.P95)) <= off
	}
	if slices.EqualFunc(got, want, same) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if !same(got[i], want[i]) {
			return fmt.Errorf("a wrong answer: %+v instead of %+v", got[i], want[i])
		}
	}
	return fmt.Errorf("a wrong answer: %d origins instead of %d", len(got), len(want))
}

// pull computes the aggregate from all records.
func (l *layout) pull(ctx context.Context, db *client.DB, p plan) ([]flights.Airport, error) {
	parts := make([]delays.Accumulator, p.scans)
	err := p.pull(ctx, db, l.keyspace, func(part int, item client.Item) error { return l.add(&parts[part], item.Key, item.Value) })
	if err != nil {
		return nil, err
	}
	for i := range parts[1:] {
		parts[0].Merge(&parts[i+1])
	}
	return parts[0].Airports(), nil
}

// plan is a way to pull the records of a keyspace: so many scans beside each other, with pages of so many bytes.
type plan struct{ scans, page int }

func (p plan) String() string {
	if p.scans == 1 {
		return fmt.Sprintf("one scan, pages of %d KiB", p.page>>10)
	}
	return fmt.Sprintf("%d scans, pages of %d KiB", p.scans, p.page>>10)
}

// plans are those that are tried: the quickest counts.
var plans = []plan{{1, 256 << 10}, {1, 1 << 20}, {1, 4 << 20}, {4, 256 << 10}, {4, 1 << 20}, {4, 4 << 20}}

// pull calls f with all records of a keyspace at one timestamp, those of each part one after another.
func (p plan) pull(ctx context.Context, db *client.DB, name string, f func(part int, item client.Item) error) error {
	ks := db.Keyspace(name)
	spans := []client.Span{ks.All()}
	if p.scans > 1 {
		ranges, err := ks.Ranges(ctx)
		if err != nil {
			return err
		}
		spans = spansOf(ks, ranges, p.scans)
	}
	snapshot, err := db.Snapshot(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for part, span := range spans {
		group.Go(func() error {
			for item, err := range ks.Scan(ctx, span, client.AtTimestamp(snapshot.Timestamp()), client.PageBytes(p.page)) {
				if err != nil {
					return err
				}
				if err := f(part, item); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), snapshot.Close())
}

// spansOf are at most n spans of as many ranges each, that cover a keyspace.
func spansOf(ks *client.Keyspace, ranges []client.RangeInfo, n int) []client.Span {
	n = min(n, len(ranges))
	var out []client.Span
	for i := range n {
		first, last := ranges[i*len(ranges)/n], ranges[(i+1)*len(ranges)/n-1]
		out = append(out, ks.Span(first.Start, last.End))
	}
	return out
}

// tries is how often each plan is tried: its shortest time counts, because what else happens on the machine only makes it longer.
const tries = 2

// best tries all plans on a keyspace, and remembers the quickest.
func (b *bench) best(ctx context.Context, l *layout, db *client.DB, far string) (plan, error) {
	if p, ok := b.plans[l.keyspace+far]; ok {
		return p, nil
	}
	best, least := plan{}, 0.0
	for range tries {
		for _, p := range plans {
			took, err := timed(func(ctx context.Context) error {
				_, err := l.pull(ctx, db, p)
				return err
			})(ctx)
			if err != nil {
				return plan{}, err
			}
			if least == 0 || took < least {
				best, least = p, took
			}
		}
	}
	b.plans[l.keyspace+far] = best
	return best, nil
}

func (b *bench) jsonWarm(ctx context.Context, row *Row) error {
	return b.aggregate(ctx, row, jsonLayout, "warm")
}
func (b *bench) jsonCold(ctx context.Context, row *Row) error {
	return b.aggregate(ctx, row, jsonLayout, "cold")
}
func (b *bench) fixedWarm(ctx context.Context, row *Row) error {
	return b.aggregate(ctx, row, fixedLayout, "warm")
}
func (b *bench) fixedCold(ctx context.Context, row *Row) error {
	return b.aggregate(ctx, row, fixedLayout, "cold")
}

// aggregate is a row about flights at one stage.
func (b *bench) aggregate(ctx context.Context, row *Row, l *layout, state string) error {
	pull, ways, err := b.aggregates(ctx, row, l, b.db, state, "")
	if err != nil {
		return err
	}
	hits, misses, err := b.nodes.scanCache(ctx)
	if err != nil {
		return err
	}
	if err := interleave(ctx, row, b.o.Rounds, append([]*contender{pull}, contendersOf(ways)...)...); err != nil {
		return err
	}
	hitsAfter, missesAfter, err := b.nodes.scanCache(ctx)
	if err != nil {
		return err
	}
	want := l.warm
	if state == "cold" {
		want = l.cold
	} else {
		row.Notes = append(row.Notes, fmt.Sprintf("%s: the scan caches handed out %.0f blocks, and missed %.0f", state, hitsAfter-hits, missesAfter-misses))
	}
	for _, w := range ways {
		if !w.aimed {
			continue
		}
		row.aim(state, w.near.name+", times as fast as pulling", "x", times(pull.median(), w.median()), want, false)
		if l == jsonLayout {
			row.aim(state, w.near.name+", times fewer bytes to the client", "x", times(median(pull.received), median(w.received)), 1000, false)
		}
	}
	return nil
}

// way is a near one, at work.
type way struct {
	near
	*contender
}

func contendersOf(ways []way) (out []*contender) {
	for _, w := range ways {
		out = append(out, w.contender)
	}
	return out
}

// aggregates are all ways to do the aggregate, after one unmeasured run of each, which compiles guests, fills what caches there are and
// checks the answer.
func (b *bench) aggregates(ctx context.Context, row *Row, l *layout, db *client.DB, state, far string) (pull *contender, ways []way, err error) {
	if err := b.register(ctx, l.near); err != nil {
		return nil, nil, err
	}
	p, err := b.best(ctx, l, db, far)
	if err != nil {
		return nil, nil, err
	}
	want, err := l.pull(ctx, db, p)
	if err != nil {
		return nil, nil, err
	}
	add := func(name string, approximate bool, run func(context.Context) ([]flights.Airport, error)) *contender {
		return &contender{state: state, name: name, unit: "ms", db: db, turn: timed(func(ctx context.Context) error {
			got, err := run(ctx)
			if err != nil {
				return err
			}
			return sameAnswer(got, want, approximate)
		})}
	}
	pull = add("pulling: "+p.String(), false, func(ctx context.Context) ([]flights.Airport, error) { return l.pull(ctx, db, p) })
	for _, n := range l.near {
		c := add(n.name, n.approximate, func(ctx context.Context) ([]flights.Airport, error) { return n.run(ctx, db.Keyspace(l.keyspace).All()) })
		_, err := c.turn(ctx)
		if noOperators(err) {
			row.skip(state + ": " + withoutOperators)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", n.name, err)
		}
		ways = append(ways, way{n, c})
	}
	return pull, ways, nil
}

// register registers the guests among functions, once.
func (b *bench) register(ctx context.Context, functions []near) error {
	known, err := b.db.Functions(ctx)
	if err != nil {
		return err
	}
	for _, f := range functions {
		if f.module == nil || slices.ContainsFunc(known, func(i client.FunctionInfo) bool { return i.Name == f.function }) {
			continue
		}
		if _, err := b.db.RegisterFunction(ctx, f.function, f.module); err != nil {
			return err
		}
	}
	return nil
}
