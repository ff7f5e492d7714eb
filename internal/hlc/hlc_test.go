package hlc

import (
	"errors"
	"math"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/invariant"
)

// manual is a wall clock that stands still until it is set.
type manual struct {
	mu sync.Mutex
	ms int64
}

func (m *manual) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.UnixMilli(m.ms)
}

func (m *manual) set(ms int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ms = ms
}

func newManual(ms int64) (*manual, *Clock) {
	m := &manual{ms: ms}
	return m, NewClock(m.now, 0)
}

func TestTimestampParts(t *testing.T) {
	ts := Make(1_000_000, 42)
	require.EqualValues(t, 1_000_000, ts.Millis())
	require.EqualValues(t, 42, ts.Counter())
	require.Equal(t, "1000000.00042", ts.String())
	require.Equal(t, time.UnixMilli(1_000_000), ts.Time())
	require.Equal(t, Make(1_000_000, 0), FromTime(time.UnixMilli(1_000_000).Add(999*time.Microsecond)))
	require.Equal(t, Timestamp(0x0000_0000_0001_0002), Make(1, 2), "the layout is on disk")
}

func TestMake(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ms      int64
		counter uint32
		want    Timestamp
	}{
		{"zero", 0, 0, 0},
		{"full counter", 5, 65_535, 5<<16 | 65_535},
		{"counter carries", 5, 65_536, 6 << 16},
		{"counter carries far", 5, math.MaxUint32, Timestamp(5)<<16 + math.MaxUint32},
		{"before the epoch", -1, 3, 3},
		{"last millisecond", maxMillis, 0, Max - 65_535},
		{"last timestamp", maxMillis, 65_535, Max},
		{"counter carries past the end", maxMillis, 65_536, Max},
		{"past the end", maxMillis + 1, 0, Max},
		{"far past the end", math.MaxInt64, 0, Max},
		{"far before the epoch", math.MinInt64, 0, 0},
	} {
		require.Equal(t, tc.want, Make(tc.ms, tc.counter), tc.name)
	}
}

func TestArithmetic(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  Timestamp
		want Timestamp
	}{
		{"next", Make(7, 3).Next(), Make(7, 4)},
		{"next carries", Make(7, 65_535).Next(), Make(8, 0)},
		{"next of the last", Max.Next(), Max},
		{"prev", Make(8, 0).Prev(), Make(7, 65_535)},
		{"prev of none", Timestamp(0).Prev(), 0},
		{"add keeps the counter", Make(7, 3).Add(2 * time.Millisecond), Make(9, 3)},
		{"add drops microseconds", Make(7, 3).Add(1999 * time.Microsecond), Make(8, 3)},
		{"subtract drops microseconds", Make(7, 3).Add(-1999 * time.Microsecond), Make(6, 3)},
		{"subtract to zero", Make(7, 0).Add(-7 * time.Millisecond), 0},
		{"subtract below zero", Make(7, 3).Add(-time.Second), 0},
		{"the shortest duration", Make(7, 3).Add(math.MinInt64), 0},
		{"the longest duration", Max.Add(math.MaxInt64), Max},
		{"a time to live for ever", Make(7, 3).AddMillis(math.MaxInt64), Max},
		{"the most negative", Max.AddMillis(math.MinInt64), 0},
	} {
		require.Equal(t, tc.want, tc.got, tc.name)
	}
	require.Equal(t, 2*time.Millisecond, Make(9, 0).Sub(Make(7, 65_535)))
	require.Equal(t, -2*time.Millisecond, Make(7, 0).Sub(Make(9, 0)))
	require.Greater(t, Max.Sub(0), 290*365*24*time.Hour, "distances do not wrap")
	require.Less(t, Timestamp(0).Sub(Max), -290*365*24*time.Hour)
}

func TestNowRisesWhileTheWallStandsStill(t *testing.T) {
	_, c := newManual(100)
	require.Equal(t, Make(100, 0), c.Now())
	require.Equal(t, Make(100, 1), c.Now())
	require.Equal(t, Make(100, 1), c.Last())
	require.Equal(t, Make(100, 0), c.Wall())
}

