package functions

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster/clustertest"
	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/examples/flights/delays"
	"github.com/locuskv/locus/udf/guestcache"
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

func TestOptions(t *testing.T) {
	require.NoError(t, Defaults().Validate())
	require.NoError(t, Quickly().Validate())
	for want, change := range map[string]func(*Options){
		"--records 999":     func(o *Options) { o.Records = 999 },
		"--rounds 0":        func(o *Options) { o.Rounds = 0 },
		"--duration 1ms":    func(o *Options) { o.Duration = time.Millisecond },
		"--limit 0s":        func(o *Options) { o.Limit = 0 },
		`--rows: "x" is no`: func(o *Options) { o.Rows = []string{"json", "x"} },
	} {
		o := Defaults()
		change(&o)
		require.ErrorContains(t, o.Validate(), want)
	}
}

// TestInterleave: every contender has a turn in every round, each round begins with another one, and the row has the medians.
func TestInterleave(t *testing.T) {
	var order []string
	contend := func(name string, values ...float64) *contender {
		return &contender{name: name, unit: "ms", turn: func(context.Context) (float64, error) {
			order = append(order, name)
			v := values[0]
			values = values[1:]
			return v, nil
		}}
	}
	var row Row
	a, b := contend("a", 3, 1, 2), contend("b", 40, 10, 20)
	require.NoError(t, interleave(t.Context(), &row, 3, a, b))
	require.Equal(t, []string{"a", "b", "b", "a", "a", "b"}, order)
	require.Equal(t, Series{Median: 2, Min: 1, Max: 3, Samples: []float64{3, 1, 2}}, row.Contenders[0].Series)
	require.InEpsilon(t, 20, row.Contenders[1].Median, 1e-9)

	row.aim("", "b, times a", "x", times(b.median(), a.median()), 10, false)
	row.aim("", "a", "ms", a.median(), 2, true)
	row.aim("", "a", "ms", a.median(), 1.9, true)
	require.Equal(t, []bool{true, true, false}, []bool{row.Aims[0].Met, row.Aims[1].Met, row.Aims[2].Met})
	require.Zero(t, times(1, 0))
	require.InEpsilon(t, 2.5, median([]float64{4, 1, 2, 3}), 1e-9)

	failing := &contender{name: "c", turn: func(context.Context) (float64, error) { return 0, errors.New("no") }}
	require.EqualError(t, interleave(t.Context(), &row, 1, failing), "c: no")
}

// TestFlightsAgain: more flights than are bundled are the bundled ones again; a file of one's own has to have enough.
func TestFlightsAgain(t *testing.T) {
	o := Defaults()
	o.Records = 100_003
	var all []flights.Record
	require.NoError(t, o.flights(t.Context(), func(r flights.Record) error {
		all = append(all, r)
		return nil
	}))
	require.Len(t, all, o.Records)
	require.Equal(t, all[:3], all[100_000:])

	o.Flights = t.TempDir() + "/few.csv"
	require.NoError(t, os.WriteFile(o.Flights, []byte("date,delay,distance,origin,destination\n2001-01-01T00:01,1,2,LAS,PHL\n"), 0o600))
	require.ErrorContains(t, o.flights(t.Context(), func(flights.Record) error { return nil }), "has only 1 flights of --records 100003")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	o = Defaults()
	require.ErrorIs(t, o.flights(ended, func(flights.Record) error { return nil }), context.Canceled)
}

// TestSplits: parts of about as many flights, whatever their origins are called.
func TestSplits(t *testing.T) {
	at, err := splits(manyRanges)
	require.NoError(t, err)
	require.Len(t, at, manyRanges-1)
	count := make([]int, manyRanges)
	o := Defaults()
	o.Records = 100_000
	var numbers flights.Numberer
	require.NoError(t, o.flights(t.Context(), func(r flights.Record) error {
		key := string(numbers.Key(r))
		part := 0
		for part < len(at) && key >= string(at[part]) {
			part++
		}
		count[part]++
		return nil
	}))
	require.Greater(t, slices.Min(count), 100_000/manyRanges/3, count)
	require.Less(t, slices.Max(count), 100_000/manyRanges*2, count)
}

func TestSameAnswer(t *testing.T) {
	want := []flights.Airport{{Origin: "LAS", Flights: 3, MeanDelay: 1.5, P95: 200}}
	require.NoError(t, sameAnswer(slices.Clone(want), want, false))
	require.ErrorContains(t, sameAnswer(nil, want, false), "0 origins instead of 1")
	for _, wrong := range []flights.Airport{
		{Origin: "PHL", Flights: 3, MeanDelay: 1.5, P95: 200}, {Origin: "LAS", Flights: 4, MeanDelay: 1.5, P95: 200},
		{Origin: "LAS", Flights: 3, MeanDelay: 1.6, P95: 200}, {Origin: "LAS", Flights: 3, MeanDelay: 1.5, P95: 205},
	} {
		require.ErrorContains(t, sameAnswer([]flights.Airport{wrong}, want, false), "a wrong answer")
	}
	want[0].P95 = 100
	near := []flights.Airport{{Origin: "LAS", Flights: 3, MeanDelay: 1.5, P95: 102}}
	require.NoError(t, sameAnswer(near, want, true))
	near[0].P95++
	require.Error(t, sameAnswer(near, want, true))
}

