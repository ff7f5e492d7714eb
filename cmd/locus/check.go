package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// checkFlags are the check command's flags.
type checkFlags struct {
	check.Options
	nemesis []string
	verbose bool
}

func (s *shell) checkCommand() *cobra.Command {
	var o checkFlags
	c := &cobra.Command{
		Use: "check", Short: "Hurt a cluster of real processes under load, and judge what its clients were told",
		Long: `Start nodes as processes on this machine, let clients write, read, compare and swap and call functions, and hurt
the nodes meanwhile: kill them (SIGKILL), pause them (SIGSTOP), cut, slow down and lose what they say to each other while
clients reach them all, move leases and split ranges. Then heal everything, and judge:

- registers are linearizable, counters exact (calls in optimistic mode among them), and no acknowledged key is missing
- snapshots of all ranges have exactly the writes at or below their timestamp, are fresh, and stay as they were
- timestamps agree with real time on each key, and with each client's order over all keys
- all replicas are equal
- every range takes writes again after each fault

The status is 0 if all of it holds. Otherwise it is 1, and the history that can't be is written to a file, beside the
nodes' logs and data. A seed repeats the choice of faults, not what the processes do between them.

Partitions need every address of 127.0.0.0/8 to be this machine's, as it is on Linux; elsewhere leave them out.`,
		Example: "  locus check\n  locus check --time 10m --nemesis partition,kill --verbose\n  locus check --nodes 5 --clients 16 --seed 42 --output json",
		Args:    exactly(0),
	}
	var all []string
	for _, f := range check.Faults() {
		all = append(all, string(f))
	}
	d := check.Options{}.WithDefaults()
	f := c.Flags()
	f.DurationVar(&o.Time, "time", d.Time, "how long clients work and faults happen; up to 1h")
	f.StringSliceVar(&o.nemesis, "nemesis", all, "faults to make, or none")
	f.IntVar(&o.Clients, "clients", d.Clients, "clients, each with six operations under way")
	f.IntVar(&o.Nodes, "nodes", d.Nodes, "nodes to start")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the choice of faults; 0 a new one")
	f.BoolVar(&o.Keep, "keep", false, "keep logs and data, and say where, even if nothing is wrong")
	f.BoolVar(&o.verbose, "verbose", false, "print each fault when it is over")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.settle(); err != nil {
			return err
		}
		return cleanly(cmd.Context(), func(ctx context.Context) error { return s.check(ctx, o) })
	}
	return c
}

// settle completes the options from the flags.
func (o *checkFlags) settle() (err error) {
	o.Faults = []check.Fault{}
	for _, f := range o.nemesis {
		if f != "none" && !slices.Contains(o.Faults, check.Fault(f)) {
			o.Faults = append(o.Faults, check.Fault(f))
		}
	}
	for name, n := range map[string]int64{"time": int64(o.Time), "clients": int64(o.Clients), "nodes": int64(o.Nodes)} {
		if n == 0 { // which would be the default
			return fmt.Errorf("--%s must not be 0", name)
		}
	}
	if o.Seed == 0 {
		o.Seed = 1 + rand.Uint64N(1<<32) // short enough to type
	}
	if o.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this binary: %w", err)
	}
	return o.Validate()
}

func (s *shell) check(ctx context.Context, o checkFlags) error {
	var step *progress.Step
	if o.verbose {
		fmt.Fprintln(s.err, check.Heading)
		o.Tell = func(line string) { fmt.Fprintln(s.err, line) }
	} else {
		step = s.progress().Step("seconds of faults", int64(o.Time/time.Second), progress.Things)
		defer step.Done()
		ticking, stop := context.WithCancel(ctx)
		defer stop()
		o.Started = func() { go tick(ticking, step, int64(o.Time/time.Second)) }
	}
	sum, err := check.Run(ctx, o.Options)
	if step != nil {
		step.Done()
	}
	var v *check.Violation
	wrong := errors.As(err, &v)
	switch {
	case ctx.Err() != nil, err != nil && sum.Took == 0:
		return err
	case s.json():
		out := checkJSON{Summary: sum, OK: err == nil}
		if err != nil {
			out.Error = failure(err)
		}
		if wrong {
			out.Violation, out.History = true, v.Files
		}
		if err := output.JSON(s.out, out); err != nil {
			return err
		}
	default:
		printCheck(s.out, sum, err == nil)
	}
	if wrong && len(v.Files) > 0 {
		return fmt.Errorf("violation: %w (history: %s)", err, strings.Join(v.Files, ", "))
	}
	return err
}

// tick counts seconds.
func tick(ctx context.Context, step *progress.Step, total int64) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for n := int64(1); n <= total; n++ {
		select {
		case <-t.C:
			step.Set(n)
		case <-ctx.Done():
			return
		}
	}
}

// checkJSON is a summary for a machine.
type checkJSON struct {
	OK bool `json:"ok"`
	check.Summary
	Violation bool     `json:"violation"`
	Error     string   `json:"error,omitempty"`
	History   []string `json:"history,omitempty"`
}

// printCheck prints a summary for people.
func printCheck(w io.Writer, s check.Summary, ok bool) {
	o := s.Operations
	var faults []string
	for _, f := range check.Faults() {
		if n := s.Faults[f]; n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", n, f))
		}
	}
	if len(faults) == 0 {
		faults = []string{"none"}
	}
	fmt.Fprintf(w, "%d nodes, %d clients, %s, seed %d\n", s.Nodes, s.Clients, s.Took.Round(100*time.Millisecond), s.Seed)
	fmt.Fprintf(w, "acknowledged   %s unique keys, %s counter calls (%s optimistic), %s writes of registers, %s reads\n",
		output.Count(int64(o.Keys)), output.Count(int64(o.Calls)), output.Count(int64(o.Optimistic)), output.Count(int64(o.Writes)), output.Count(o.Reads))
	fmt.Fprintf(w, "snapshots      %s fresh ones of all ranges, and %s read again\n", output.Count(int64(o.Snapshots)), output.Count(int64(o.Again)))
	fmt.Fprintf(w, "otherwise      %s comparisons did not hold, %s outcomes unknown, %s refused\n",
		output.Count(int64(o.Conflicts)), output.Count(int64(o.Ambiguous)), output.Count(int64(o.Refused)))
	fmt.Fprintf(w, "faults         %s\n", strings.Join(faults, ", "))
	fmt.Fprintf(w, "longest pause  %s without a write to one of the ranges\n", s.LongestPause.Round(time.Millisecond))
	if s.Dir != "" {
		fmt.Fprintf(w, "logs and data  %s\n", s.Dir)
	}
	if ok {
		fmt.Fprintf(w, "nothing wrong: %s operations on %s registers, %s timestamps in order, equal replicas\n",
			output.Count(int64(s.Verdict.Operations)), output.Count(int64(s.Verdict.Registers)), output.Count(int64(s.Verdict.Timestamps)))
	}
}
