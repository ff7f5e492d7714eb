package storesim

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("sim.seed", 1, "first seed")
	seeds     = flag.Int("sim.seeds", 0, "number of seeds; 0: as many as fit in the time")
	parallel  = flag.Int("sim.parallel", 2, "seeds that play at once")
	verbose   = flag.Bool("sim.v", false, "print the store's log")
)

func options() Options {
	o := Options{}
	if *verbose {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o
}

// TestSimulation plays seeds; a failing one is printed and replays with -sim.seed N -sim.seeds 1.
func TestSimulation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1500))
	ctx := context.Background()
	if *seeds == 0 {
		limit := 10 * time.Second
		if testing.Short() {
			limit = 5 * time.Second
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	begin := time.Now()
	c := Campaign{Options: options(), First: *firstSeed, Seeds: *seeds, Parallel: *parallel}
	s, err := c.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, in %s", s, time.Since(begin).Round(time.Millisecond))
}

// TestSameSeedSameRun: without it a failing seed would be worth nothing. They play at once, to show that they don't
// disturb each other.
func TestSameSeedSameRun(t *testing.T) {
	o := Options{Seed: 3, Operations: 500, Chaos: time.Minute}
	other := make(chan Result)
	go func() {
		res, _ := Run(o)
		other <- res
	}()
	a, err := Run(o)
	b := <-other
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash != b.Hash || a.Steps != b.Steps {
		t.Fatalf("two runs of one seed differ: %x after %d steps, %x after %d", a.Hash, a.Steps, b.Hash, b.Steps)
	}
}

// A seed is at least as long as it is said to be.
func TestSeedsAreLong(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole seed")
	}
	res, err := Run(Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if res.Stats.Operations < 2000 || res.Time < 5*time.Minute {
		t.Fatalf("%d operations in %s", res.Stats.Operations, res.Time)
	}
}

func TestCampaign(t *testing.T) {
	var told []int
	c := Campaign{Options: Options{Operations: 100, Chaos: 10 * time.Second}, First: 5, Seeds: 3, Parallel: 2,
		Played: func(s Summary) { told = append(told, s.Seeds) }}
	s, err := c.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s.First != 5 || s.Seeds != 3 || s.Stats.Operations != 300 || !slices.Equal(told, []int{1, 2, 3}) {
		t.Fatalf("%s, told %v", s, told)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err = c.Run(ctx); err != nil || s.Seeds != 0 {
		t.Fatalf("after its end: %s, %v", s, err)
	}
}

// What must happen and did not is named.
func TestMissing(t *testing.T) {
	var s Stats
	all := s.Missing()
	for _, must := range []string{"elections", "splits", "snapshots", "replica changes", "lost bytes", "undone", "lease reads", "unknown"} {
		if !slices.Contains(all, must) {
			t.Errorf("%q may be missing", must)
		}
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		v.Field(i).SetUint(1)
	}
	if s.Missing() != nil {
		t.Errorf("missing %v of %s", s.Missing(), s)
	}
	s.Add(s)
	if s.Splits != 2 || s.Replaced != 2 {
		t.Errorf("sums: %s", s)
	}
}
