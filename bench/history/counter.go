package history

import (
	"cmp"
	"fmt"
	"slices"
)

// Addition is an acknowledged call that added Amount to a counter and was told the sum.
type Addition struct {
	Amount, Sum  int64
	Timestamp    uint64
	Call, Return Instant
	Optimistic   bool // made in optimistic mode; it has to count all the same
}

// CounterError says what a counter did wrong.
type CounterError struct{ Reason string }

func (e *CounterError) Error() string { return "history: counter: " + e.Reason }

// CheckCounter judges a counter that began at 0, was only added to (each time more than 0), and holds value
// in the end. unknown are the amounts of calls of unknown outcome. Sums of acknowledged calls must be one
// chain: each call was told the sum before it and its own amount, and what lies between two calls was added by
// calls of unknown outcome. The chain must respect real time, and timestamps must rise along it (they
// are equal for calls of one log entry).
func CheckCounter(adds []Addition, unknown []int64, value int64) error {
	chain := slices.Clone(adds)
	slices.SortFunc(chain, func(a, b Addition) int { return cmp.Compare(a.Sum, b.Sum) })
	var allowed int64
	for _, n := range unknown {
		allowed += n
	}
	var sum, gaps int64
	var last uint64
	latestCall := Instant(-1)
	for i, a := range chain {
		before := a.Sum - a.Amount
		switch {
		case before < sum:
			return &CounterError{fmt.Sprintf("a call added %d and was told %d, but the call before it was told %d already", a.Amount, a.Sum, sum)}
		case a.Timestamp < last:
			return &CounterError{fmt.Sprintf("the call that was told %d has timestamp %d, below the one before it, %d", a.Sum, a.Timestamp, last)}
		case a.Return < latestCall:
			return &CounterError{fmt.Sprintf("the call that was told %d had returned before one that was told less was made", a.Sum)}
		}
		gaps += before - sum
		sum, last, latestCall = a.Sum, a.Timestamp, max(latestCall, chain[i].Call)
	}
	gaps += value - sum
	if value < sum || gaps > allowed {
		return &CounterError{fmt.Sprintf("it holds %d; acknowledged calls account for all but %d, calls of unknown outcome for %d at most", value, gaps, allowed)}
	}
	return nil
}
