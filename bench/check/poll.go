package check

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollEvery is how often a condition is looked at: seldom enough to cost nothing beside the nodes.
const pollEvery = 20 * time.Millisecond

// Poll waits until a condition holds. When it does not in time, the error has the condition's last one.
func Poll(ctx context.Context, within time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited %s: %w", within, context.Cause(ctx)), err)
		case <-tick.C:
		}
	}
}

// Pass lets time pass, for the distance between faults; false when ctx ended first.
func Pass(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
