package flights_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/examples/flights"
)

func sampleRecords(t *testing.T) (records []flights.Record) {
	t.Helper()
	r := flights.Sample()
	defer r.Close()
	require.NoError(t, flights.Read(r, func(r flights.Record) error {
		records = append(records, r)
		return nil
	}))
	return records
}

func TestSample(t *testing.T) {
	records := sampleRecords(t)
	require.Len(t, records, 100_000)
	require.Equal(t, flights.Record{Date: "2001-01-01T00:01", Delay: 33, Distance: 2176, Origin: "LAS", Destination: "PHL"}, records[0])
	days := make(map[string]int)
	for _, r := range records {
		days[r.Date[:10]]++
	}
	require.Len(t, days, 181, "every day of the half year")

	var n flights.Numberer
	keys := make(map[string]bool)
	for _, r := range records {
		key := string(n.Key(r))
		require.False(t, keys[key], "key %s twice", key)
		keys[key] = true
	}
	require.True(t, keys["LAS/2001-01-01/0001"])
}

// TestAccumulator compares with a computation that is as plain as can be.
func TestAccumulator(t *testing.T) {
	var acc flights.Accumulator
	var n flights.Numberer
	delays := make(map[string][]int)
	for _, r := range sampleRecords(t) {
		require.NoError(t, acc.Add(n.Key(r), flights.Value(r)))
		delays[r.Origin] = append(delays[r.Origin], r.Delay)
	}
	var want []flights.Airport
	for origin, d := range delays {
		slices.Sort(d)
		sum, late := 0, 0
		for _, x := range d {
			sum += x
			if x > 15 {
				late++
			}
		}
		rank := (95*len(d) + 99) / 100 // nearest rank: the ceiling of 95% of n
		want = append(want, flights.Airport{
			Origin: origin, Flights: int64(len(d)), MeanDelay: float64(sum) / float64(len(d)),
			DelayedShare: float64(late) / float64(len(d)), P95: d[rank-1],
		})
	}
	slices.SortFunc(want, func(a, b flights.Airport) int { return strings.Compare(a.Origin, b.Origin) })
	require.Equal(t, want, acc.Airports())
}

func TestNumbererAndValue(t *testing.T) {
	var n flights.Numberer
	r := flights.Record{Date: "2001-01-01T00:01", Delay: -3, Distance: 7, Origin: "LAS", Destination: `P"H`}
	require.Equal(t, "LAS/2001-01-01/0001", string(n.Key(r)))
	require.Equal(t, "LAS/2001-01-01/0002", string(n.Key(r)))
	r.Origin = "PHL"
	require.Equal(t, "PHL/2001-01-01/0001", string(n.Key(r)))
	for range 9998 {
		n.Key(r)
	}
	require.Equal(t, "PHL/2001-01-01/10000", string(n.Key(r)))
	require.Equal(t, `{"date":"2001-01-01T00:01","delay":-3,"distance":7,"origin":"PHL","destination":"P\"H"}`, string(flights.Value(r)))
}

func TestTop(t *testing.T) {
	a := []flights.Airport{
		{Origin: "B", Flights: 100, MeanDelay: 5}, {Origin: "C", Flights: 99, MeanDelay: 50},
		{Origin: "A", Flights: 100, MeanDelay: 5}, {Origin: "D", Flights: 1000, MeanDelay: 7},
	}
	var codes []string
	for _, x := range flights.Top(a, 10, 100) {
		codes = append(codes, x.Origin)
	}
	require.Equal(t, []string{"D", "A", "B"}, codes)
	require.Len(t, flights.Top(a, 2, 0), 2)
	require.Equal(t, "B", a[0].Origin, "Top leaves its argument as it is")
}

func TestRead(t *testing.T) {
	read := func(text string) (records []flights.Record, err error) {
		err = flights.Read(strings.NewReader(text), func(r flights.Record) error {
			records = append(records, r)
			return nil
		})
		return records, err
	}
	got, err := read("x,destination,origin,distance,delay,date\n?,PHL,LAS,2176,33,2001-01-01T00:01\n")
	require.NoError(t, err)
	require.Equal(t, []flights.Record{{Date: "2001-01-01T00:01", Delay: 33, Distance: 2176, Origin: "LAS", Destination: "PHL"}}, got)

	const header = "date,delay,distance,origin,destination\n"
	for text, want := range map[string]string{
		"":                           "read the header: EOF",
		"date,delay\n":               `the header "date,delay" has no column "distance"`,
		header + "d,late,1,A,B\n":    `line 2: delay "late" is not a whole number`,
		header + "d,1,far,A,B\n":     `line 2: distance "far" is not a whole number`,
		header + "d,1,1,A,B\nd,1\n":  "read a row: record on line 3: wrong number of fields",
		"\x1f\x8bgarbage not gzip..": "open the gzipped file",
	} {
		_, err := read(text)
		require.ErrorContains(t, err, want, "%q", text)
	}
	cut, err := io.ReadAll(flights.Sample())
	require.NoError(t, err)
	require.ErrorIs(t, flights.Read(bytes.NewReader(cut[:len(cut)/2]), func(flights.Record) error { return nil }), io.ErrUnexpectedEOF)

	stop := errors.New("stop")
	require.Equal(t, stop, flights.Read(flights.Sample(), func(flights.Record) error { return stop }))
}

func ExampleTop() {
	var acc flights.Accumulator
	var n flights.Numberer
	err := flights.Read(flights.Sample(), func(r flights.Record) error { return acc.Add(n.Key(r), flights.Value(r)) })
	if err != nil {
		fmt.Println(err)
	}
	for _, a := range flights.Top(acc.Airports(), 2, 100) {
		b, _ := json.Marshal(a)
		fmt.Println(string(b))
	}
	// Output:
	// {"origin":"DEN","flights":2253,"mean_delay":12.13936972924989,"delayed_share":0.24900133155792276,"p95":86}
	// {"origin":"JFK","flights":1066,"mean_delay":11.50562851782364,"delayed_share":0.2926829268292683,"p95":85}
}
