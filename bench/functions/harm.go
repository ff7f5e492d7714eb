package functions

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/client"
)

// hostile are the functions of guests/hostile.c.
var hostile = []client.Func[[]byte, []byte]{
	client.NewFunc[[]byte, []byte]("bench-hostile-read", client.Raw), client.NewFunc[[]byte, []byte]("bench-hostile-write", client.Raw),
}

// deeds are what they do: spin, recurse, take all memory and spin, return a length that is not there.
var deeds = []string{"s", "d", "m", "l"}

const harmClients = 64

// harm measures gets and puts with and without hostile calls.
func (b *bench) harm(ctx context.Context, row *Row) error {
	err := b.register(ctx, []near{{function: "bench-hostile-read", module: hostileModule}, {function: "bench-hostile-write", module: hostileModule}})
	if err != nil {
		return err
	}
	var gets, puts [2][]float64 // without, with
	var calls atomic.Int64
	for round := range b.o.Rounds {
		for i := range 2 {
			with := (i + round) % 2
			g, p, err := b.beside(ctx, with == 1, round, &calls)
			if err != nil {
				return err
			}
			gets[with], puts[with] = append(gets[with], g), append(puts[with], p)
		}
	}
	for _, k := range []struct {
		name    string
		samples [2][]float64
	}{{"gets", gets}, {"puts", puts}} {
		for i, state := range []string{"without", "with"} {
			row.Contenders = append(row.Contenders, Contender{
				State: state, Name: k.name + ", 99th percentile", Unit: "ms", Series: seriesOf(k.samples[i]),
			})
		}
		row.aim("", k.name+", 99th percentile, times as long as without", "x", times(median(k.samples[1]), median(k.samples[0])), 2, true)
	}
	row.Notes = append(row.Notes, fmt.Sprintf("%d hostile calls: read-only and read-write; spin, recurse, take memory, return a wrong length", calls.Load()))
	return nil
}

// beside is a turn: the 99th percentiles of gets and puts in milliseconds.
func (b *bench) beside(ctx context.Context, with bool, round int, calls *atomic.Int64) (gets, puts float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var attack errgroup.Group
	if with {
		places, err := b.onePerStore(ctx)
		if err != nil {
			return 0, 0, err
		}
		for i, key := range places {
			attack.Go(func() error { return b.attack(ctx, key, round+i, calls) })
		}
	}
	_, plain := b.targets()
	var get, put *load.Report
	var honest errgroup.Group
	// Longer than other turns: a hostile call comes once a second.
	d := max(2*b.o.Duration, time.Second)
	honest.Go(func() (err error) {
		get, err = b.loaded(ctx, plain, "get", harmClients, d)
		return err
	})
	honest.Go(func() (err error) {
		put, err = b.loaded(ctx, plain, "put", harmClients, d)
		return err
	})
	err = honest.Wait()
	cancel()
	if err = errors.Join(err, attack.Wait()); err != nil {
		return 0, 0, err
	}
	return milliseconds(get.All.P99.Duration()), milliseconds(put.All.P99.Duration()), nil
}

// onePerStore are keys, one for each store that leads a range of the calls' keyspace.
func (b *bench) onePerStore(ctx context.Context) ([][]byte, error) {
	ranges, err := b.db.Keyspace(callKeyspace).Ranges(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(map[client.StoreID]bool)
	var out [][]byte
	for _, r := range ranges {
		if r.Leaseholder != 0 && !seen[r.Leaseholder] {
			seen[r.Leaseholder] = true
			out = append(out, append(r.Start, 0)) // a key that nobody else has
		}
	}
	if len(out) != b.nodes.count {
		return nil, fmt.Errorf("only %d of %d stores lead ranges", len(out), b.nodes.count)
	}
	return out, nil
}

// attack makes a hostile call each second until ctx ends. It is an error if one succeeds, or if the store fails instead of the call.
func (b *bench) attack(ctx context.Context, key []byte, from int, calls *atomic.Int64) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	target := b.db.Keyspace(callKeyspace).Key(key)
	for i := from; ; i++ {
		deed := deeds[i%len(deeds)]
		_, err := hostile[i/len(deeds)%len(hostile)].Call(ctx, target, []byte(deed))
		var fuel *client.FuelError
		var failed *client.FunctionError
		var limit *client.LimitError
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			return fmt.Errorf("the hostile call %q succeeded", deed)
		case !errors.As(err, &fuel) && !errors.As(err, &failed) && !errors.As(err, &limit) && !errors.Is(err, client.ErrFuelExhausted):
			return fmt.Errorf("the hostile call %q failed in an unexpected way: %w", deed, err)
		}
		calls.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
