package udf

import "context"

type optimisticKey struct{}

// Optimistic marks the context of a read-write call that runs on a snapshot, beside the writes of its range: nothing
// waits for it, so it may take longer than one that runs among them.
func Optimistic(ctx context.Context) context.Context {
	return context.WithValue(ctx, optimisticKey{}, true)
}

// IsOptimistic says whether a context was marked by Optimistic.
func IsOptimistic(ctx context.Context) bool { return ctx.Value(optimisticKey{}) != nil }
