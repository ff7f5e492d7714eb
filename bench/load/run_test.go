package load

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// inBubble runs a workload on a fake store with a clock of its own, so that times are exact.
func inBubble(t *testing.T, f *fake, o Options, check func(t *testing.T, r *Report, seconds []Second)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var seconds []Second
		r, err := Run(t.Context(), f, o, func(s Second) { seconds = append(seconds, s) })
		require.NoError(t, err)
		check(t, r, seconds)
	})
}

func options(workload string) Options {
	o := Defaults()
	o.Workload, o.Clients, o.Keys, o.Duration, o.Warmup = workload, 4, 100, 10*time.Second, 2*time.Second
	return o
}

// near allows for the histogram's steps of a thousandth.
func near(t *testing.T, want time.Duration, got Micros) {
	t.Helper()
	require.InEpsilon(t, float64(want), float64(got.Duration()), 0.002)
}

func TestClosedLoop(t *testing.T) {
	inBubble(t, newFake(time.Millisecond, 100), options("get"), func(t *testing.T, r *Report, seconds []Second) {
		require.EqualValues(t, 40_000, r.All.Ops, "4 clients, 10 s, 1 ms each; nothing of the warm-up")
		require.InEpsilon(t, 4000, r.All.Rate, 1e-6)
		for _, q := range []Micros{r.All.P50, r.All.P90, r.All.P99, r.All.P999, r.All.Max, r.All.Mean} {
			near(t, time.Millisecond, q)
		}
		require.Empty(t, r.Errors)
		require.Len(t, r.Kinds, 1)
		require.Equal(t, Get, r.Kinds[0].Kind)
		require.GreaterOrEqual(t, len(seconds), 11)
		require.True(t, seconds[0].Warmup)
		require.False(t, seconds[len(seconds)-1].Warmup)
	})
}

// TestSlowOperationAtTheEndCounts: an operation that is under way at the end is waited for; it is in the latencies, and
// not in the rate. Without that, a store that hangs at the end would look as if it had been fast.
func TestSlowOperationAtTheEndCounts(t *testing.T) {
	f := newFake(0, 100)
	f.takes = func(op int) time.Duration {
		if op == 5 { // begins 5 s after the first
			return 20 * time.Second
		}
		return time.Second
	}
	o := options("get")
	o.Clients, o.Warmup = 1, 0
	inBubble(t, f, o, func(t *testing.T, r *Report, _ []Second) {
		require.EqualValues(t, 5, r.All.Ops)
		require.InEpsilon(t, 0.5, r.All.Rate, 1e-6)
		near(t, 20*time.Second, r.All.Max)
	})
}

// TestMaximumIsExact beyond the histogram's range.
func TestMaximumIsExact(t *testing.T) {
	o := options("get")
	o.Clients, o.Warmup = 1, 0
	inBubble(t, newFake(5*time.Minute, 100), o, func(t *testing.T, r *Report, _ []Second) {
		require.Zero(t, r.All.Ops, "it ended too late for the rate")
		require.Equal(t, 5*time.Minute, r.All.Max.Duration())
		require.Equal(t, 5*time.Minute, r.All.Mean.Duration())
		require.GreaterOrEqual(t, r.All.P99.Duration(), 59*time.Second)
	})
}

// stalls is a store that hangs once, for a second.
func stalls() *fake {
	f := newFake(0, 100)
	f.takes = func(op int) time.Duration {
		if op == 300 {
			return time.Second
		}
		return time.Millisecond
	}
	return f
}

// TestOpenLoopSeesAStall: with one client and 100 operations due per second, a stall of 1 s delays a hundred
// of the thousand operations; their latencies count from when they were due. A closed loop sees one slow
// operation among thousands.
func TestOpenLoopSeesAStall(t *testing.T) {
	o := options("get")
	o.Clients, o.Warmup, o.Rate = 1, 0, 100
	inBubble(t, stalls(), o, func(t *testing.T, r *Report, _ []Second) {
		require.EqualValues(t, 1000, r.All.Ops)
		require.InEpsilon(t, 100, r.All.Rate, 0.001)
		require.Zero(t, r.Unbegun)
		near(t, time.Millisecond, r.All.P50)
		require.Greater(t, r.All.P99.Duration(), 800*time.Millisecond)
		near(t, time.Second, r.All.Max)
	})
	o.Rate = 0
	inBubble(t, stalls(), o, func(t *testing.T, r *Report, _ []Second) {
		near(t, time.Millisecond, r.All.P99)
		near(t, time.Second, r.All.Max)
	})
}

// TestOpenLoopTellsWhatWasNotBegun: of a store that is too slow, what is left at the end is counted.
func TestOpenLoopTellsWhatWasNotBegun(t *testing.T) {
	o := options("get")
	o.Clients, o.Warmup, o.Rate = 2, 0, 100
	inBubble(t, newFake(100*time.Millisecond, 100), o, func(t *testing.T, r *Report, _ []Second) {
		require.InDelta(t, 1000, r.All.Ops+r.Unbegun, 2, "two may end too late for the rate")
		require.InDelta(t, 200, r.All.Ops, 2)
	})
}

