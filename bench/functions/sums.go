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
	module         []byte
	f              client.RangeFunc[uint32, native.Total]
}

var summers = []summer{
	{"native function", native.Sum, nil, client.NewRangeFunc[uint32, native.Total](native.Sum)},
	{"guest in C", fixedSum, guests.FixedSum, client.NewRangeFunc[uint32, native.Total](fixedSum)},
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
	got, err := s.f.Run(ctx, db.Keyspace(sumKeyspace).Span(sumKey(from), sumKey(to)), sumOffset)
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
	if err := b.registerSummers(ctx); err != nil {
		return err
	}
	const page = 1 << 20
	contenders := []*contender{{
		state: state, name: "pulling: one scan, pages of 1024 KiB", unit: "ms", db: b.db,
		turn: timed(func(ctx context.Context) error { return pullSum(ctx, b.db, 0, b.size.sums, page) }),
	}}
	for _, s := range summers {
		run := func(ctx context.Context) error { return s.run(ctx, b.db, 0, b.size.sums) }
		if err := run(ctx); err != nil { // unmeasured
			return err
		}
		contenders = append(contenders, &contender{state: state, name: s.name, unit: "ms", db: b.db, turn: timed(run)})
	}
	near := contenders[1:]
	if b.redis == nil {
		row.Skipped = append(row.Skipped, state+": Redis: "+b.report.Redis)
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
	for _, c := range near {
		row.aim(state, c.name, "ms", c.median(), most, true)
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