func TestNowCarriesIntoMilliseconds(t *testing.T) {
	_, c := newManual(100)
	last := c.Now()
	for range 70_000 {
		next := c.Now()
		require.Equal(t, last+1, next)
		last = next
	}
	require.EqualValues(t, 101, last.Millis(), "70,000 in one millisecond carry")
}

func TestNowWhenTheWallGoesBackwards(t *testing.T) {
	wall, c := newManual(100)
	before := c.Now()
	for _, ms := range []int64{99, 0, -1_000_000} {
		wall.set(ms)
		after := c.Now()
		require.Equal(t, before.Next(), after)
		before = after
	}
	wall.set(200)
	require.Equal(t, Make(200, 0), c.Now(), "and catches up when it returns")
}

func TestUpdate(t *testing.T) {
	maxMs := DefaultMaxOffset.Milliseconds()
	for _, tc := range []struct {
		name    string
		remote  Timestamp
		refused bool
	}{
		{"the past", Make(1, 0), false},
		{"none", 0, false},
		{"now", Make(1000, 0), false},
		{"a little ahead", Make(1000+maxMs-1, 9), false},
		{"at the maximum offset", Make(1000+maxMs, 65_535), false},
		{"past the maximum offset", Make(1000+maxMs+1, 0), true},
		{"centuries ahead", FromTime(time.UnixMilli(1000).AddDate(500, 0, 0)), true},
		{"the end of time", Max, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, c := newManual(1000)
			before := c.Now()
			err := c.Update(tc.remote)
			if tc.refused {
				require.Equal(t, &OffsetError{Remote: tc.remote, Wall: Make(1000, 0), Max: DefaultMaxOffset}, err)
				require.Contains(t, err.Error(), "maximum offset 500ms")
				require.Equal(t, before, c.Last(), "a refused timestamp does not move the clock")
				return
			}
			require.NoError(t, err)
			require.Equal(t, max(before, tc.remote), c.Last())
			require.Equal(t, max(before, tc.remote).Next(), c.Now())
		})
	}
}

// TestUpdateRefusesAllThatIsFarAhead walks over the whole range: a distance that wrapped would let some of
// these pass.
func TestUpdateRefusesAllThatIsFarAhead(t *testing.T) {
	_, c := newManual(1_700_000_000_000)
	step := (Max - c.Wall()) / 10_007
	for remote := c.Wall() + step; remote > step; remote += step {
		require.Error(t, c.Update(remote), "%s", remote)
		if Max-remote < step {
			break
		}
	}
	require.Zero(t, c.Last())
}

// TestUpdateJudgesByTheWall: a clock that runs ahead of its wall must not let others pull it further.
func TestUpdateJudgesByTheWall(t *testing.T) {
	_, c := newManual(1000)
	c.Advance(Make(1400, 0))
	require.Error(t, c.Update(Make(1700, 0)))
	require.Equal(t, Make(1400, 0), c.Last())
}

func TestMaxOffset(t *testing.T) {
	wall := func() time.Time { return time.UnixMilli(1000) }
	require.Equal(t, DefaultMaxOffset, NewClock(wall, 0).MaxOffset())
	c := NewClock(wall, time.Second)
	require.Equal(t, time.Second, c.MaxOffset())
	require.NoError(t, c.Update(Make(2000, 0)))
	var e *OffsetError
	require.True(t, errors.As(c.Update(Make(2001, 0)), &e))
}

func TestAdvanceBeyondTheOffset(t *testing.T) {
	_, c := newManual(1000)
	far := Make(1000+100*DefaultMaxOffset.Milliseconds(), 7)
	c.Advance(far)
	require.Equal(t, far, c.Last())
	require.Equal(t, far.Next(), c.Now())
	c.Advance(Make(1, 0))
	require.Equal(t, far.Next(), c.Last(), "Advance never goes back")
}

func TestAClockAtTheEndStops(t *testing.T) {
	_, c := newManual(1000)
	c.Advance(Max)
	defer func() {
		require.IsType(t, &invariant.Violation{}, recover())
	}()
	c.Now()
}

