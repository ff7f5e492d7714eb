package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	loadgen "github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/sidebyside"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) benchPeers() *cobra.Command {
	var (
		clients int
		rows    string
		o       = sidebyside.Options{
			Rounds: 5, Duration: 6 * time.Second, Warmup: 2 * time.Second, Keys: 1_000_000, ValueSize: 128, Ranges: []int{1, 12},
		}
	)
	c := &cobra.Command{
		Use: "peers", Short: "Measure Locus and etcd side by side on this machine",
		Long: `Measure Locus and etcd side by side on this machine: start three nodes of each on loopback with their data in one
temporary directory, load the same keys into both, and measure them in turns, --rounds times each row, so that
drift of the machine hits both. Takes less than 20 minutes with the defaults.

Each number is the median of the rounds, with the lowest and highest for the rates. The store that is not
measured stays up, idle; each turn waits until all nodes are quiet. docs/benchmarks.md says more.

etcd's server is not part of this binary: a helper is built from the source of Locus that the working directory
lies in, or given with --peers-bin. Nothing stays behind, neither process nor file.`,
		Example: "  locus bench peers\n  locus bench peers --rounds 1 --duration 3s --warmup 1s --keys 20000\n" +
			"  locus bench peers --ranges 12 --rows put/256,ycsb-a/64 --output json",
		Args: exactly(0),
	}
	f := c.Flags()
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often each row is measured")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long a store is measured at a time")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "how long it is worked on before, unmeasured")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are loaded and chosen from")
	f.IntVar(&o.ValueSize, "value-size", o.ValueSize, "length of a value in bytes")
	f.IntVar(&clients, "clients", 256, "clients of the busy rows; the mix has a quarter")
	f.IntSliceVar(&o.Ranges, "ranges", o.Ranges, "numbers of ranges that Locus has its keys in; each is measured for itself")
	f.StringVar(&rows, "rows", "", "rows instead of the usual ones, WORKLOAD/CLIENTS,...")
	f.StringVar(&o.Parent, "dir", "", "where the temporary directory is made; its disk is measured (default: the system's)")
	f.StringVar(&o.Helper, "peers-bin", "", "built helper for etcd; default: built from the folder's source of Locus")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		o.Rows = sidebyside.DefaultRows(clients)
		if rows != "" {
			if o.Rows, err = sidebyside.ParseRows(rows); err != nil {
				return err
			}
		}
		if err := o.Validate(); err != nil {
			return err
		}
		return s.comparePeers(cmd.Context(), o)
	}
	return c
}

func (s *shell) comparePeers(ctx context.Context, o sidebyside.Options) (err error) {
	if o.Locus, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this binary: %w", err)
	}
	for _, path := range []*string{&o.Helper, &o.Parent} { // children have another working directory
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return s.telling(ctx, func(ctx context.Context, tell func(string)) error {
		o.Tell = tell
		o.Tell(fmt.Sprintf("%d turns of %s and %s of warm-up: about %s, and the loading", o.Turns(), o.Duration, o.Warmup,
			(time.Duration(o.Turns()) * (o.Duration + o.Warmup + turnTime)).Round(time.Second)))
		c, err := sidebyside.Run(ctx, o)
		if err != nil {
			return err
		}
		if s.json() {
			return output.JSON(s.out, c)
		}
		return s.printComparison(c)
	})
}

// turnTime is about what a turn takes besides its duration and warm-up: the nodes become quiet, a process starts.
const turnTime = 700 * time.Millisecond

