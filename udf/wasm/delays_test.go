package wasm

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/examples/flights/delays"
	compiled "github.com/locuskv/locus/examples/guests"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// summed is what the guest in C says of an origin.
type summed struct {
	Origin  string
	Flights int64
	Sum     int64
	P95     int
}

// flightsOfAllKinds are batches of delays by origin with all that guests may meet: names of any length, delays that have no counter of their
// own, values in another order. values has the same flights in the fixed layout.
func flightsOfAllKinds(n int) (batches, fixed [][]byte, want delays.Accumulator) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		var batch, other []byte
		for range n / 20 {
			delay := rng.IntN(60) - 20
			switch rng.IntN(20) {
			case 0:
				delay = rng.IntN(2001) - 1000
			case 1:
				delay = []int{-delays.MaxDelay, delays.MaxDelay, 895, 896, -128, -129}[rng.IntN(6)]
			}
			key := []byte([]string{"LAS", "PHL", "PHX", "X", "LA", "A-LONGER-NAME", "LASX"}[rng.IntN(7)] + "/2001-01-01/0001")
			value := fmt.Appendf(nil, `{"date":"2001-01-01T00:01","delay":%d,"distance":2176,"origin":"LAS","destination":"PHL"}`, delay)
			if rng.IntN(10) == 0 {
				value = fmt.Appendf(nil, `{"a":{"delay":1},"b":"\"delay\":2","delays":[3], "delay" : %d }`, delay)
			}
			batch = packed.Append(batch, key, value, 1, 0)
			other = packed.Append(other, key, append(binary.LittleEndian.AppendUint32(nil, uint32(int32(delay))), "rest"...), 1, 99)
			if err := want.Add(key, value); err != nil {
				panic(err)
			}
		}
		batches, fixed = append(batches, batch), append(fixed, other)
	}
	return batches, fixed, want
}

// TestDelaysInC is the guest in C against the accumulator in Go: over several accumulators, again and again on the same instances.
func TestDelaysInC(t *testing.T) {
	batches, fixed, want := flightsOfAllKinds(4000)
	for name, batches := range map[string][][]byte{"delays": batches, "delays-fixed": fixed} {
		f := compile(t, newRuntime(t, Options{MaxInstances: 1}), name, compiled.Delays)
		for range 2 {
			var accs [][]byte
			for part := range slices.Chunk(batches, 7) {
				accs = append(accs, encoded(t, f, part...))
			}
			merged, err := f.Merge(ctx, udf.CodecJSON, nil, accs[1:])
			require.NoError(t, err)
			out, err := f.Result(ctx, udf.CodecJSON, nil, [][]byte{accs[0], merged.Result, encoded(t, f)})
			require.NoError(t, err)
			var got []summed
			require.NoError(t, json.Unmarshal(out.Result, &got))
			slices.SortFunc(got, func(a, b summed) int { return strings.Compare(a.Origin, b.Origin) })
			airports := want.Airports()
			require.Len(t, got, len(airports))
			for i, a := range airports {
				mean := float64(got[i].Sum) / float64(got[i].Flights)
				require.Equal(t, a, delays.Airport{Origin: got[i].Origin, Flights: got[i].Flights, MeanDelay: mean, P95: got[i].P95, DelayedShare: a.DelayedShare})
			}
		}
		out, err := f.Result(ctx, udf.CodecJSON, nil, nil)
		require.NoError(t, err)
		require.Equal(t, "[]", string(out.Result))
	}
}

// TestDelaysInCBeginAnew: an accumulator whose first origin is the last one of the accumulator before, on the same instance.
func TestDelaysInCBeginAnew(t *testing.T) {
	one := packed.Append(nil, []byte("LAS/2001-01-01/0001"), []byte(`{"delay":7}`), 1, 0)
	f := compile(t, newRuntime(t, Options{MaxInstances: 1}), "delays", compiled.Delays)
	out, err := f.Result(ctx, udf.CodecJSON, nil, [][]byte{encoded(t, f, one), encoded(t, f, one, one)})
	require.NoError(t, err)
	require.Equal(t, `[{"origin":"LAS","flights":3,"sum":21,"p95":7}]`, string(out.Result))
}

