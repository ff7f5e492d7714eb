package delays

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/packed"
)

func value(delay int) []byte {
	return fmt.Appendf(nil, `{"date":"2001-01-01T00:01","delay":%d,"distance":2176,"origin":"LAS","destination":"PHL"}`, delay)
}

func TestFixedDelay(t *testing.T) {
	for d := -99999; d <= 99999; d++ {
		if got, odd := fixedDelay(value(d)); odd != 0 || got != d {
			t.Fatalf("%d: got %d, odd %x", d, got, odd)
		}
	}
	ordinary := string(value(33))
	for i := range ordinary {
		if _, odd := fixedDelay([]byte(ordinary)); odd != 0 {
			t.Fatal("ordinary is odd")
		}
		changed := []byte(ordinary)
		changed[i] = '~'
		_, odd := fixedDelay(changed)
		fixed := i < 9 || i == 13 || i == 16 || i == 19 || i == 22 || i >= 25 && i <= 37
		require.Equal(t, fixed, odd != 0, "byte %d", i)
	}
	_, odd := fixedDelay(value(1234567))
	require.NotZero(t, odd)
}

func TestDelayOf(t *testing.T) {
	for text, want := range map[string]int{
		`{"delay":5}`: 5, `{ "delay" : -5 }`: -5, `{"a":{"delay":9},"delay":7,"b":[1,{"delay":8}]}`: 7,
		`{"a":"\"delay\":1","delay":2}`: 2, `{"a":"\\","delay":3}`: 3, `{"delay":4,"x":1}`: 4,
		`{"a":"delay","delay":6,"c":"}"}`: 6, `{"delay":0}`: 0, `{"delay":1048576}`: MaxDelay,
	} {
		got, ok := delayOf([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
		var v struct{ Delay int }
		require.NoError(t, json.Unmarshal([]byte(text), &v))
		require.Equal(t, v.Delay, got, text)
	}
	first, ok := delayOf([]byte(`{"delay":1,"delay":2}`))
	require.True(t, ok)
	require.Equal(t, 1, first)
	for _, text := range []string{
		``, `{}`, `{"delay":}`, `{"delay":1.5}`, `{"delay":1e3}`, `{"delay":"1"}`, `{"delay":null}`, `{"delay":-}`,
		`{"delay":1048577}`, `{"delay":99999999999999999999}`, `{"delay":1`, `{"delay`, `{"a":{"delay":1}}`, `{"x":1}`,
		`{"delay":1]`, `["delay",1]`, `{"delay" 1}`,
	} {
		_, ok := delayOf([]byte(text))
		require.False(t, ok, text)
	}
}

// model is the plain way to count.
type model map[string]map[int]uint64

func (m model) add(origin string, delay int, n uint64) {
	if m[origin] == nil {
		m[origin] = make(map[int]uint64)
	}
	m[origin][delay] += n
}

func (m model) of(a *Accumulator) {
	for name, h := range a.origins {
		h.each(func(d int, n uint64) { m.add(name, d, n) })
	}
}

func TestAddBatchIsAdd(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	want := make(model)
	var fast, slow Accumulator
	for range 50 {
		var batch []byte
		for range rng.IntN(30) {
			origin := []string{"LAS", "PHL", "X", "LONG-NAME", "\x00\x00\x00"}[rng.IntN(5)]
			delay := rng.IntN(100) - 30
			if rng.IntN(10) == 0 {
				delay = rng.IntN(2*MaxDelay) - MaxDelay
			}
			v := value(delay)
			if rng.IntN(5) == 0 {
				v = fmt.Appendf(nil, `{"delay": %d }`, delay)
			}
			key := []byte(origin + "/k")
			batch = packed.Append(batch, key, v, 1, 0)
			if rng.IntN(3) == 0 {
				batch = packed.Append(batch, key, v, 1, 9)
				want.add(origin, delay, 1)
				require.NoError(t, slow.Add(key, v))
			}
			want.add(origin, delay, 1)
			require.NoError(t, slow.Add(key, v))
		}
		require.NoError(t, fast.AddBatch(batch))
	}
	got := make(model)
	got.of(&fast)
	require.Equal(t, want, got)
	a, _ := fast.MarshalBinary()
	b, _ := slow.MarshalBinary()
	require.Equal(t, a, b)

	var back Accumulator
	require.NoError(t, back.UnmarshalBinary(a))
	back.Merge(&slow)
	require.NoError(t, fast.MergeBinary(b))
	require.Equal(t, fast.Airports(), back.Airports())
}

func TestAddRefuses(t *testing.T) {
	var a Accumulator
	require.EqualError(t, a.Add([]byte("no slash"), value(1)), "flights: a key has no origin before a slash")
	require.EqualError(t, a.Add([]byte("/x"), value(1)), "flights: a key has no origin before a slash")
	require.EqualError(t, a.Add([]byte("LAS/1"), []byte(`{"delay":"late"}`)), "flights: the value of LAS/1 has no delay in whole minutes")
	batch := packed.Append(nil, []byte("LAS/1"), value(1), 1, 0)
	for n := 1; n < len(batch); n++ {
		require.EqualError(t, new(Accumulator).AddBatch(batch[:n]), "flights: a batch is cut off")
	}
	// Four zero bytes are not the origin that an empty accumulator remembers.
	require.Error(t, a.AddBatch(packed.Append(nil, []byte("\x00\x00\x00\x00"), value(1), 1, 0)))
}

func TestSummary(t *testing.T) {
	var a Accumulator
	for d := 1; d <= 20; d++ {
		require.NoError(t, a.Add([]byte("AAA/"), value(d)))
	}
	require.NoError(t, a.Add([]byte("BBB/"), value(-7)))
	require.Equal(t, []Airport{
		{Origin: "AAA", Flights: 20, MeanDelay: 10.5, DelayedShare: 0.25, P95: 19},
		{Origin: "BBB", Flights: 1, MeanDelay: -7, DelayedShare: 0, P95: -7},
	}, a.Airports())
	require.Equal(t, []Airport{}, new(Accumulator).Airports())
}

func TestAppendJSON(t *testing.T) {
	airports := []Airport{
		{Origin: "AAA", Flights: math.MaxInt64, MeanDelay: -1.0 / 3, DelayedShare: 1e-9, P95: -12},
		{Origin: "\"\\\n<\xff\u00e9", MeanDelay: 0.0000012, DelayedShare: 1, P95: 895},
	}
	text := AppendJSON(nil, airports)
	var back []Airport
	require.NoError(t, json.Unmarshal(text, &back))
	airports[1].Origin = "\"\\\n<\ufffd\u00e9"
	require.Equal(t, airports, back)
	require.Equal(t, "[]", string(AppendJSON(nil, nil)))
}

func FuzzAccumulator(f *testing.F) {
	var a Accumulator
	_ = a.Add([]byte("LAS/1"), value(3))
	_ = a.Add([]byte("PHL/1"), value(-3000))
	seed, _ := a.MarshalBinary()
	f.Add(seed)
	f.Add([]byte{})
	f.Add([]byte("\x03LAS\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Accumulator
		if a.UnmarshalBinary(data) != nil {
			return
		}
		// What is accepted survives encoding, and encodes in one way.
		again, err := a.MarshalBinary()
		require.NoError(t, err)
		var b Accumulator
		require.NoError(t, b.UnmarshalBinary(again))
		third, _ := b.MarshalBinary()
		require.Equal(t, again, third)
		require.LessOrEqual(t, len(again), len(data))
	})
}

func FuzzAddBatch(f *testing.F) {
	f.Add(packed.Append(packed.Append(nil, []byte("LAS/1"), value(3), 1, 0), []byte("LAS/2"), value(-5), 1, 2))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, batch []byte) {
		var fast, slow Accumulator
		if fast.AddBatch(batch) != nil || packed.Validate(batch) != nil {
			return
		}
		for r := packed.NewReader(batch); r.Next(); {
			if !json.Valid(r.Value()) {
				return // both paths trust that it is
			}
			require.NoError(t, slow.Add(r.Key(), r.Value()))
		}
		a, _ := fast.MarshalBinary()
		b, _ := slow.MarshalBinary()
		require.Equal(t, b, a)
	})
}

func BenchmarkAddBatch(b *testing.B) {
	var batch []byte
	const records = 400
	for i := range records {
		batch = packed.Append(batch, fmt.Appendf(nil, "LAS/2001-01-01/%04d", i), value(i%60-10), 1, 0)
	}
	var a Accumulator
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := a.AddBatch(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}