func (s *shell) printComparison(c *sidebyside.Comparison) error {
	var b strings.Builder
	fmt.Fprintf(&b, "locus %s: %s\netcd %s: %s\n", c.Locus.Version, c.Locus.Durability, c.Etcd.Version, c.Etcd.Durability)
	if c.InMemory {
		fmt.Fprintln(&b, "NB: the data lay in memory, where fsync costs nothing; --dir takes a directory on a disk")
	}
	fmt.Fprintf(&b, "%s, %d CPUs, for three nodes of each and the clients; began %s, took %s\n", c.System, c.CPUs,
		c.Begun.Format(time.RFC3339), seconds(c.Took))
	fmt.Fprintf(&b, "%s of %s in turns, each after %s of warm-up; %s keys, values of %s\n\n", plural(c.Rounds, "round"), seconds(c.Duration),
		seconds(c.Warmup), output.Count(c.Keys), output.Bytes(c.ValueSize))
	for _, t := range []*output.Table{rateTable(c), loadTable(c), nodeTable(c)} {
		if err := t.Write(&b, ""); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	for _, line := range cacheLines(c) {
		b.WriteString(line + "\n")
	}
	for _, l := range c.Leases {
		fmt.Fprintf(&b, "leaseholders in the end, %s: %v on the three nodes\n", plural(l.Ranges, "range"), l.ByStore)
	}
	for _, line := range comparisonErrors(c) {
		b.WriteString(line + "\n")
	}
	_, err := s.out.Write([]byte(b.String()))
	return err
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func rateTable(c *sidebyside.Comparison) *output.Table {
	t := output.NewTable("", ">ranges", ">locus ops/s", ">(min–max)", ">etcd ops/s", ">(min–max)", ">ratio",
		">p50 locus", ">etcd", ">p99 locus", ">etcd")
	count := func(rate float64) string { return output.Count(int64(rate + 0.5)) }
	spread := func(x sidebyside.Side) string { return fmt.Sprintf("(%s–%s)", count(x.RateMin), count(x.RateMax)) }
	d := func(m loadgen.Micros) string { return output.Duration(m.Duration()) }
	for _, r := range c.Rows {
		ratio := "-"
		if r.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		t.Row(r.Name, fmt.Sprint(r.Ranges), count(r.Locus.Rate), spread(r.Locus), count(r.Etcd.Rate), spread(r.Etcd), ratio,
			d(r.Locus.P50), d(r.Etcd.P50), d(r.Locus.P99), d(r.Etcd.P99))
	}
	return t
}

func loadTable(c *sidebyside.Comparison) *output.Table {
	t := output.NewTable("loading", ">ranges", ">keys/s", ">took")
	for _, l := range c.Loads {
		ranges := "-"
		if l.Ranges > 0 {
			ranges = fmt.Sprint(l.Ranges)
		}
		t.Row(l.Store, ranges, output.Count(int64(l.Rate)), seconds(l.Seconds))
	}
	return t
}

func nodeTable(c *sidebyside.Comparison) *output.Table {
	t := output.NewTable("three nodes together", ">RssAnon idle", ">loaded", ">in the end", ">CPUs idle")
	for _, x := range []struct {
		name  string
		store sidebyside.Store
	}{{"locus", c.Locus}, {"etcd", c.Etcd}} {
		if x.store.Idle == 0 {
			t.Row(x.name, "-", "-", "-", "-")
			continue
		}
		t.Row(x.name, output.Bytes(x.store.Idle), output.Bytes(x.store.Loaded), output.Bytes(x.store.End), fmt.Sprintf("%.2f", x.store.IdleCPUs))
	}
	return t
}

// cacheLines tell what share of the reads Locus's row caches answered, where there were reads.
func cacheLines(c *sidebyside.Comparison) []string {
	var out []string
	for _, r := range c.Rows {
		if rate := r.Locus.RowCache; rate != nil && r.Workload != "counter" {
			out = append(out, fmt.Sprintf("row caches of locus, %s, %s: %.1f%% of the reads", r.Name, plural(r.Ranges, "range"), 100**rate))
		}
	}
	return out
}

// comparisonErrors are all errors of all turns, warm-up included, also that there were none.
func comparisonErrors(c *sidebyside.Comparison) []string {
	var out []string
	told := make(map[string]bool) // rows that differ in the ranges share etcd's
	for _, r := range c.Rows {
		name := fmt.Sprintf(" of locus, %s, %s", r.Name, plural(r.Ranges, "range"))
		out = append(out, failedLines(name, r.Locus.Failed)...)
		if !told[r.Name] {
			out = append(out, failedLines(" of etcd, "+r.Name, r.Etcd.Failed)...)
		}
		told[r.Name] = true
	}
	if len(out) == 0 {
		out = append(out, "errors: none")
	}
	return out
}
