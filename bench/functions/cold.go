package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// coldRange compares a guest over one range, asked for by a client, with Badger's iterator over a copy of a store, in this process.
func (b *bench) coldRange(ctx context.Context, row *Row) (err error) {
	near, err := b.present(ctx, row, "cold")
	if err != nil {
		return err
	}
	ks := b.db.Keyspace(fixedKeyspace)
	info, err := ks.Info(ctx)
	if err != nil {
		return err
	}
	ranges, err := ks.Ranges(ctx)
	if err != nil {
		return err
	}
	largest := slices.MaxFunc(ranges, func(a, b client.RangeInfo) int { return cmp.Compare(a.Records, b.Records) })
	span := keys.Span{Start: engineKey(info.ID, largest.Start), End: engineKey(info.ID, largest.End)}
	if largest.End == nil {
		span.End = engineKey(info.ID+1, nil)
	}
	store, err := engine.OpenBadger(engine.BadgerOptions{Dir: b.engineCopy(), SkipVerify: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	records, _, err := store.CountRaw(span) // unmeasured, and it brings the files into memory
	if err != nil {
		return err
	}
	if records == 0 {
		return fmt.Errorf("the largest range, from %q on, is empty in the copy of the store", largest.Start)
	}
	rate := func(f func(context.Context) (count int64, err error)) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			begun := time.Now()
			n, err := f(ctx)
			if err == nil && n != records {
				err = fmt.Errorf("it saw %d records, and there are %d", n, records)
			}
			return float64(records) / time.Since(begun).Seconds(), err
		}
	}
	raw := &contender{state: "cold", name: "Badger's iterator, in one process", unit: "records/s", turn: rate(func(context.Context) (int64, error) {
		n, _, err := store.CountRaw(span)
		return n, err
	})}
	contenders := []*contender{raw}
	for _, s := range near {
		run := rate(func(ctx context.Context) (int64, error) {
			t, err := s.sum(ctx, ks.Span(largest.Start, largest.End), 0)
			return int64(t.Count), err
		})
		if _, err := run(ctx); err != nil { // unmeasured
			return err
		}
		contenders = append(contenders, &contender{state: "cold", name: s.name, unit: "records/s", db: b.db, turn: run})
	}
	if err := interleave(ctx, row, b.o.Rounds, contenders...); err != nil {
		return err
	}
	guest := contenders[len(contenders)-1]
	row.aim("cold", guest.name+", share of Badger's iterator", "x", times(guest.median(), raw.median()), 0.75, false)
	row.Notes = append(row.Notes, fmt.Sprintf("%d records; the functions' times are from the call to the answer, network and gateway included", records))
	return nil
}
