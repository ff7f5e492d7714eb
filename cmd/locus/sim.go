package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/cmd/locus/internal/progress"
	"github.com/locuskv/locus/raftstore/storesim"
)

// simulation is the sim command's flags.
type simulation struct {
	first    uint64
	seeds    int
	steps    int
	parallel int
	verbose  bool
}

// A seed's length: operations of clients, and the simulated time in which they and the faults happen.
const (
	defaultSteps = 2000
	perSteps     = 5 * time.Minute
)

func (s *shell) simCommand() *cobra.Command {
	var o simulation
	c := &cobra.Command{
		Use: "sim", Short: "Play whole clusters with faults from seeds, and judge them",
		Long: `Play whole clusters of 3 to 7 stores, their clients, networks, disks and clocks, each cluster in one goroutine and
from one seed: messages are lost and late, stores are cut off, stand still, crash and lose what was not synced, disks
fail and rot, clocks are wrong, and ranges are split and moved all the while. After each step, and of all that
clients saw, what Locus promises is checked.

A seed that fails is named, with exit status 1; with --seeds 1 --first-seed SEED it plays again in exactly the same way.
So it is with 100 seeds or more in which something never happened that the simulation is there for. The last line
says how much was played, and how quickly. To go on where another run ended, begin at its first seed plus its seeds.`,
		Example: "  locus sim --seeds 100\n  locus sim --seeds 1000 --first-seed 101\n  locus sim --seeds 1 --first-seed 7 --verbose",
		Args:    exactly(0),
	}
	c.Flags().Uint64Var(&o.first, "first-seed", 1, "the first seed; the others follow it")
	c.Flags().IntVar(&o.seeds, "seeds", 100, "how many seeds to play")
	c.Flags().IntVar(&o.steps, "steps", defaultSteps, "client operations a seed; the simulated time is 5 minutes per 2,000")
	c.Flags().IntVar(&o.parallel, "parallel", 0, "seeds that play at once; 0 as many as there are processors")
	c.Flags().BoolVar(&o.verbose, "verbose", false, "print what the stores have to say")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.seeds < 1 || o.steps < 1 || o.parallel < 0 {
			return fmt.Errorf("--seeds %d, --steps %d and --parallel %d: the first two must be at least 1, the last not negative", o.seeds, o.steps, o.parallel)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return s.simulate(ctx, o)
	}
	return c
}

func (s *shell) simulate(ctx context.Context, o simulation) error {
	// A simulation makes much garbage and keeps little, some 10 MiB a seed that plays.
	defer debug.SetGCPercent(debug.SetGCPercent(1500))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(2 << 30))
	c := storesim.Campaign{First: o.first, Seeds: o.seeds, Parallel: o.parallel}
	if c.Parallel == 0 {
		c.Parallel = runtime.GOMAXPROCS(0)
	}
	c.Options.Operations = o.steps
	c.Options.Chaos = max(perSteps/defaultSteps*time.Duration(o.steps), 10*time.Second)
	if o.verbose {
		c.Options.Logger = slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	step := s.progress().Step("seeds", int64(o.seeds), progress.Things)
	c.Played = func(sum storesim.Summary) { step.Set(int64(sum.Seeds)) }
	begin := time.Now()
	sum, err := c.Run(ctx)
	took := time.Since(begin)
	step.Done()
	var seed *storesim.SeedError
	if errors.As(err, &seed) {
		what, rest, _ := strings.Cut(seed.Error(), "\n")
		if rest != "" {
			fmt.Fprintln(s.err, rest)
		}
		fmt.Fprintf(s.out, "%s; seed %d failed; %s\n", sum, seed.Seed, rate(sum.Seeds, took))
		return errors.New(what)
	}
	fmt.Fprintf(s.out, "%s; %s\n", sum, rate(sum.Seeds, took))
	if err == nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// rate is the part of the summary that is of this machine and this run.
func rate(seeds int, took time.Duration) string {
	return fmt.Sprintf("in %s, %.2f seeds a second", took.Round(100*time.Millisecond), float64(seeds)/took.Seconds())
}