// TestConcurrentNow: timestamps are unique, and rise within each goroutine, while the wall jumps about and
// other nodes' timestamps come in.
func TestConcurrentNow(t *testing.T) {
	wall, c := newManual(1000)
	const goroutines, each = 8, 2000
	got := make([][]Timestamp, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				switch i % 4 {
				case 1:
					wall.set(int64(1000 + (i*7+g*13)%50 - 25))
				case 2:
					_ = c.Update(Make(int64(1000+i%100), uint32(g)))
				}
				got[g] = append(got[g], c.Now())
			}
		})
	}
	wg.Wait()

	seen := make(map[Timestamp]bool, goroutines*each)
	for g, list := range got {
		for i, ts := range list {
			require.False(t, seen[ts], "%s was given twice", ts)
			seen[ts] = true
			if i > 0 {
				require.Greater(t, ts, list[i-1], "goroutine %d", g)
			}
		}
	}
}

// FuzzArithmetic compares with integers that have no bounds.
func FuzzArithmetic(f *testing.F) {
	f.Add(uint64(0), int64(0), uint32(0))
	f.Add(uint64(math.MaxUint64), int64(math.MaxInt64), uint32(math.MaxUint32))
	f.Add(uint64(1<<63), int64(math.MinInt64), uint32(1))
	f.Add(uint64(1_700_000_000_000<<16), int64(1_700_000_000_000), uint32(65_536))
	f.Fuzz(func(t *testing.T, raw uint64, n int64, counter uint32) {
		ts := Timestamp(raw)
		big64 := new(big.Int).SetUint64(raw)
		shifted := new(big.Int).Mul(big.NewInt(n), big.NewInt(1<<counterBits))
		if got, want := ts.AddMillis(n), clamp(new(big.Int).Add(big64, shifted)); got != want {
			t.Fatalf("%s.AddMillis(%d) = %s, want %s", ts, n, got, want)
		}
		d := time.Duration(n)
		if got, want := ts.Add(d), ts.AddMillis(int64(d/time.Millisecond)); got != want {
			t.Fatalf("%s.Add(%s) = %s, want %s", ts, d, got, want)
		}
		made := new(big.Int).Add(clamp0(shifted), new(big.Int).SetUint64(uint64(counter)))
		if got, want := Make(n, counter), clamp(made); got != want {
			t.Fatalf("Make(%d, %d) = %s, want %s", n, counter, got, want)
		}
		if Make(ts.Millis(), uint32(ts.Counter())) != ts {
			t.Fatalf("%s does not survive being taken apart", ts)
		}
		if ts != Max && (ts.Next() <= ts || ts.Next().Prev() != ts) {
			t.Fatalf("%s.Next() = %s", ts, ts.Next())
		}
		other := Make(n, counter)
		if (ts.Sub(other) > 0) != (ts.Millis() > other.Millis()) || ts.Sub(other) != -other.Sub(ts) {
			t.Fatalf("%s.Sub(%s) = %s", ts, other, ts.Sub(other))
		}
	})
}

func clamp0(x *big.Int) *big.Int {
	if x.Sign() < 0 {
		return new(big.Int)
	}
	return x
}

func clamp(x *big.Int) Timestamp {
	x = clamp0(x)
	if !x.IsUint64() {
		return Max
	}
	return Timestamp(x.Uint64())
}

// FuzzClock drives a clock by a random program; what it gives must rise.
func FuzzClock(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 255, 254, 7, 9})
	f.Fuzz(func(t *testing.T, program []byte) {
		wall, c := newManual(1000)
		var last Timestamp
		for i, b := range program {
			remote := Make(wall.now().UnixMilli()+int64(b)*8-1000, uint32(b)<<9)
			switch b % 4 {
			case 0:
				wall.set(1000 + int64(b)*int64(i%7) - 500)
			case 1:
				if err := c.Update(remote); (err == nil) != (remote.Sub(c.Wall()) <= DefaultMaxOffset) {
					t.Fatalf("Update(%s) at %s: %v", remote, c.Wall(), err)
				} else if err == nil {
					last = max(last, remote)
				}
			case 2:
				c.Advance(remote)
				last = max(last, remote)
			}
			now := c.Now()
			if now <= last || now < c.Wall() || now != c.Last() {
				t.Fatalf("step %d: %s after %s at %s", i, now, last, c.Wall())
			}
			last = now
		}
	})
}

func BenchmarkNow(b *testing.B) {
	c := NewClock(time.Now, 0)
	b.ReportAllocs()
	for b.Loop() {
		c.Now()
	}
}