// TestOpenLoopThatIsFarBehind: when all that ends in the measured time was due before it, its latencies are
// told all the same.
func TestOpenLoopThatIsFarBehind(t *testing.T) {
	o := options("get")
	o.Clients, o.Warmup, o.Duration, o.Rate = 1, 10*time.Second, 5*time.Second, 100
	inBubble(t, newFake(100*time.Millisecond, 100), o, func(t *testing.T, r *Report, _ []Second) {
		require.InDelta(t, 50, r.All.Ops, 2)
		require.Greater(t, r.All.P50.Duration(), 10*time.Second)
	})
}

func TestErrorsAreCountedByKind(t *testing.T) {
	f := newFake(10*time.Millisecond, 100)
	f.fails = func(op int) error {
		switch op % 5 {
		case 1, 3:
			return &Error{Kind: "overloaded", Cause: errors.New("the queue is full")}
		case 2:
			return fmt.Errorf("no answer: %w", context.DeadlineExceeded)
		}
		return nil
	}
	o := options("put")
	o.Clients = 1
	inBubble(t, f, o, func(t *testing.T, r *Report, _ []Second) {
		require.Len(t, r.Errors, 2)
		require.Equal(t, Failed{Op: Put, Kind: "overloaded", Count: r.Errors[0].Count, Example: "the queue is full"}, r.Errors[0])
		require.Equal(t, KindTimeout, r.Errors[1].Kind)
		require.Equal(t, r.All.Failed, r.Errors[0].Count+r.Errors[1].Count)
		require.InEpsilon(t, 3.0/2, float64(r.All.Failed)/float64(r.All.Ops), 0.01)
		near(t, 10*time.Millisecond, r.All.Max)
		require.NotEmpty(t, r.WarmupErrors)
	})
}

// TestMissingKeysAreErrors: a store that was not loaded, or that lost something, does not look fast.
func TestMissingKeysAreErrors(t *testing.T) {
	o := options("get")
	o.Keys = 200
	inBubble(t, newFake(time.Millisecond, 100), o, func(t *testing.T, r *Report, _ []Second) {
		require.Len(t, r.Errors, 1)
		require.Equal(t, KindNotFound, r.Errors[0].Kind)
		require.NotZero(t, r.All.Ops)
	})
}

func TestCounter(t *testing.T) {
	inBubble(t, newFake(time.Millisecond, 0), options("counter"), func(t *testing.T, r *Report, _ []Second) {
		require.Equal(t, &CounterReport{After: 48_000, Acknowledged: 48_000, Exact: true}, r.Counter)
		require.EqualValues(t, 2, r.AttemptsPerIncrement)
	})
}

// forgets loses every tenth increment.
type forgets struct{ *fake }

func (f forgets) Increment(ctx context.Context, key []byte) (int, error) {
	f.mu.Lock()
	op := f.ops
	f.mu.Unlock()
	if op%10 == 0 {
		return 1, f.begin()
	}
	return f.fake.Increment(ctx, key)
}

func TestCounterThatForgetsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(t.Context(), forgets{newFake(time.Millisecond, 0)}, options("counter"), nil)
		require.NoError(t, err)
		require.False(t, r.Counter.Exact)
	})
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		_, err := Run(ctx, newFake(time.Millisecond, 100), options("get"), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(begun), 4*time.Second)
	})
}

// TestWorkloads: the shares of the operations are those of the table, and each finds its keys.
func TestWorkloads(t *testing.T) {
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			sum := 0
			for _, p := range w.parts {
				sum += p.percent
			}
			require.Equal(t, 100, sum)
			inBubble(t, newFake(10*time.Millisecond, 100), options(w.name), func(t *testing.T, r *Report, _ []Second) {
				require.Empty(t, r.Errors)
				require.Equal(t, w.choice, r.Choice)
				require.Len(t, r.Kinds, len(w.parts))
				for i, p := range w.parts {
					var got Operations
					for _, k := range r.Kinds {
						if k.Kind == p.kind {
							got = k
						}
					}
					require.InDelta(t, float64(p.percent), 100*float64(got.Ops)/float64(r.All.Ops), 5, "%d: %s", i, p.kind)
				}
			})
		})
	}
}

// TestSameSeedSameWork: with one client, the same options do the same.
func TestSameSeedSameWork(t *testing.T) {
	o := options("ycsb-a")
	o.Clients = 1
	did := func(seed uint64) []string {
		o.Seed = seed
		f := newFake(10*time.Millisecond, 100)
		inBubble(t, f, o, func(*testing.T, *Report, []Second) {})
		return f.log
	}
	require.Equal(t, did(1), did(1))
	require.NotEqual(t, did(1), did(2))
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`--workload "x" is none of put, get`: func(o *Options) { o.Workload = "x" },
		"--clients 0 is not":                 func(o *Options) { o.Clients = 0 },
		"--clients 1000000 is not":           func(o *Options) { o.Clients = 1_000_000 },
		"--duration 0s is not":               func(o *Options) { o.Duration = 0 },
		"--warmup -1ns is not":               func(o *Options) { o.Warmup = -1 },
		"--keys 0 is not":                    func(o *Options) { o.Keys = 0 },
		"--value-size -1 is not":             func(o *Options) { o.ValueSize = -1 },
		`--choice "x" is none of`:            func(o *Options) { o.Choice = "x" },
		"--rate -1 is not":                   func(o *Options) { o.Rate = -1 },
	} {
		o := options("put")
		require.NoError(t, o.Validate())
		change(&o)
		require.ErrorContains(t, o.Validate(), want)
		_, err := Run(t.Context(), newFake(0, 0), o, nil)
		require.Error(t, err)
	}
}
