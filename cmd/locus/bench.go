package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8/cwriter"

	loadgen "github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/children"
	"github.com/locuskv/locus/bench/load/sidebyside"
)

func (s *shell) benchCommand() *cobra.Command {
	return noun("bench", "Load keys, measure, compare with etcd, and see what functions are worth and idle ranges cost",
		"  locus bench load --keys 100000\n  locus bench run --workload mix --clients 64\n  locus bench peers",
		s.benchLoad(), s.benchRun(), s.benchPeers(), s.benchFunctions(), s.benchIdle())
}

// The stores that the load generator drives.
const (
	targetLocus = "locus"
	targetEtcd  = "etcd"
)

// benchTarget are the flags that choose a store.
type benchTarget struct {
	name   string
	helper string // path of a built bench/peers; empty: built when it is needed
}

func (t *benchTarget) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.name, "target", targetLocus, "store to work on: locus or etcd")
	c.Flags().StringVar(&t.helper, "peers-bin", "", "built helper for etcd; default: built from the folder's source of Locus")
}

func (t *benchTarget) validate() error {
	if t.name != targetLocus && t.name != targetEtcd {
		return fmt.Errorf("--target %q is neither locus nor etcd", t.name)
	}
	return nil
}

// goFlags adds flags of the load generator to a command.
func goFlags(c *cobra.Command, define func(*flag.FlagSet)) {
	f := flag.NewFlagSet("", flag.ContinueOnError)
	define(f)
	c.Flags().AddGoFlagSet(f)
}

// etcdAddrs are the servers of etcd: LOCUS_ADDR and the default of --addr are about Locus.
func (s *shell) etcdAddrs(cmd *cobra.Command) []string {
	if cmd.Flags().Changed("addr") {
		return s.addrs
	}
	return []string{"127.0.0.1:2379"}
}

// onEtcd runs the helper, and returns its report.
func (s *shell) onEtcd(cmd *cobra.Command, t benchTarget, verb string, args []string) (out []byte, err error) {
	err = cleanly(cmd.Context(), func(ctx context.Context) (err error) {
		g, err := children.NewGroup("", "locus-bench-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.Close()) }()
		path := t.helper
		if path == "" {
			if path, err = sidebyside.BuildHelper(ctx, g, io.Discard); err != nil {
				return err
			}
		}
		timeout := s.timeout
		if timeout == 0 {
			timeout = never
		}
		line := s.live()
		defer line.done()
		all := slices.Concat([]string{
			verb, "--addr=" + strings.Join(s.etcdAddrs(cmd), ","), "--timeout=" + timeout.String(), fmt.Sprintf("--live=%t", line.on),
		}, args)
		out, err = g.Run(ctx, children.Spec{Name: "etcd", Path: path, Args: all}, line)
		return err
	})
	return out, err
}

// liveLine is one line on the terminal that is written anew.
type liveLine struct {
	w    io.Writer
	on   bool
	once sync.Once
}

// live makes the line; where the error stream is no terminal, it stays silent.
func (s *shell) live() *liveLine {
	f, ok := s.err.(*os.File)
	return &liveLine{w: s.err, on: ok && cwriter.IsTerminal(int(f.Fd()))}
}

// Write shows the last line of what is written.
func (l *liveLine) Write(b []byte) (int, error) {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	l.show(lines[len(lines)-1])
	return len(b), nil
}

func (l *liveLine) show(text string) {
	if l.on {
		// A line that can't be written is no reason to fail the work it tells of.
		_, _ = fmt.Fprintf(l.w, "\r%s\x1b[K", text)
	}
}

// second shows a second of a run.
func (l *liveLine) second(second loadgen.Second) { l.show(second.String()) }

// done removes the line.
func (l *liveLine) done() { l.once.Do(func() { l.show("") }) }

// telling runs f cleanly, and has it say where it is on the error stream, with the time since it began. Who has closed that stream does
// not want to wait for the rest.
func (s *shell) telling(ctx context.Context, f func(ctx context.Context, tell func(text string)) error) error {
	return cleanly(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		begun := time.Now()
		var unheard error
		err := f(ctx, func(text string) {
			if _, err := fmt.Fprintf(s.err, "%6s  %s\n", time.Since(begun).Round(time.Second), text); err != nil && unheard == nil {
				unheard = err
				cancel()
			}
		})
		if err == nil {
			return nil // it was done all the same
		}
		return errors.Join(unheard, err)
	})
}
