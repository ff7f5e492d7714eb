package wasm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/guestcache"
	"github.com/locuskv/locus/udf/internal/memstore"
)

const guests = "../../examples/guests/"

func compile(t testing.TB, r *Runtime, name string, module []byte) *Function {
	t.Helper()
	f, err := r.Compile(ctx, name, module)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

// shared is the runtime of the tests of one module after another: it compiles each once, or finds it compiled.
var shared = sync.OnceValues(func() (*Runtime, error) { return NewRuntime(Options{CacheDir: guestcache.Dir()}) })

func example(t testing.TB, name string, module []byte) *Function {
	t.Helper()
	r, err := shared()
	require.NoError(t, err)
	f, err := r.Compile(ctx, name, module)
	require.NoError(t, err)
	return f // not closed, so that its code stays compiled
}

// both are a function of package examples/functions, native and as a guest.
func both(t *testing.T, name string) map[string]udf.Runnable {
	t.Helper()
	registry, err := udf.NewRegistry(functions.All()...)
	require.NoError(t, err)
	native, ok := registry.Lookup(name)
	require.True(t, ok)
	return map[string]udf.Runnable{
		"native": native,
		"guest":  example(t, name, moduleFile(t, guests+"go/"+name+".wasm")),
	}
}

func TestSquare(t *testing.T) {
	for name, f := range both(t, "square") {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, udf.KindPure, f.Kind())
			for arg, want := range map[string]string{"5": "25", "-3": "9", "null": "0", "": "0"} {
				out, err := f.CallPure(ctx, udf.CodecJSON, []byte(arg))
				require.NoError(t, err)
				require.Equal(t, want, string(out.Result))
			}
			_, err := f.CallPure(ctx, udf.CodecJSON, []byte(`"five"`))
			var invalid *api.InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
			require.ErrorContains(t, err, "int64")
		})
	}
}

func TestFind(t *testing.T) {
	for name, f := range both(t, "find") {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, udf.KindMap, f.Kind())
			s := memstore.New(map[string]string{"a": "one", "b": "two", "c": "three", "d": "stone"})
			s.BatchBytes = 20
			m, err := f.NewMapping(ctx, udf.CodecJSON, []byte(`"one"`))
			require.NoError(t, err)
			defer m.Close()
			var got []string
			for _, b := range s.Batches(udf.Span{}) {
				outputs, err := m.Map(ctx, b)
				require.NoError(t, err)
				for _, o := range outputs {
					got = append(got, string(o))
				}
			}
			require.Equal(t, []string{`"a"`, `"d"`}, got)
			require.NotZero(t, m.Fuel())
			_, err = f.NewMapping(ctx, udf.CodecJSON, []byte("5"))
			var invalid *api.InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
			require.ErrorContains(t, err, "string")
			_, err = f.NewAccumulator(ctx, udf.CodecJSON, nil)
			require.ErrorAs(t, err, &invalid)
		})
	}
}

func TestOutputsAreCut(t *testing.T) {
	cut := func(b []byte) ([][]byte, error) {
		o := outputs{function: "f", can: new(udf.Capabilities)}
		return o.cut(b)
	}
	got, err := cut([]byte("\x01\x00\x00\x00a\x00\x00\x00\x00\x02\x00\x00\x00bc"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), {}, []byte("bc")}, got)
	for _, damaged := range []string{"\x01", "\x01\x00\x00\x00", "\x01\x00\x00\x00a\xff\xff\xff\xffb"} {
		_, err = cut([]byte(damaged))
		var crash *api.FunctionError
		require.ErrorAs(t, err, &crash)
		require.EqualValues(t, udf.CodeCrashed, crash.Code)
	}
	_, err = cut(make([]byte, 1<<20)) // a quarter of a million empty ones
	var limit *api.LimitError
	require.ErrorAs(t, err, &limit)
}

