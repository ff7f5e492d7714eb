package storesim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Campaign is a run of many seeds.
type Campaign struct {
	// Options of every run but for the seed.
	Options Options
	// First is the first seed; the others follow it. Seeds is their number; 0: until the context is done.
	First uint64
	Seeds int
	// Parallel is how many play at once, each on a goroutine of its own. Default 1.
	Parallel int
	// Played, if not nil, is told after each seed how far the campaign is. It is called by one goroutine at a time.
	Played func(Summary)
}

// Summary is what a campaign went through.
type Summary struct {
	First     uint64
	Seeds     int           // that ended well
	Simulated time.Duration // of all together
	Steps     uint64
	Stats     Stats
}

// String is one line.
func (s Summary) String() string {
	return fmt.Sprintf("%d seeds from %d: %s simulated, steps %d, %s", s.Seeds, s.First, s.Simulated.Round(time.Second), s.Steps, s.Stats)
}

// SeedError is a seed that failed. It plays the same again for as long as the code is the same.
type SeedError struct {
	Seed   uint64
	Result Result
	Err    error
}

func (e *SeedError) Error() string {
	return fmt.Sprintf("seed %d failed after %s simulated (%d steps): %v", e.Seed, e.Result.Time, e.Result.Steps, e.Err)
}

func (e *SeedError) Unwrap() error { return e.Err }

// MissingError says that the simulation did not meet what it is there for.
type MissingError struct {
	Seeds int
	What  []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("in %d seeds this never happened: %s", e.Seeds, strings.Join(e.What, ", "))
}

// Run plays the seeds. It ends at the first one that fails (*SeedError, the lowest seed of those that were being played),
// when ctx is done, or when all are played; then *MissingError if they were RequiredSeeds or more and something that must
// happen did not.
func (c *Campaign) Run(ctx context.Context) (Summary, error) {
	s := Summary{First: c.First}
	var (
		mu     sync.Mutex
		next   = c.First
		failed *SeedError
		wg     sync.WaitGroup
	)
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || ctx.Err() != nil || (c.Seeds > 0 && next-c.First >= uint64(c.Seeds)) {
			return 0, false
		}
		next++
		return next - 1, true
	}
	played := func(seed uint64, res Result, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if failed == nil || seed < failed.Seed {
				failed = &SeedError{seed, res, err}
			}
			return
		}
		s.Seeds++
		s.Simulated += res.Time
		s.Steps += res.Steps
		s.Stats.Add(res.Stats)
		if c.Played != nil {
			c.Played(s)
		}
	}
	for range max(c.Parallel, 1) {
		wg.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				o := c.Options
				o.Seed = seed
				res, err := Run(o)
				played(seed, res, err)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return s, failed
	}
	if missing := s.Stats.Missing(); s.Seeds >= RequiredSeeds && len(missing) > 0 {
		return s, &MissingError{s.Seeds, missing}
	}
	return s, nil
}
