package sidebyside

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/load"
)

func turnOf(rate float64, p99 load.Micros, bystanders float64) *played {
	r := &load.Report{Durability: "fsync"}
	r.All = load.Operations{Rate: rate, P50: p99 / 10, P99: p99, P999: p99, Max: p99 * 2}
	return &played{report: r, bystanders: bystanders, servers: 1}
}

// TestRows: medians, spreads and ratios are those of the rounds, and rows that differ in the ranges have the
// same etcd.
func TestRows(t *testing.T) {
	locus, etcd := &store{name: "locus"}, &store{name: "etcd"}
	one, twelve, peer := &contestant{locus, "", 1}, &contestant{locus, "", 12}, &contestant{etcd, "", 0}
	row := Row{"put", 256}
	m := &match{
		o: Options{Rows: []Row{row}}, contestants: []*contestant{one, twelve, peer},
		turns: map[turn][]*played{
			{row, one}:    {turnOf(300, 10, 0.1), turnOf(100, 30, 0.3), turnOf(200, 20, 0)},
			{row, twelve}: {turnOf(50, 10, 0), turnOf(70, 10, 0), turnOf(60, 10, 0)},
			{row, peer}:   {turnOf(100, 5, 0), turnOf(90, 5, 0), turnOf(500, 5, 0)},
		},
	}
	failed := m.turns[turn{row, one}][1].report
	failed.Errors = []load.Failed{{Op: load.Put, Kind: "overloaded", Count: 2, Example: "x"}}
	failed.WarmupErrors = []load.Failed{{Op: load.Put, Kind: "overloaded", Count: 3, Example: "y"}}
	failed.Counter = &load.CounterReport{After: 1, Acknowledged: 2}

	rows := m.rows()
	require.Len(t, rows, 2)
	first := rows[0]
	require.Equal(t, 1, first.Ranges)
	require.Equal(t, "puts, 256 clients", first.Name)
	require.Equal(t, []float64{300, 100, 200}, first.Locus.Rates)
	require.Equal(t, []float64{200, 100, 300}, []float64{first.Locus.Rate, first.Locus.RateMin, first.Locus.RateMax})
	require.EqualValues(t, 20, first.Locus.P99)
	require.EqualValues(t, 2, first.Locus.P50)
	require.EqualValues(t, 60, first.Locus.Max)
	require.InEpsilon(t, 0.3, first.Locus.Bystanders, 1e-9)
	require.InEpsilon(t, 2, first.Ratio, 1e-9)
	require.EqualValues(t, 6, first.Locus.Errors, "of the warm-up too, and a wrong counter is one")
	require.Len(t, first.Locus.Failed, 2)
	require.Equal(t, 12, rows[1].Ranges)
	require.Equal(t, first.Etcd, rows[1].Etcd)
	require.InEpsilon(t, 0.6, rows[1].Ratio, 1e-9)
	require.Equal(t, "fsync", m.result.Locus.Durability)
}

func TestMedian(t *testing.T) {
	require.EqualValues(t, 2, median([]float64{3, 1, 2}))
	require.InEpsilon(t, 2.5, median([]float64{4, 1, 2, 3}), 1e-9)
	require.EqualValues(t, 7, median([]float64{7}))
}

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{Rounds: 3, Duration: 1, Keys: 1, Ranges: []int{1, 12}, Rows: DefaultRows(256)}
	}
	o := good()
	require.NoError(t, o.Validate())
	require.Equal(t, 3*6*3, o.Turns())
	for want, change := range map[string]func(*Options){
		"--rounds 0":             func(o *Options) { o.Rounds = 0 },
		"--ranges 0":             func(o *Options) { o.Ranges = []int{1, 0} },
		"--duration":             func(o *Options) { o.Duration = 0 },
		"--keys 0":               func(o *Options) { o.Keys = 0 },
		"--clients 0":            func(o *Options) { o.Rows = DefaultRows(0) },
		`--workload "x"`:         func(o *Options) { o.Rows = []Row{{"x", 1}} },
		"nothing to compare":     func(o *Options) { o.Ranges = nil },
		"nothing to compare: 2 ": func(o *Options) { o.Rows = nil },
	} {
		o := good()
		change(&o)
		require.ErrorContains(t, o.Validate(), want)
	}
}

func TestRowsAreParsed(t *testing.T) {
	rows, err := ParseRows("put/256,ycsb-a/1")
	require.NoError(t, err)
	require.Equal(t, []Row{{"put", 256}, {"ycsb-a", 1}}, rows)
	require.Equal(t, "ycsb-a, 1 client", rows[1].Name())
	for _, bad := range []string{"", "put", "put/", "put/x", "put/1,"} {
		_, err := ParseRows(bad)
		require.ErrorContains(t, err, "WORKLOAD/CLIENTS")
	}
}

func TestCheckout(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "bench", "peers")
	require.NoError(t, os.MkdirAll(inner, 0o700))
	write := func(dir, name string) string {
		path := filepath.Join(dir, "go.mod")
		require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "module %s\n\ngo 1.26\n", name), 0o600))
		return path
	}
	helper := write(inner, "github.com/locuskv/locus/bench/peers")
	_, err := checkout(helper)
	require.ErrorIs(t, err, errNoCheckout)
	top := write(dir, "github.com/locuskv/locus")
	for _, mod := range []string{top, helper} {
		root, err := checkout(mod)
		require.NoError(t, err)
		require.Equal(t, dir, root)
	}
	for _, none := range []string{"", os.DevNull, write(t.TempDir(), "example.com/other")} {
		_, err := checkout(none)
		require.ErrorIs(t, err, errNoCheckout)
	}
}