func TestCounter(t *testing.T) {
	for name, f := range both(t, "counter") {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, udf.KindReadWrite, f.Kind())
			s := memstore.New(map[string]string{"bad": "forty"})
			info := udf.Info{Key: []byte("visits")}
			for i, want := range []string{"2", "4", "6"} {
				out, err := f.CallWrite(ctx, s, info, udf.CodecJSON, []byte("2"))
				require.NoError(t, err)
				require.Equal(t, want, string(out.Result), i)
			}
			require.Equal(t, "6", s.Data["visits"])

			_, err := f.CallWrite(ctx, s, udf.Info{Key: []byte("bad")}, udf.CodecJSON, []byte("2"))
			require.Equal(t, &api.FunctionError{Function: "counter", Code: functions.CodeNotANumber, Message: "the key does not hold a decimal number"}, err)
			s.Err = api.ErrNotOneGroup
			_, err = f.CallWrite(ctx, s, info, udf.CodecJSON, []byte("2"))
			require.Equal(t, api.ErrNotOneGroup, err)
		})
	}
}

// TestGoGuestDies: the message of a Go guest that crashes is what its runtime wrote.
func TestGoGuestDies(t *testing.T) {
	r := newRuntime(t, Options{MemoryLimitPages: 80, CacheDir: guestcache.Dir()})
	f := compile(t, r, "square", moduleFile(t, guests+"go/square.wasm"))
	_, err := f.CallPure(ctx, udf.CodecJSON, []byte(`"`+strings.Repeat("x", 3<<20)+`"`))
	var got *api.FunctionError
	require.ErrorAs(t, err, &got)
	require.Equal(t, int64(udf.CodeCrashed), got.Code)
	require.Contains(t, got.Message, "out of memory")
	require.NotContains(t, got.Message, "goroutine")
	out, err := f.CallPure(ctx, udf.CodecJSON, []byte("7"))
	require.NoError(t, err)
	require.Equal(t, "49", string(out.Result))
}

// flightsSample is the sample as a keyspace holds it.
var flightsSample = sync.OnceValues(func() (*memstore.Store, error) {
	s := memstore.New(nil)
	var n flights.Numberer
	err := flights.Read(flights.Sample(), func(r flights.Record) error {
		s.Data[string(n.Key(r))] = string(flights.Value(r))
		return nil
	})
	return s, err
})

func TestFlights(t *testing.T) {
	s, err := flightsSample()
	require.NoError(t, err)
	f := example(t, flights.FunctionName, flights.Module)
	require.Equal(t, udf.KindRange, f.Kind())

	var native flights.Accumulator
	var accs [][]byte
	bounds := []string{"", "DFW/2001-03-03/0004", "DFW/2001-03-03/0005", "JFK", ""}
	for i := range len(bounds) - 1 {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("null"))
		require.NoError(t, err)
		var part flights.Accumulator
		for _, b := range s.Batches(udf.Span{Start: []byte(bounds[i]), End: []byte(bounds[i+1])}) {
			require.NoError(t, a.Add(ctx, b))
			require.NoError(t, part.AddBatch(b))
		}
		encoded, err := a.Encode(ctx)
		require.NoError(t, err)
		want, err := part.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, want, encoded, "guest and native accumulators have one encoding")
		require.NoError(t, native.MergeBinary(encoded))
		accs = append(accs, encoded)
		a.Close()
	}
	slices.Reverse(accs)
	out, err := f.Result(ctx, udf.CodecJSON, nil, accs)
	require.NoError(t, err)
	var got []flights.Airport
	require.NoError(t, json.Unmarshal(out.Result, &got))
	require.Equal(t, native.Airports(), got)
	require.Equal(t, plainAirports(t, s), got)
}

// plainAirports computes the answer from parsed JSON, sorted lists and floats at the very end.
func plainAirports(t *testing.T, s *memstore.Store) (airports []flights.Airport) {
	delays := make(map[string][]int)
	for _, value := range s.Data {
		var v struct {
			Origin string
			Delay  int
		}
		require.NoError(t, json.Unmarshal([]byte(value), &v))
		delays[v.Origin] = append(delays[v.Origin], v.Delay)
	}
	for origin, d := range delays {
		slices.Sort(d)
		sum, late := 0, 0
		for _, x := range d {
			sum += x
			if x > 15 {
				late++
			}
		}
		n := len(d)
		airports = append(airports, flights.Airport{
			Origin: origin, Flights: int64(n), MeanDelay: float64(sum) / float64(n), DelayedShare: float64(late) / float64(n),
			P95: d[(n*95+99)/100-1],
		})
	}
	slices.SortFunc(airports, func(a, b flights.Airport) int { return strings.Compare(a.Origin, b.Origin) })
	return airports
}

