package locusload

import (
	"context"
	"errors"
	"fmt"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/client"
)

// MaxRanges bounds the ranges that Prepare cuts a keyspace into.
const MaxRanges = 1024

// Prepare makes a keyspace in so many ranges with the same number of loaded keys each, unless it exists, and
// waits until the leaseholders of its ranges are spread over the nodes: until the placement driver, whose business
// that is, has come to rest, and RestWithin at the most. Progress, if not nil, is told how many ranges are where they can stay.
func Prepare(ctx context.Context, db *client.DB, name string, ranges int, progress func(placed int)) error {
	if ranges < 1 || ranges > MaxRanges {
		return fmt.Errorf("--ranges %d is not between 1 and %d", ranges, MaxRanges)
	}
	err := db.CreateKeyspace(ctx, name, client.KeyspaceOptions{SplitAt: load.Splits(ranges)})
	if exists := new(client.KeyspaceExistsError); errors.As(err, &exists) {
		ranges = 1 // it has those that it has
	} else if err != nil {
		return err
	}
	return Spread(ctx, db, name, ranges, progress)
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
