package locusload

import (
	"context"
	"errors"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/client"
)

// Durability is what an acknowledgement of Locus means. No setting changes it.
const Durability = "acknowledged after fsync of the Raft log on a majority of the replicas"

// increment is the read-write function that the workload counter calls; cmd/locus links it
// (examples/functions).
var increment = client.NewFunc[int64, int64]("counter")

// Target is a keyspace under load.
type Target struct{ keyspace *client.Keyspace }

// NewTarget makes a target. Operations end after the DB's timeout.
func NewTarget(k *client.Keyspace) *Target { return &Target{k} }

// Get reads a key, linearizable.
func (t *Target) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	item, err := t.keyspace.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return nil, false, nil
	}
	return item.Value, err == nil, named(err)
}

// Put writes a key.
func (t *Target) Put(ctx context.Context, key, value []byte) error {
	_, err := t.keyspace.Put(ctx, key, value)
	return named(err)
}

// Scan reads up to n records from a key on, all as of one fresh timestamp.
func (t *Target) Scan(ctx context.Context, from []byte, n int) (int, error) {
	records := 0
	for _, err := range t.keyspace.Scan(ctx, t.keyspace.Span(from, nil), client.Limit(n)) {
		if err != nil {
			return records, named(err)
		}
		records++
	}
	return records, nil
}

// Increment calls the function counter, which runs where the key lies: one attempt.
func (t *Target) Increment(ctx context.Context, key []byte) (int, error) {
	_, err := increment.Call(ctx, t.keyspace.Key(key), 1)
	return 1, named(err)
}

// named gives an error the kind that it is counted as.
func named(err error) error {
	if err == nil {
		return nil
	}
	return &load.Error{Kind: kind(err), Cause: err}
}

func kind(err error) string {
	var (
		ambiguous   *client.AmbiguousError
		overloaded  *client.OverloadedError
		unavailable *client.UnavailableError
		function    *client.FunctionError
		missing     *client.FunctionNotFoundError
		keyspace    *client.KeyspaceNotFoundError
		limit       *client.LimitError
	)
	switch {
	case errors.As(err, &ambiguous): // before its cause, which is often that time ran out
		return "ambiguous"
	case errors.As(err, &overloaded):
		return "overloaded"
	case errors.Is(err, context.DeadlineExceeded):
		return load.KindTimeout
	case errors.As(err, &unavailable):
		return "unavailable"
	case errors.As(err, &function):
		return "function failed"
	case errors.As(err, &missing):
		return "no such function"
	case errors.As(err, &keyspace):
		return "no such keyspace"
	case errors.As(err, &limit):
		return "limit"
	}
	return load.KindOther
}
