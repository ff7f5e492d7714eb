package operators

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/examples/flights"
)

type flight struct {
	key    []byte
	record flights.Record
}

// sortedFlights is the sample in key order.
func sortedFlights(tb testing.TB) (list []flight) {
	tb.Helper()
	var n flights.Numberer
	r := flights.Sample()
	defer r.Close()
	require.NoError(tb, flights.Read(r, func(f flights.Record) error {
		list = append(list, flight{n.Key(f), f})
		return nil
	}))
	slices.SortFunc(list, func(a, b flight) int { return bytes.Compare(a.key, b.key) })
	return list
}

// answer runs a query over batches in one accumulator.
func answer(t *testing.T, q Query, batches ...[]byte) api.QueryResult {
	t.Helper()
	p, err := newPlan(&q)
	require.NoError(t, err)
	acc := newAccumulator(p)
	for _, b := range batches {
		require.NoError(t, acc.Add(context.Background(), b))
	}
	return resultOf(t, acc)
}

func resultOf(t *testing.T, acc *accumulator) (out api.QueryResult) {
	t.Helper()
	b, err := acc.Result()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &out))
	return out
}

// TestFlights compares with the accumulator of the demonstration, which is exact: as JSON and in a fixed layout.
func TestFlights(t *testing.T) {
	var exact flights.Accumulator
	for _, f := range sortedFlights(t) {
		require.NoError(t, exact.Add(f.key, flights.Value(f.record)))
	}
	airports := exact.Airports()
	for _, form := range []struct {
		layout string
		value  func(flights.Record) []byte
	}{{"", flights.Value}, {fixedLayout, fixedValue}} {
		batches, _ := batchesOf(t, form.value)
		got := answer(t, Query{
			Key: "origin/date:10/seq", Layout: form.layout, GroupBy: []string{"origin"},
			Aggregates: []string{"count(), mean(delay), p95(delay)"},
		}, batches...)
		require.Len(t, got.Rows, len(airports))
		require.EqualValues(t, 100_000, got.Records)
		require.Empty(t, got.Skipped)
		for i, row := range got.Rows {
			want := airports[i]
			var origin string
			var count int64
			var mean, p95 float64
			for j, to := range []any{&origin, &count, &mean, &p95} {
				require.NoError(t, json.Unmarshal(row[j], to))
			}
			require.Equal(t, want.Origin, origin)
			require.Equal(t, want.Flights, count)
			require.Equal(t, want.MeanDelay, mean)
			require.InEpsilon(t, float64(want.P95)+1e-9, p95+1e-9, QuantileError, origin)
		}
		late := answer(t, Query{
			Key: "origin/date:10/seq", Layout: form.layout, Where: "delay > 15", GroupBy: []string{"key[0]"},
		}, batches...)
		for _, row := range late.Rows {
			var origin string
			var count int64
			require.NoError(t, json.Unmarshal(row[0], &origin))
			require.NoError(t, json.Unmarshal(row[1], &count))
			i := slices.IndexFunc(airports, func(a flights.Airport) bool { return a.Origin == origin })
			require.Equal(t, airports[i].DelayedShare, float64(count)/float64(airports[i].Flights))
		}
	}
}
