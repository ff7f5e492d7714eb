package functions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/client"
)

// smallCallers are how many ask for small sums at a time.
var smallCallers = []int{1, 16}

// delay compares functions with pulling near and far: the flights as JSON, and sums of few keys.
func (b *bench) delay(ctx context.Context, row *Row) (err error) {
	far, err := client.Open(ctx, client.Options{Addrs: b.nodes.cluster.Addrs(), Timeout: clientTimeout, Dial: dialDelayed})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.Close()) }()
	near, err := b.present(ctx, row, "near")
	if err != nil {
		return err
	}
	for _, place := range []place{{"near", "", b.db}, {"far", "far", far}} {
		trip, err := roundTrip(ctx, place.db)
		if err != nil {
			return err
		}
		row.Notes = append(row.Notes, fmt.Sprintf("%s: a get of one client takes %.2f ms", place.name, trip))
		if err := b.delayed(ctx, row, near, place); err != nil {
			return fmt.Errorf("%s: %w", place.name, err)
		}
	}
	return nil
}

// roundTrip is the median time of a get in milliseconds.
func roundTrip(ctx context.Context, db *client.DB) (float64, error) {
	var samples []float64
	for range 51 {
		took, err := timed(func(ctx context.Context) error {
			_, err := db.Keyspace(sumKeyspace).Get(ctx, sumKey(0))
			return err
		})(ctx)
		if err != nil {
			return 0, err
		}
		samples = append(samples, took)
	}
	return median(samples), nil
}

// place is where the client is. The plans of pulling that are the quickest from there are those of plans.
type place struct {
	name, plans string
	db          *client.DB
}

func (b *bench) delayed(ctx context.Context, row *Row, near []summer, p place) error {
	pull, ways, err := b.aggregates(ctx, row, jsonLayout, p.db, p.name, p.plans)
	if err != nil {
		return err
	}
	contenders := append([]*contender{pull}, contendersOf(ways)...)
	for _, c := range contenders {
		c.name = "flights, " + c.name
	}
	if err := interleave(ctx, row, b.o.Rounds, contenders...); err != nil {
		return err
	}
	for _, callers := range smallCallers {
		if err := interleave(ctx, row, b.o.Rounds, b.smallSums(near, p.name, p.db, callers)...); err != nil {
			return err
		}
	}
	if b.redis == nil || p.db != b.db {
		return nil
	}
	few, err := b.redis.smallSums(ctx, b.size.few, b.o.Duration/3)
	if err != nil {
		return err
	}
	return interleave(ctx, row, b.o.Rounds, few...)
}

// smallSums are ways to sum few keys up, at places that change, by so many callers.
func (b *bench) smallSums(near []summer, place string, db *client.DB, callers int) []*contender {
	add := func(name string, sum func(ctx context.Context, from, to int) error) *contender {
		return &contender{
			state: place, name: fmt.Sprintf("sum of %d keys, %d at a time, %s", b.size.few, callers, name), unit: "sums/s",
			turn: func(ctx context.Context) (float64, error) { return b.repeat(ctx, callers, sum) },
		}
	}
	out := []*contender{add("pulling", func(ctx context.Context, from, to int) error { return pullSum(ctx, db, from, to, 1<<20) })}
	for _, s := range near {
		out = append(out, add(s.name, func(ctx context.Context, from, to int) error { return s.run(ctx, db, from, to) }))
	}
	return out
}

// repeat has callers sum up for a turn, a third of others because there are many, and returns how many sums there were per second.
func (b *bench) repeat(ctx context.Context, callers int, sum func(ctx context.Context, from, to int) error) (float64, error) {
	begun := time.Now()
	done := make([]int, callers)
	group, ctx := errgroup.WithContext(ctx)
	for i := range callers {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		group.Go(func() error {
			for time.Since(begun) < b.o.Duration/3 {
				from := rng.IntN(b.size.sums - b.size.few + 1)
				if err := sum(ctx, from, from+b.size.few); err != nil {
					return err
				}
				done[i]++
			}
			return nil
		})
	}
	err := group.Wait()
	all := 0
	for _, n := range done {
		all += n
	}
	return float64(all) / time.Since(begun).Seconds(), err
}
