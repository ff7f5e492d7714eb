package storesim

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("sim.seed", 1, "first seed")
	seeds     = flag.Int("sim.seeds", 0, "number of seeds; 0: as many as fit in the time")
	verbose   = flag.Bool("sim.v", false, "print the store's log")
)

func options(seed uint64) Options {
	o := Options{Seed: seed, Stores: 3 + int(seed%3)/2*2, Clients: 10, Ops: 120, Keys: 5, Chaos: 30 * time.Second}
	if *verbose {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o
}

// TestSimulation plays seeds one after another; a failing one is printed and replays with -sim.seed N -sim.seeds 1.
func TestSimulation(t *testing.T) {
	begin := time.Now()
	limit := 20 * time.Second
	if testing.Short() {
		limit = 5 * time.Second
	}
	var total Stats
	n := 0
	for seed := *firstSeed; ; seed++ {
		if *seeds > 0 && n == *seeds || *seeds == 0 && n > 0 && time.Since(begin) > limit {
			break
		}
		n++
		res, err := Run(options(seed))
		if err != nil {
			t.Fatalf("seed %d after %s (%d steps): %v", seed, res.Time, res.Steps, err)
		}
		total.add(res.Stats)
	}
	t.Logf("%d seeds in %s: %+v", n, time.Since(begin).Round(time.Millisecond), total)
}

// TestSameSeedSameRun: without it a failing seed would be worth nothing.
func TestSameSeedSameRun(t *testing.T) {
	a, errA := Run(options(3))
	b, errB := Run(options(3))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.Hash != b.Hash || a.Steps != b.Steps {
		t.Fatalf("two runs of one seed differ: %x after %d steps, %x after %d", a.Hash, a.Steps, b.Hash, b.Steps)
	}
}
