package load

import (
	"bytes"
	"flag"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeysDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for i := range uint64(100_000) {
		k := AppendKey(nil, i)
		require.Len(t, k, KeySize)
		require.False(t, seen[string(k)])
		seen[string(k)] = true
	}
}

// TestSplitsCutEvenly: each part gets about the same number of keys, and the counter lies before them all.
func TestSplitsCutEvenly(t *testing.T) {
	require.Empty(t, Splits(1))
	splits := Splits(12)
	require.Len(t, splits, 11)
	parts := make([]int, 12)
	for i := range uint64(120_000) {
		k := AppendKey(nil, i)
		require.Less(t, string(CounterKey), string(k))
		p := 0
		for p < len(splits) && bytes.Compare(splits[p], k) <= 0 {
			p++
		}
		parts[p]++
	}
	for _, n := range parts {
		require.InDelta(t, 10_000, n, 500)
	}
}

// TestZipfianIsZipfian compares how often the first numbers come up with what the distribution says. The
// method is exact for the first two and an approximation for the others.
func TestZipfianIsZipfian(t *testing.T) {
	const keys, draws = 1000, 500_000
	sum := zeta(0, 0, keys)
	z := newZipfian(newRand(1, 1), keys, sum)
	count := make([]int, keys)
	for range draws {
		count[z.next()]++
	}
	for i := range 2 {
		require.InEpsilon(t, math.Pow(float64(i+1), -theta)/sum, float64(count[i])/draws, 0.03, "number %d", i)
	}
	var head int
	for _, n := range count[:100] {
		head += n
	}
	require.InEpsilon(t, zeta(0, 0, 100)/sum, float64(head)/draws, 0.03, "the first tenth")
	require.Positive(t, count[keys-1]+count[keys-2]+count[keys-3], "the last come up too")
}

func TestZipfianOfFewKeys(t *testing.T) {
	for keys := uint64(1); keys < 5; keys++ {
		z := newZipfian(newRand(1, 1), keys, zeta(0, 0, keys))
		seen := make(map[uint64]bool)
		for range 1000 {
			n := z.next()
			require.Less(t, n, keys)
			seen[n] = true
		}
		require.Len(t, seen, int(keys))
	}
}

// TestLatestFollowsInserts: a key is chosen only when it and all before it are there.
func TestLatestFollowsInserts(t *testing.T) {
	s := newInserts(10)
	l := &latest{newZipfian(newRand(1, 1), 10, zeta(0, 0, 10)), s}
	highest := func() (n uint64) {
		for range 1000 {
			n = max(n, l.next())
		}
		return n
	}
	require.EqualValues(t, 9, highest())
	a, b := s.begin(), s.begin()
	s.end(b)
	require.EqualValues(t, 9, highest(), "the one before is not there")
	s.end(a)
	require.EqualValues(t, 11, highest())
	require.InEpsilon(t, zeta(0, 0, 12), l.zipfian.zeta, 1e-9)
	require.Empty(t, s.mu.done)
}

func TestValuesHaveTheirSize(t *testing.T) {
	v := NewValues(1, 128)
	first := bytes.Clone(v.Next())
	require.Len(t, first, 128)
	require.NotEqual(t, first, v.Next())
	require.Empty(t, NewValues(1, 0).Next())
}

// TestArgsAreFlags: what Args writes, Flags reads.
func TestArgsAreFlags(t *testing.T) {
	want := Options{
		Workload: "ycsb-d", Clients: 7, Duration: 3 * time.Second, Warmup: 50 * time.Millisecond, Keys: 11, ValueSize: 13,
		Choice: Uniform, Rate: 1234.5, Seed: 99,
	}
	got := Defaults()
	f := flag.NewFlagSet("", flag.ContinueOnError)
	got.Flags(f)
	require.NoError(t, f.Parse(want.Args()))
	require.Equal(t, want, got)
}
