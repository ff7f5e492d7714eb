package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/cmd/locus/internal/demo"
)

func (s *shell) demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use: "demo", Short: "Show it all on real data: three nodes, functions, a crash",
		Long: `Show what Locus does, on this machine, in less than a minute: start three nodes as processes, load 100,000
flights, run a WebAssembly function over them where they lie, compare it with pulling every record, call functions
on keys, kill the node that leads most ranges and start it again.

Nothing stays behind, neither process nor file, unless --keep leaves the cluster running.`,
		Example: "  locus demo\n  locus demo --keep\n  locus demo --file flights-3m.csv.gz",
		Args:    exactly(0),
	}
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave the cluster running, and print how to use and to end it")
	c.Flags().StringVar(&o.File, "file", "", "load this file of flights instead of the bundled sample (CSV, gzipped or not)")
	c.Flags().Int64Var(&o.Rows, "rows", 0, "load at most so many flights; 0 all")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Rows < 0 {
			return fmt.Errorf("--rows %d is negative", o.Rows)
		}
		bin, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this binary: %w", err)
		}
		o.Binary, o.CompiledDir, o.Out, o.Progress = bin, s.getenv(compiledDirVariable), s.out, s.progress()
		return cleanly(cmd.Context(), func(ctx context.Context) error { return demo.Run(ctx, o) })
	}
	return c
}

// cleanly ends f, and all that is of it, on a signal. The signals stay caught until its cleanup is done, so
// that an impatient second Ctrl-C does not leave processes behind.
func cleanly(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// While somebody is to be notified of SIGPIPE, a write to a closed pipe ("locus demo | head") fails
	// instead of ending the process without its cleanup. The signal itself says nothing: it also comes for
	// connections to a node that was killed.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
		}
	}()
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}
