package functions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/client"
)

// spin is guests/spin.c.
var spin = client.NewRangeFunc[[]byte, []byte]("bench-spin", client.Raw)

const (
	// workWithin bounds how long it may take until all nodes are at work, and until none is: far above what it takes.
	workWithin = time.Minute
	// pollWork is how often nodes are asked whether they are at work. That takes longer than the pause.
	pollWork = time.Millisecond
)

// cancel measures how long guests that ask for nothing go on after their caller has gone.
func (b *bench) cancel(ctx context.Context, row *Row) error {
	if err := b.register(ctx, []near{{function: "bench-spin", module: spinModule}}); err != nil {
		return err
	}
	var stopped, told []float64
	for range b.o.Rounds {
		s, t, err := b.cancelled(ctx)
		if err != nil {
			return err
		}
		stopped, told = append(stopped, s), append(told, t)
	}
	const all = "the last range has stopped"
	row.Contenders = append(row.Contenders,
		Contender{Name: all, Unit: "ms", Series: seriesOf(stopped)},
		Contender{Name: "the caller has its error", Unit: "ms", Series: seriesOf(told)})
	row.aim("", all, "ms", median(stopped), 100, true)
	row.Notes = append(row.Notes, "what the nodes' metrics are asked for counts: an upper bound")
	return nil
}

// cancelled has all nodes at work, cancels, and returns how many milliseconds later none is, and the caller knows.
func (b *bench) cancelled(ctx context.Context) (stopped, told float64, err error) {
	caller, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		at  time.Time
		err error
	}
	ended := make(chan end, 1)
	go func() {
		var err error
		for err == nil { // a run over little data may end before all nodes are at work
			_, err = spin.Run(caller, b.db.Keyspace(callKeyspace).All(), nil)
		}
		ended <- end{time.Now(), err}
	}()
	if err := b.awaitWork(ctx, func(n int) bool { return n > 0 }); err != nil {
		cancel()
		return 0, 0, errors.Join(err, (<-ended).err)
	}
	begun := time.Now()
	cancel()
	err = b.awaitWork(ctx, func(n int) bool { return n == 0 })
	stopped = milliseconds(time.Since(begun))
	e := <-ended
	if !errors.Is(e.err, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("a run that was cancelled ended with %w", e.err))
	}
	return stopped, milliseconds(e.at.Sub(begun)), err
}

// awaitWork waits until the number of ranges that each node is at work on is as is wanted.
func (b *bench) awaitWork(ctx context.Context, wanted func(ranges int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	tick := time.NewTicker(pollWork)
	defer tick.Stop()
	for {
		n, err := b.nodes.atWork(ctx)
		if err != nil {
			return err
		}
		ok := true
		for _, ranges := range n {
			ok = ok && wanted(ranges)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the nodes are at work on %v ranges: %w", n, ctx.Err())
		case <-tick.C:
		}
	}
}

// atWork is how many ranges each node is at work on, asked all at once.
func (n *nodes) atWork(ctx context.Context) ([]int, error) {
	list := n.cluster.Nodes()
	out := make([]int, len(list))
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range list {
		group.Go(func() error {
			m, err := node.Metrics(ctx)
			if err != nil {
				return err
			}
			ranges, known := m["locus_run_parts_working"]
			if !known {
				return fmt.Errorf("%s does not tell what it is at work on", node.Name())
			}
			out[i] = int(ranges)
			return nil
		})
	}
	return out, group.Wait()
}