func encoded(t *testing.T, f *Function, batches ...[]byte) []byte {
	t.Helper()
	a, err := f.NewAccumulator(ctx, udf.CodecJSON, nil)
	require.NoError(t, err)
	defer a.Close()
	for _, b := range batches {
		require.NoError(t, a.Add(ctx, b))
	}
	acc, err := a.Encode(ctx)
	require.NoError(t, err)
	return acc
}

// TestDelaysInCOfAllLengths: numbers of any length, where the fields stand as usual, which is where the guest takes its short way.
func TestDelaysInCOfAllLengths(t *testing.T) {
	f := compile(t, newRuntime(t, Options{MaxInstances: 1}), "delays", compiled.Delays)
	var all []int
	for d := -1100; d <= 1100; d++ {
		all = append(all, d)
	}
	for _, d := range []int{9999, 10_000, 99_999, 100_000, 999_999, 1_000_000, delays.MaxDelay} {
		all = append(all, d, -d)
	}
	for _, d := range all {
		for _, value := range []string{
			`{"date":"2001-01-01T00:01","delay":%d,"distance":2176,"origin":"LAS","destination":"PHL"}`,
			`{"date":"2001-01-01T00:01","delay":%d}`, `{"date":"2001-01-01T00:01","delay":%d ,"x":12345678}`,
		} {
			batch := packed.Append(nil, []byte("LAS/2001-01-01/0001"), fmt.Appendf(nil, value, d), 1, 0)
			out, err := f.Result(ctx, udf.CodecJSON, nil, [][]byte{encoded(t, f, batch)})
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf(`[{"origin":"LAS","flights":1,"sum":%d,"p95":%d}]`, d, d), string(out.Result), value)
		}
	}
}

func TestDelaysInCRefusesOtherRecords(t *testing.T) {
	r := newRuntime(t, Options{})
	for _, c := range []struct{ function, key, value, want string }{
		{"delays", "LAS/1", `{"delay":"late"}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", `{"delay":1.5}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", `{"delay":1048577}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", `{"date":"2001-01-01T00:01","delay":1048577,"distance":2176}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", `{"date":"2001-01-01T00:01","delay":12.5,"distance":2176}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", `{"a":{"delay":1}}`, "a value has no delay in whole minutes"},
		{"delays", "LAS/1", ``, "a value has no delay in whole minutes"},
		{"delays", "LAS", `{"delay":1}`, "a key has no origin before a slash"},
		{"delays", "/1", `{"delay":1}`, "an origin has between 1 and 15 bytes"},
		{"delays-fixed", "A-NAME-TOO-LONG-/1", "1234", "an origin has between 1 and 15 bytes"},
		{"delays-fixed", "LAS/1", "123", "a value is shorter than 4 bytes"},
	} {
		f := compile(t, r, c.function, compiled.Delays)
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, nil)
		require.NoError(t, err)
		err = a.Add(ctx, packed.Append(nil, []byte(c.key), []byte(c.value), 1, 0))
		require.Equal(t, &api.FunctionError{Function: c.function, Code: 1, Message: c.want}, err, "%+v", c)
		a.Close()
	}
}

// BenchmarkDelaysInC runs the guest over batches as the scan cache hands them out.
func BenchmarkDelaysInC(b *testing.B) {
	s, err := flightsSample()
	require.NoError(b, err)
	batches := s.Batches(udf.Span{})
	a, err := example(b, "delays", compiled.Delays).NewAccumulator(ctx, udf.CodecJSON, nil)
	require.NoError(b, err)
	defer a.Close()
	b.ReportAllocs()
	for b.Loop() {
		for _, batch := range batches {
			if err := a.Add(ctx, batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(s.Data))/b.Elapsed().Seconds(), "records/s")
}
