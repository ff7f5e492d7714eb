package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"

	loadgen "github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) benchRun() *cobra.Command {
	var (
		t       benchTarget
		o       = loadgen.Defaults()
		profile string
	)
	c := &cobra.Command{
		Use: "run --workload NAME", Short: "Put a cluster under load, and tell how long operations took",
		Long: `Put a cluster under load, and tell how long operations took. "bench load" has to have written the keys.

Workloads: put and get (one kind of operation, keys chosen uniformly), mix (95% get, 5% put), counter (all clients
increment one key: a function on Locus, compare and swap on etcd), and YCSB's core workloads ycsb-a to ycsb-f.

Each client issues an operation when its last one has ended; with --rate, operations fall due at a fixed rate
instead, and their latency counts from then. What is under way at the end is waited for: its latency counts. What
failed is counted by kind, and is in no other number.`,
		Example: "  locus bench run --workload mix --clients 64\n  locus bench run --workload put --rate 5000 --duration 1m\n" +
			"  locus bench run --workload ycsb-a --target etcd --addr 127.0.0.1:2379 --output json",
		Args: exactly(0),
	}
	t.flags(c)
	goFlags(c, o.Flags)
	c.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile of the clients to this `FILE` (Locus only; nodes serve theirs by HTTP)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := t.validate(); err != nil {
			return err
		}
		if err := o.Validate(); err != nil {
			return err
		}
		if t.name == targetEtcd {
			out, err := s.onEtcd(cmd, t, "run", o.Args())
			if err != nil {
				return err
			}
			var r loadgen.Report
			if err := json.Unmarshal(out, &r); err != nil {
				return fmt.Errorf("the helper's report: %w", err)
			}
			return s.printReport(&r)
		}
		return s.long(plain(func(ctx context.Context, db *client.DB) error {
			return profiled(profile, func() error { return s.runLocus(ctx, db, o) })
		}))(cmd, args)
	}
	return c
}

// profiled runs f, and writes a CPU profile of it to the file, if one is named.
func profiled(file string, f func() error) (err error) {
	if file == "" {
		return f()
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

func (s *shell) runLocus(ctx context.Context, db *client.DB, o loadgen.Options) error {
	ks := db.Keyspace(s.keyspace)
	if _, err := ks.Info(ctx); err != nil {
		return err
	}
	before, cached := locusload.ReadCache(ctx, db)
	line := s.live()
	defer line.done()
	r, err := loadgen.Run(ctx, locusload.NewTarget(ks), o, line.second)
	line.done()
	if err != nil {
		return err
	}
	r.Target, r.Durability = targetLocus, locusload.Durability
	if cached {
		after, ok := locusload.ReadCache(ctx, db)
		if rate, some := after.Since(before); ok && some {
			r.RowCacheHitRate = &rate
		}
	}
	return s.printReport(r)
}

func (s *shell) printReport(r *loadgen.Report) error {
	if s.json() {
		return output.JSON(s.out, r)
	}
	var b strings.Builder
	loop := "closed loop"
	if r.Rate > 0 {
		loop = fmt.Sprintf("%s operations due per second", output.Count(int64(r.Rate)))
	}
	fmt.Fprintf(&b, "%s on %s: %s clients, %s, %s keys chosen %s, values of %s; %s measured after %s\n", r.Workload, r.Target,
		output.Count(r.Clients), loop, output.Count(r.Keys), r.Choice, output.Bytes(r.ValueSize), seconds(r.Seconds), seconds(r.Warmup))
	fmt.Fprintf(&b, "durability: %s\n\n", r.Durability)
	if err := operationTable(r).Write(&b, ""); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, line := range reportNotes(r) {
		b.WriteString(line + "\n")
	}
	_, err := s.out.Write([]byte(b.String()))
	return err
}

func seconds(s float64) string { return output.Duration(time.Duration(s * float64(time.Second))) }

func operationTable(r *loadgen.Report) *output.Table {
	t := output.NewTable("", ">ops", ">ops/s", ">mean", ">p50", ">p90", ">p99", ">p99.9", ">max", ">errors")
	row := func(name string, o loadgen.Operations) {
		d := func(m loadgen.Micros) string {
			if o.Max == 0 {
				return "-" // nothing ended
			}
			return output.Duration(m.Duration())
		}
		t.Row(name, output.Count(o.Ops), output.Count(int64(o.Rate)), d(o.Mean), d(o.P50), d(o.P90), d(o.P99), d(o.P999), d(o.Max), output.Count(o.Failed))
	}
	for _, k := range r.Kinds {
		row(string(k.Kind), k)
	}
	if len(r.Kinds) != 1 {
		row("all", r.All)
	}
	return t
}

// reportNotes are what the table does not tell. Errors are always told, also that there were none.
func reportNotes(r *loadgen.Report) []string {
	out := append(failedLines("", r.Errors), failedLines(" in the warm-up", r.WarmupErrors)...)
	if len(out) == 0 {
		out = append(out, "errors: none")
	}
	if r.Unbegun > 0 {
		out = append(out, fmt.Sprintf("too slow for the rate: %s operations fell due that no client had time for", output.Count(r.Unbegun)))
	}
	if r.AttemptsPerIncrement > 0 {
		out = append(out, fmt.Sprintf("attempts per increment: %.2f", r.AttemptsPerIncrement))
	}
	if r.RecordsPerScan > 0 {
		out = append(out, fmt.Sprintf("records per scan: %.1f", r.RecordsPerScan))
	}
	if c := r.Counter; c != nil {
		verdict := "exact"
		if !c.Exact {
			verdict = "WRONG"
		}
		out = append(out, fmt.Sprintf("counter: %s (%s)", verdict, c))
	}
	if r.RowCacheHitRate != nil {
		out = append(out, fmt.Sprintf("row cache: %.1f%% of the reads", 100**r.RowCacheHitRate))
	}
	return out
}

func failedLines(when string, failed []loadgen.Failed) []string {
	var out []string
	for _, f := range failed {
		out = append(out, fmt.Sprintf("errors%s: %s × %s: %s, for example: %s", when, output.Count(f.Count), f.Op, f.Kind, f.Example))
	}
	return out
}
