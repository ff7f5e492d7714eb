package locusload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/client"
)

// MaxRanges bounds the ranges that Prepare cuts a keyspace into.
const MaxRanges = 1024

// Prepare makes a keyspace in so many ranges with the same number of loaded keys each, unless it exists, and
// spreads the leaseholders of its ranges over the nodes.
func Prepare(ctx context.Context, db *client.DB, name string, ranges int) error {
	if ranges < 1 || ranges > MaxRanges {
		return fmt.Errorf("--ranges %d is not between 1 and %d", ranges, MaxRanges)
	}
	err := db.CreateKeyspace(ctx, name, client.KeyspaceOptions{SplitAt: load.Splits(ranges)})
	if exists := new(client.KeyspaceExistsError); err != nil && !errors.As(err, &exists) {
		return err
	}
	return spread(ctx, db, name)
}

// spreadEvery is how often the ranges are looked at until their leaseholders are where they should be.
const spreadEvery = 100 * time.Millisecond

// spread makes the stores leaseholders in turn. A transfer that fails is asked for again until ctx ends: the
// replica may still lack a part of the log.
func spread(ctx context.Context, db *client.DB, name string) error {
	tick := time.NewTicker(spreadEvery)
	defer tick.Stop()
	for {
		done, err := spreadOnce(ctx, db, name)
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("spreading the leaseholders of %s: %w", name, ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// spreadOnce asks for the transfers that are missing; done means that none were.
func spreadOnce(ctx context.Context, db *client.DB, name string) (done bool, err error) {
	ranges, err := db.Keyspace(name).Ranges(ctx)
	if err != nil {
		return false, err
	}
	done = true
	for i, r := range ranges {
		stores := voters(r)
		if len(stores) == 0 {
			done = false
			continue
		}
		if to := stores[i%len(stores)]; r.Leaseholder != to {
			done = false
			err = errors.Join(err, db.TransferRange(ctx, r.ID, to))
		}
	}
	return done, err
}

// voters are the stores that may lead a range, in the order of their numbers.
func voters(r client.RangeInfo) []client.StoreID {
	var out []client.StoreID
	for _, x := range r.Replicas {
		if x.Role == "voter" {
			out = append(out, x.Store)
		}
	}
	slices.Sort(out)
	return out
}

// Leases are how many ranges of a keyspace each store leads. Ranges without a known leaseholder are under 0.
func Leases(ctx context.Context, db *client.DB, name string) (map[client.StoreID]int, error) {
	ranges, err := db.Keyspace(name).Ranges(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[client.StoreID]int)
	for _, r := range ranges {
		out[r.Leaseholder]++
	}
	return out, nil
}

// Fill writes the keys from 0 on. Progress, if not nil, is told now and then how many are acknowledged.
func Fill(ctx context.Context, k *client.Keyspace, o load.Options, progress func(written int64)) error {
	w := k.BulkWriter(ctx, client.BulkOptions{})
	err := fill(w, o, progress)
	return errors.Join(err, w.Close())
}

func fill(w *client.BulkWriter, o load.Options, progress func(int64)) error {
	values := load.NewValues(o.Seed, o.ValueSize)
	var key []byte
	for i := range uint64(o.Keys) {
		key = load.AppendKey(key[:0], i)
		if err := w.Put(key, values.Next()); err != nil {
			return err
		}
		if i%1024 == 0 && progress != nil {
			progress(int64(w.Written()))
		}
	}
	return nil
}
