package functions

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/guests"
)

// fixedSum is examples/guests/c/fixedsum.c.
const fixedSum = "fixedsum"

// summer is a range function that sums a field up.
type summer struct {
	name, function string
	module         []byte // nil: native
	aimed          bool
	sum            func(ctx context.Context, span client.Span, offset uint32) (native.Total, error)
}

var summers = []summer{
	{name: operatorsName, function: operators, aimed: true, sum: sumByOperators},
	{name: "native function", function: native.Sum, sum: sumByFunction(native.Sum)},
	{name: "guest in C", function: fixedSum, module: guests.FixedSum, aimed: true, sum: sumByFunction(fixedSum)},
}

func sumByFunction(name string) func(context.Context, client.Span, uint32) (native.Total, error) {
	f := client.NewRangeFunc[uint32, native.Total](name)
	return func(ctx context.Context, span client.Span, offset uint32) (native.Total, error) {
		return f.Run(ctx, span, offset)
	}
}

// present are the summers that the nodes have, with those registered that are guests.
func (b *bench) present(ctx context.Context, row *Row, state string) ([]summer, error) {
	if err := b.registerSummers(ctx); err != nil {
		return nil, err
	}
	var out []summer
	for _, s := range summers {
		err := s.run(ctx, b.db, 0, b.size.sums) // unmeasured
		if noOperators(err) {
			row.skip(state + ": " + withoutOperators)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (b *bench) registerSummers(ctx context.Context) error {
	var all []near
	for _, s := range summers {
		all = append(all, near{function: s.function, module: s.module})
	}
	return b.register(ctx, all)
}

// run sums the records [from, to) of the sums up, and checks the answer.
func (s summer) run(ctx context.Context, db *client.DB, from, to int) error {
	got, err := s.sum(ctx, db.Keyspace(sumKeyspace).Span(sumKey(from), sumKey(to)), sumOffset)
	if err != nil {
		return err
	}
	return sameTotal(got, sumOf(from, to))
}

func sameTotal(got, want native.Total) error {
	if got != want {
		return fmt.Errorf("a wrong answer: %+v instead of %+v", got, want)
	}
	return nil
}

// pullSum does the same with pulled records.
func pullSum(ctx context.Context, db *client.DB, from, to, page int) error {
	ks := db.Keyspace(sumKeyspace)
	var t native.Total
	for item, err := range ks.Scan(ctx, ks.Span(sumKey(from), sumKey(to)), client.PageBytes(page)) {
		if err != nil {
			return err
		}
		if err := t.Add(item.Value, sumOffset); err != nil {
			return err
		}
	}
	return sameTotal(t, sumOf(from, to))
}

func (b *bench) sumWarm(ctx context.Context, row *Row) error { return b.sum(ctx, row, "warm", 4) }
func (b *bench) sumCold(ctx context.Context, row *Row) error { return b.sum(ctx, row, "cold", 50) }

func (b *bench) sum(ctx context.Context, row *Row, state string, most float64) error {
	near, err := b.present(ctx, row, state)
	if err != nil {
		return err
	}
	const page = 1 << 20
	contenders := []*contender{{
		state: state, name: "pulling: one scan, pages of 1024 KiB", unit: "ms", db: b.db,
		turn: timed(func(ctx context.Context) error { return pullSum(ctx, b.db, 0, b.size.sums, page) }),
	}}
	for _, s := range near {
		contenders = append(contenders, &contender{
			state: state, name: s.name, unit: "ms", db: b.db,
			turn: timed(func(ctx context.Context) error { return s.run(ctx, b.db, 0, b.size.sums) }),
		})
	}
	if b.redis == nil {
		row.skip(state + ": Redis: " + b.report.Redis)
	} else {
		c, err := b.redis.sums(ctx, state, b.size.sums)
		if err != nil {
			return err
		}
		contenders = append(contenders, c)
	}
	if err := interleave(ctx, row, b.o.Rounds, contenders...); err != nil {
		return err
	}
	for i, s := range near {
		if s.aimed {
			row.aim(state, s.name, "ms", contenders[i+1].median(), most, true)
		}
	}
	if b.size.sums != 100_000 {
		row.Notes = append(row.Notes, fmt.Sprintf("%s: the aims are for 100,000 records, and these were %d", state, b.size.sums))
	}
	return nil
}

// engineKey is a key of a keyspace as it stands in the engine (docs/format.md).
func engineKey(keyspace uint32, key []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{'d'}, keyspace), key...)
}
