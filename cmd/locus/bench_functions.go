package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/bench/functions"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) benchFunctions() *cobra.Command {
	o, quick := functions.Defaults(), functions.Quickly()
	c := &cobra.Command{
		Use: "functions", Short: "Measure functions near the data against pulling it, on this machine",
		Long: `Measure what it is worth to run functions where the data lies: start three nodes on loopback with their data in a
temporary directory, store --records flights in two layouts, and do the same work near the data (native, as WebAssembly
from C and from Go) and by pulling the records. Redis is measured beside it where redis-server, redis-cli and
redis-benchmark are in PATH.

What is compared has its turns one after another in each of --rounds rounds; the table has the medians, the lowest and the
highest. --file takes flights from a CSV file (gzipped or not), of which the first --records are used; without it the bundled
100,000 are used again and again. Each answer is checked. The rows, for --rows:

  ` + strings.Join(functions.Names(), ", ") + `

--quick takes little of everything, to see that it works. Nothing stays behind, neither process nor file.`,
		Example: "  locus bench functions --file flights-3m.csv.gz\n  locus bench functions --rows json,fixed,sum --output json\n  locus bench functions --quick",
		Args:    exactly(0),
	}
	f := c.Flags()
	f.IntVar(&o.Records, "records", o.Records, "how many flights are stored, in each layout")
	f.StringVar(&o.Flights, "file", "", "take the flights from this file (CSV, gzipped or not)")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how many turns each contender has")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long a turn of calls takes; a turn of an aggregate is one run")
	f.DurationVar(&o.Limit, "limit", o.Limit, "end what is not done by then; the report says what is missing")
	f.StringSliceVar(&o.Rows, "rows", nil, "measure these rows only: NAME,...")
	f.BoolVar(&o.Quick, "quick", false, "take little of everything: to see that it works, not for numbers")
	f.StringVar(&o.Parent, "dir", "", "where the temporary directory is made (default: the system's)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Quick {
			for flag, take := range map[string]func(){
				"records": func() { o.Records = quick.Records }, "rounds": func() { o.Rounds = quick.Rounds },
				"duration": func() { o.Duration = quick.Duration },
			} {
				if !f.Changed(flag) {
					take()
				}
			}
		}
		o.CompiledDir = s.getenv(compiledDirVariable)
		if err := o.Validate(); err != nil {
			return err
		}
		return s.measureFunctions(cmd.Context(), o)
	}
	return c
}

func (s *shell) measureFunctions(ctx context.Context, o functions.Options) (err error) {
	if o.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this binary: %w", err)
	}
	if o.Parent != "" { // children have another working directory
		if o.Parent, err = filepath.Abs(o.Parent); err != nil {
			return err
		}
	}
	return s.telling(ctx, func(ctx context.Context, tell func(string)) error {
		o.Tell = tell
		r, err := functions.Run(ctx, o)
		if r == nil {
			return err
		}
		if s.json() {
			return errors.Join(output.JSON(s.out, r), oneLine(err))
		}
		return errors.Join(s.printFunctions(r), oneLine(err))
	})
}

// oneLine joins the lines of errors of several rows: a command that fails says so in one.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

func (s *shell) printFunctions(r *functions.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "locus %s, %s, %d CPUs; began %s, took %s", r.Version, r.System, r.CPUs, r.Begun.Format(time.RFC3339), seconds(r.Seconds))
	if r.LoadBefore != "" {
		fmt.Fprintf(&b, "; load average %s, then %s", r.LoadBefore, r.LoadAfter)
	}
	fmt.Fprintf(&b, "\n%s flights in each layout: %s; Redis: %s; medians of %d rounds\n", output.Count(r.Flights), r.Data, r.Redis, r.Rounds)
	if r.Quick {
		b.WriteString("--quick: these numbers mean nothing\n")
	}
	for _, row := range r.Rows {
		if err := printRow(&b, row); err != nil {
			return err
		}
	}
	_, err := s.out.Write([]byte(b.String()))
	return err
}

func printRow(b *strings.Builder, row *functions.Row) error {
	fmt.Fprintf(b, "\n%s: %s\n", row.Name, row.Title)
	if len(row.Contenders) > 0 {
		t := output.NewTable("", "", ">median", ">lowest", ">highest", "", ">to the client")
		for _, c := range row.Contenders {
			received := ""
			if c.Received > 0 {
				received = output.Bytes(int64(c.Received))
			}
			t.Row(c.State, c.Name, figure(c.Median, c.Unit), figure(c.Min, c.Unit), figure(c.Max, c.Unit), c.Unit, received)
		}
		if err := t.Write(b, "  "); err != nil {
			return err
		}
	}
	if len(row.Aims) > 0 {
		t := output.NewTable("", "aim", ">wanted", ">measured", "")
		for _, a := range row.Aims {
			bound, met := "at least ", "met"
			if a.AtMost {
				bound = "at most "
			}
			if !a.Met {
				met = "missed"
			}
			t.Row(a.State, a.What, bound+figure(a.Want, a.Unit)+" "+a.Unit, figure(a.Got, a.Unit)+" "+a.Unit, met)
		}
		if err := t.Write(b, "  "); err != nil {
			return err
		}
	}
	for _, n := range row.Notes {
		fmt.Fprintf(b, "  %s\n", n)
	}
	for _, n := range row.Skipped {
		fmt.Fprintf(b, "  skipped: %s\n", n)
	}
	if row.Failed != "" {
		fmt.Fprintf(b, "  failed: %s\n", row.Failed)
	}
	return nil
}

// figure is a number with the digits that mean something in its unit.
func figure(v float64, unit string) string {
	switch unit {
	case "ms":
		return fmt.Sprintf("%.2f", v)
	case "x":
		return fmt.Sprintf("%.2f", v)
	}
	return output.Count(int64(v + 0.5))
}