// TestLayouts: both layouts come to the same.
func TestLayouts(t *testing.T) {
	var sums [2]delays.Accumulator
	o := Quickly()
	var numbers flights.Numberer
	require.NoError(t, o.flights(t.Context(), func(r flights.Record) error {
		key := numbers.Key(r)
		for i, l := range layouts {
			if err := l.add(&sums[i], key, l.value(r)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NotEmpty(t, sums[0].Airports())
	require.Equal(t, sums[0].Airports(), sums[1].Airports())
	require.Error(t, native.AddFixed(&sums[0], []byte("LAS/1"), []byte("short")))
}

func TestReadMeasured(t *testing.T) {
	const head = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n"
	m, err := readMeasured(head + `"EVAL return "a","b"","47169.81","0.532","0.080","0.519","0.767","1.303","1.495"` + "\n")
	require.NoError(t, err)
	require.Equal(t, measured{47169.81, 0.532}, m)
	for _, bad := range []string{"", "ERR no", head, head + `"x","1"`, head + `"x","y","0.5","0","0","0","0","0"`, "\"test\",\"p50\"\n\"x\",\"1\""} {
		_, err := readMeasured(bad)
		require.Error(t, err, bad)
	}
}

func TestHasFunctions(t *testing.T) {
	for version, want := range map[string]bool{"7.0.15": true, "10.1": true, "8": true, "6.2.14": false, "": false, "x": false} {
		require.Equal(t, want, hasFunctions(version), version)
	}
}

// TestDelay: everything arrives, in order, not sooner than it may; and the end of either side reaches the other.
func TestDelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	echoed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			_ = c.Close()
		}
		echoed <- err
	}()
	c, err := dialDelayed(t.Context(), l.Addr().String())
	require.NoError(t, err)
	begun := time.Now()
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begun), 2*oneWay)

	sent := make([]byte, 40*relayed+17)
	for i := range sent {
		sent[i] = byte(i * i >> 8)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.NoError(t, <-wrote)
	require.Equal(t, sent, got)
	require.NoError(t, c.Close())
	<-echoed // the node's end has seen it
	_, err = dialDelayed(t.Context(), "127.0.0.1:1")
	require.Error(t, err)
}

func TestSumBatches(t *testing.T) {
	var got native.Total
	batches := sumBatches(2000)
	require.Greater(t, len(batches), 2)
	for _, b := range batches {
		require.LessOrEqual(t, len(b), batchBytes)
		sumBatch(&got, b)
	}
	require.Equal(t, sumOf(0, 2000), got)
}

// TestRun measures every row with little of everything on real processes, and leaves nothing.
func TestRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("starts processes, for half a minute")
	}
	o := Quickly()
	o.Binary, o.Parent, o.CompiledDir = clustertest.Binary(t), t.TempDir(), guestcache.Dir()
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.NotEmpty(t, r.Version)
	require.NotEmpty(t, r.Redis)
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Name)
		require.Empty(t, row.Failed)
		require.NotEmpty(t, row.Contenders)
		for _, c := range row.Contenders {
			require.Len(t, c.Samples, o.Rounds, c.Name)
			require.Positive(t, c.Median, c.Name)
		}
		if row.Name == "json" {
			require.Len(t, row.Notes, 1)
			require.Regexp(t, `^warm: the scan caches handed out [1-9]\d* blocks, and missed \d+$`, row.Notes[0])
		}
		for _, a := range row.Aims {
			require.Positive(t, a.Got, a.What)
			require.Equal(t, a.AtMost && a.Got <= a.Want || !a.AtMost && a.Got >= a.Want, a.Met, a.What)
		}
	}
	require.Equal(t, Names(), names)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	var again Report
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, r.Rows, again.Rows)
	left, err := os.ReadDir(o.Parent)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestLimit: what there is no time for is missing, and said to be.
func TestLimit(t *testing.T) {
	o := Quickly()
	o.Binary, o.Parent, o.Limit = "/nonexistent", t.TempDir(), time.Nanosecond
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, r.Rows, len(Names()))
	for _, row := range r.Rows {
		require.Empty(t, row.Contenders)
		require.NotEmpty(t, row.Skipped)
		require.Contains(t, row.Skipped[0], "--limit")
	}
	left, err := os.ReadDir(o.Parent)
	require.NoError(t, err)
	require.Empty(t, left)

	o.Limit = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Run(ctx, o)
	require.ErrorIs(t, err, context.Canceled, "who interrupts it wants no report")
}
