package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/bench/idle"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) benchIdle() *cobra.Command {
	o := idle.Defaults()
	c := &cobra.Command{
		Use: "idle", Short: "Measure what idle ranges cost on this machine",
		Long: `Measure what idle ranges cost on this machine: start three nodes on loopback with their data in a temporary
directory, make a keyspace in --ranges ranges with a replica on each node, wait until the nodes are quiet, and measure
for --duration what they take of the CPU, and the memory that they hold (RssAnon).

Nothing reads or writes meanwhile. Nothing stays behind, neither process nor file, but the profiles of --profile.`,
		Example: "  locus bench idle\n  locus bench idle --ranges 4000 --duration 1m --output json\n  locus bench idle --profile .",
		Args:    exactly(0),
	}
	f := c.Flags()
	f.IntVar(&o.Ranges, "ranges", o.Ranges, "how many ranges the keyspace has")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long the nodes are measured")
	f.StringVar(&o.Parent, "dir", "", "where the temporary directory is made (default: the system's)")
	f.StringVar(&o.Profile, "profile", "", "directory that gets a CPU profile of each node, taken afterwards")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.Validate(); err != nil {
			return err
		}
		return s.measureIdle(cmd.Context(), o)
	}
	return c
}

func (s *shell) measureIdle(ctx context.Context, o idle.Options) (err error) {
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
		r, err := idle.Run(ctx, o)
		if err != nil {
			return err
		}
		if s.json() {
			return output.JSON(s.out, r)
		}
		return s.printIdle(r)
	})
}

func (s *shell) printIdle(r *idle.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "locus %s, %s, %d CPUs; began %s", r.Version, r.System, r.CPUs, r.Begun.Format(time.RFC3339))
	if r.LoadBefore != "" {
		fmt.Fprintf(&b, "; load average %s, then %s", r.LoadBefore, r.LoadAfter)
	}
	fmt.Fprintf(&b, "\n%s ranges, made in %s, quiet after %s more; measured for %s\n\n", output.Count(r.Ranges), seconds(r.Creating),
		seconds(r.Settling), seconds(r.Seconds))
	t := output.NewTable("node", ">replicas", ">leases", ">RssAnon", ">CPU, % of a core")
	var memory int64
	for _, n := range r.Nodes {
		t.Row(n.Name, output.Count(n.Replicas), output.Count(n.Leases), output.Bytes(n.RSSAnon), fmt.Sprintf("%.2f", n.CPUPercent))
		memory += n.RSSAnon
	}
	t.Row("all", "", "", output.Bytes(memory), fmt.Sprintf("%.2f", r.CPUPercent))
	if err := t.Write(&b, ""); err != nil {
		return err
	}
	_, err := s.out.Write([]byte(b.String()))
	return err
}
