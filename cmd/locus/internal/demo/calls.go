package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// The functions that cmd/locus links (examples/functions).
var (
	square  = client.NewFunc[int64, int64]("square")
	counter = client.NewFunc[int64, int64]("counter")
)

// The counter is raised by this many callers, this many times each.
const (
	callers = 64
	raises  = 50
)

// counterKey is the one key that all callers raise.
var counterKey = []byte("visits")

// callSquare calls a function that touches no key: any node may run it.
func (d *demo) callSquare(ctx context.Context) error {
	const x = 5
	begun := time.Now()
	r, err := square.Call(ctx, d.db, x)
	if err != nil {
		return fmt.Errorf("calling square: %w", err)
	}
	if r != x*x {
		return fmt.Errorf("square of %d came back as %d", x, r)
	}
	d.say("square(%d) = %d, on a node that the client chose, in %s", x, r, output.Duration(time.Since(begun)))
	return nil
}

// raiseCounter calls a read-write function on one key from many goroutines, and checks that each call
// counted once.
func (d *demo) raiseCounter(ctx context.Context) error {
	step := d.progress.Step("raising one counter", callers*raises, progress.Things)
	defer step.Done()
	ks := d.db.Keyspace("default")
	begun := time.Now()
	group, gctx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(guard(func() error {
			for range raises {
				if _, err := counter.Call(gctx, ks.Key(counterKey), 1); err != nil {
					return fmt.Errorf("calling counter: %w", err)
				}
				step.Add(1)
			}
			return nil
		}))
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(begun)
	step.Done()
	item, err := ks.Get(ctx, counterKey)
	if err != nil {
		return fmt.Errorf("reading the counter: %w", err)
	}
	if sum, err := strconv.ParseInt(string(item.Value), 10, 64); err != nil || sum != callers*raises {
		return errors.Join(fmt.Errorf("the counter is %q after %d calls", item.Value, callers*raises), err)
	}
	d.say("counter on one key: %d goroutines, %s calls, sum exact: %s in %s (%s)", callers,
		output.Count(callers*raises), item.Value, output.Duration(took), output.Rate(callers*raises, took))
	return nil
}
