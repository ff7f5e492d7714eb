package operators

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/internal/packed"
)

// batchesOf packs the sample of flights in the order of the keys of each origin: as JSON, and in a fixed layout.
func batchesOf(tb testing.TB, valueOf func(flights.Record) []byte) (batches [][]byte, records int) {
	tb.Helper()
	byKey := sortedFlights(tb)
	var b []byte
	for _, f := range byKey {
		b = packed.Append(b, f.key, valueOf(f.record), 1<<40, 0)
		if len(b) >= 64<<10 {
			batches, b = append(batches, b), nil
		}
	}
	return append(batches, b), len(byKey)
}

// fixedLayout is that of fixedValue.
const fixedLayout = "delay:i16@0,distance:u32@4"

func fixedValue(r flights.Record) []byte {
	b := make([]byte, 8)
	binary.LittleEndian.PutUint16(b, uint16(int16(r.Delay)))
	binary.LittleEndian.PutUint32(b[4:], uint32(r.Distance))
	return b
}

func BenchmarkQuery(b *testing.B) {
	json, n := batchesOf(b, flights.Value)
	fixed, _ := batchesOf(b, fixedValue)
	full := []string{"count()", "mean(delay)", "p95(delay)"}
	origin := []string{"origin"}
	for _, c := range []struct {
		name    string
		q       Query
		batches [][]byte
	}{
		{"count", Query{}, json},
		{"json/count", Query{Key: "origin/date/seq", GroupBy: origin}, json},
		{"json/full", Query{Key: "origin/date/seq", GroupBy: origin, Aggregates: full}, json},
		{"json/where", Query{Key: "origin/date/seq", Where: "delay > 15", GroupBy: origin, Aggregates: full}, json},
		{"json/destination", Query{Where: "distance > 500 and delay > 15", GroupBy: []string{"destination"}, Aggregates: full}, json},
		{"json/topk", Query{Key: "origin/date/seq", GroupBy: origin, Aggregates: []string{"topk(destination, 10)"}}, json},
		{"json/topk many", Query{Aggregates: []string{"topk(key, 10)"}}, json},
		{"fixed/sum", Query{Layout: fixedLayout, Aggregates: []string{"sum(delay)"}}, fixed},
		{"fixed/full", Query{Key: "origin/date/seq", Layout: fixedLayout, GroupBy: origin, Aggregates: full}, fixed},
		{"fixed/where", Query{Key: "origin/date/seq", Layout: fixedLayout, Where: "delay > 15", GroupBy: origin, Aggregates: full}, fixed},
		{"fixed/all", Query{Key: "origin/date/seq", Layout: fixedLayout, GroupBy: origin, Aggregates: []string{"variance(delay)", "min(delay)", "max(delay)", "distinct(distance)"}}, fixed},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, err := newPlan(&c.q)
			if err != nil {
				b.Fatal(err)
			}
			acc := newAccumulator(p)
			// What others do on the machine at the time disturbs a batch of some ten microseconds rarely: the sum of the
			// shortest times of the batches is what the query costs by itself.
			least := make([]time.Duration, len(c.batches))
			b.ReportAllocs()
			for b.Loop() {
				for i, batch := range c.batches {
					began := time.Now()
					if err := acc.Add(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
					if took := time.Since(began); least[i] == 0 || took < least[i] {
						least[i] = took
					}
				}
			}
			sum := time.Duration(0)
			for _, d := range least {
				sum += d
			}
			b.ReportMetric(float64(sum.Nanoseconds())/float64(n), "least-ns/record")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	q := Query{
		Key: "origin/date/seq", Where: "delay > 15 and destination in ['JFK', 'LAX']", GroupBy: []string{"origin"},
		Aggregates: []string{"count()", "mean(delay)", "p95(delay)"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := newPlan(&q); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	batches, _ := batchesOf(b, flights.Value)
	p, err := newPlan(&Query{Key: "origin/date/seq", GroupBy: []string{"origin"}, Aggregates: []string{"count()", "mean(delay)", "p95(delay)"}})
	if err != nil {
		b.Fatal(err)
	}
	acc := newAccumulator(p)
	for _, batch := range batches {
		if err := acc.Add(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	var encoded []byte
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if encoded, err = acc.Encode(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(encoded)), "bytes")
	})
	b.Run("merge", func(b *testing.B) {
		for b.Loop() {
			if err := newAccumulator(p).Merge(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkField finds a field of JSON in the short way and in the general one.
func BenchmarkField(b *testing.B) {
	r := record{value: flights.Value(flights.Record{Date: "2001-01-01T00:01", Delay: 33, Distance: 2176, Origin: "LAS", Destination: "PHL"})}
	for _, name := range []string{"delay", "destination"} {
		short := jsonField([]string{name})
		b.Run(name+"/short", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				short(&r)
			}
		})
		b.Run(name+"/gjson", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lookup(&r, name)
			}
		})
	}
}