func TestFlightsRefusesOtherRecords(t *testing.T) {
	f := example(t, flights.FunctionName, flights.Module)
	a, err := f.NewAccumulator(ctx, udf.CodecJSON, nil)
	require.NoError(t, err)
	defer a.Close()
	s := memstore.New(map[string]string{"LAS/x": `{"delay":"late"}`})
	require.Equal(t, &api.FunctionError{Function: flights.FunctionName, Message: "flights: the value of LAS/x has no delay in whole minutes"},
		a.Add(ctx, s.Batches(udf.Span{})[0]))
}

// TestFieldSum is the guest in C against a plain sum.
func TestFieldSum(t *testing.T) {
	f := example(t, "fieldsum", moduleFile(t, guests+"c/fieldsum.wasm"))
	s := memstore.New(map[string]string{"other": `not JSON`, "nested": `{"a":{"n":5},"b":["n",1]}`, "text": `{"n":"5"}`, "float": `{"n":1.5}`})
	sum := 0
	for i := range 1000 {
		n := i*i - 5000
		sum += n
		s.Data[strconv.Itoa(i)] = fmt.Sprintf(`{"x":"\"n\":1", "n" : %d }`, n)
	}
	var accs [][]byte
	for _, span := range []udf.Span{{End: []byte("5")}, {Start: []byte("5")}} {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte(`"n"`))
		require.NoError(t, err)
		for _, b := range s.Batches(span) {
			require.NoError(t, a.Add(ctx, b))
		}
		encoded, err := a.Encode(ctx)
		require.NoError(t, err)
		accs = append(accs, encoded)
		a.Close()
	}
	out, err := f.Result(ctx, udf.CodecJSON, []byte(`"n"`), accs)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(`{"count":1000,"sum":%d}`, sum), string(out.Result))
	_, err = f.NewAccumulator(ctx, udf.CodecJSON, []byte("5"))
	require.Equal(t, &api.FunctionError{Function: "fieldsum", Code: 1, Message: "the argument must be a JSON string: the name of a field"}, err)
}

// BenchmarkFlights runs the guest over batches as the scan cache hands them out.
func BenchmarkFlights(b *testing.B) {
	s, err := flightsSample()
	require.NoError(b, err)
	batches := s.Batches(udf.Span{})
	bytes := 0
	for _, batch := range batches {
		bytes += len(batch)
	}
	run := func(b *testing.B, add func([]byte) error) {
		b.ReportAllocs()
		b.SetBytes(int64(bytes))
		for b.Loop() {
			for _, batch := range batches {
				if err := add(batch); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N*len(s.Data))/b.Elapsed().Seconds(), "records/s")
	}
	b.Run("guest", func(b *testing.B) {
		a, err := example(b, flights.FunctionName, flights.Module).NewAccumulator(ctx, udf.CodecJSON, nil)
		require.NoError(b, err)
		defer a.Close()
		run(b, func(batch []byte) error { return a.Add(ctx, batch) })
	})
	b.Run("native", func(b *testing.B) {
		var acc flights.Accumulator
		run(b, acc.AddBatch)
	})
	b.Run("c-fieldsum", func(b *testing.B) {
		a, err := example(b, "fieldsum", moduleFile(b, guests+"c/fieldsum.wasm")).NewAccumulator(ctx, udf.CodecJSON, []byte(`"delay"`))
		require.NoError(b, err)
		defer a.Close()
		run(b, func(batch []byte) error { return a.Add(ctx, batch) })
	})
}

// BenchmarkCall is the cost of a call that does next to nothing.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct{ name, path, function, arg string }{
		{"c-echo", "testdata/hostile.wasm", "pure", "=x"},
		{"go-square", guests + "go/square.wasm", "square", "5"},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := example(b, c.function, moduleFile(b, c.path))
			arg := []byte(c.arg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.CallPure(ctx, f.Codec(), arg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCompile is what a node pays for a module that it meets for the first time.
func BenchmarkCompile(b *testing.B) {
	r := newRuntime(b, Options{})
	for b.Loop() {
		f, err := r.Compile(ctx, flights.FunctionName, flights.Module)
		require.NoError(b, err)
		f.Close()
	}
}
