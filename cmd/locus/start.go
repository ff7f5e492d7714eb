package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	benchnative "github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/cmd/locus/internal/readiness"
	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/server"
	"github.com/locuskv/locus/udf"
)

// compiledDirVariable names where compiled functions are kept, for nodes and for "fn test".
const compiledDirVariable = "LOCUS_COMPILED_DIR"

func (s *shell) startCommand() *cobra.Command {
	var (
		o     server.Options
		level string
		bench bool
	)
	c := &cobra.Command{
		Use: "start", Short: "Run a node",
		Long: `Run a node until it is told to stop.

Without --join, a node with an empty directory begins a cluster of its own. With --join it never does: it asks
the given nodes to take it in. A directory remembers its cluster; the flags may stay the same at every start.

SIGINT or SIGTERM stops the node in order: it hands its leases over and needs no recovery at the next start. A
second signal ends it at once, which loses nothing that was acknowledged either.`,
		Example: "  locus start --insecure\n" +
			"  locus start --insecure --data n2 --listen 127.0.0.1:7401 --join 127.0.0.1:7400\n" +
			"  locus start --listen 10.0.0.5:7400 --join 10.0.0.4:7400 --tls-ca ca.pem --tls-cert n5.pem --tls-key n5.key --gossip-key KEY",
		Args: exactly(0),
	}
	f := c.Flags()
	f.BoolVar(&o.Insecure, "insecure", false, "no TLS and no gossip key; only on loopback")
	f.StringVar(&o.Data, "data", server.DefaultData, "the node's directory; made if missing")
	f.StringVar(&o.CompiledDir, "compiled-dir", "", "where compiled functions are kept; nodes of one machine may share it (default: in --data; LOCUS_COMPILED_DIR)")
	f.StringVar(&o.Listen, "listen", server.DefaultListen, "HOST:PORT for clients and nodes; port 0 takes a free one")
	f.StringVar(&o.Advertise, "advertise", "", "HOST or HOST:PORT at which others reach this node (default: where it listens)")
	f.StringVar(&o.DialFrom, "dial-from", "", "IP address that connections to other nodes come from")
	_ = f.MarkHidden("dial-from") // for tests that cut links between nodes of one machine
	f.StringVar(&o.GossipListen, "gossip-listen", "", "HOST:PORT of membership gossip, TCP and UDP (default: the port of --listen + 10000)")
	f.StringVar(&o.HTTPListen, "http-listen", "", "HOST:PORT on loopback of health checks and metrics (default: the port of --listen + 20000)")
	f.StringSliceVar(&o.Join, "join", nil, "nodes of the cluster to join, HOST:PORT,...")
	f.StringVar(&o.GossipKey, "gossip-key", "", "base64 of 16, 24 or 32 bytes that encrypt gossip (LOCUS_GOSSIP_KEY)")
	f.StringVar(&o.Reads, "reads", "lease", "how reads are confirmed: by lease, which needs clocks of about the same rate, or by index, which asks a quorum")
	f.Uint64Var(&o.MaxRangeBytes, "range-max-bytes", server.DefaultMaxRangeBytes, "bytes of keys and values above which a range is split; the same on all nodes")
	f.Uint64Var(&o.MaxRangeRequests, "range-max-requests", server.DefaultMaxRangeRequests, "requests per second above which a range on a busy node is split; the same on all nodes")
	f.Uint64Var(&o.MinFreeBytes, "min-free-bytes", 0, "bytes of the disk below which ranges with a replica here take no puts (default: the larger of 5% and 1 GiB, but at most 20%)")
	f.Int64Var(&o.ScanCacheBytes, "scan-cache-bytes", 0, "bytes of memory that keep what functions have scanned (default: 256 MiB; below 0 nothing is kept)")
	f.BoolVar(&bench, "bench-functions", false, "offer the native functions of \"locus bench functions\" too")
	_ = f.MarkHidden("bench-functions")
	f.StringVar(&level, "log-level", "warn", "what is logged on standard error: debug, info, warn or error")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		o.TLS = server.TLSFiles{CA: s.tls.ca, Cert: s.tls.cert, Key: s.tls.key}
		if o.GossipKey == "" {
			o.GossipKey = s.getenv("LOCUS_GOSSIP_KEY")
		}
		if o.CompiledDir == "" {
			o.CompiledDir = s.getenv(compiledDirVariable)
		}
		if err := s.equip(&o, level, bench); err != nil {
			return err
		}
		if s.getenv("GOGC") == "" {
			debug.SetGCPercent(nodeGCPercent)
		}
		return s.runNode(cmd.Context(), o)
	}
	return c
}

// nodeGCPercent is how much a node's heap may grow between two collections. Most of the heap are memtables and cached rows,
// whose bytes hold no pointers: they cost the collector nothing and would, at Go's default of 100, be granted as garbage
// once more. Three nodes under puts, 1,000,000 keys: 330 to 990 MB each at 100, 200 to 540 MB at 40, 0.4% of the CPU spent on
// collecting instead of 0.2% (two cores, November 2026).
const nodeGCPercent = 40

// equip gives a node what the flags don't: its functions, its version and its log.
func (s *shell) equip(o *server.Options, level string, bench bool) error {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("--log-level %q is none of debug, info, warn and error", level)
	}
	native := functions.All()
	if bench {
		native = append(native, benchnative.All()...)
	}
	registry, err := udf.NewRegistry(native...)
	if err != nil {
		return err
	}
	o.Functions = registry
	o.Version = version().Version
	o.Logger = slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: min}))
	return nil
}

// errAtOnce ends a node that got a second signal.
var errAtOnce = errors.New("stopped at once by a second signal; the next start recovers")

// runNode runs a node until a signal, or until it can't go on.
func (s *shell) runNode(ctx context.Context, o server.Options) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	// A signal while the node starts, for example while it waits for those it is to join, ends the start.
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := startUnlessSignalled(starting, cancel, signals, o)
	if err != nil {
		return err
	}
	if err := s.announce(node, o); err != nil {
		return errors.Join(err, node.Stop(ctx))
	}
	failed := make(chan error, 1)
	go func() { failed <- node.Wait() }()
	select {
	case err := <-failed:
		return fmt.Errorf("the node can't go on: %w", err)
	case <-signals:
	case <-ctx.Done():
	}
	stopped := make(chan error, 1)
	go func() { stopped <- node.Stop(context.WithoutCancel(ctx)) }()
	stopErr, err := unlessSecond(stopped, signals)
	return errors.Join(err, stopErr)
}

// oneSignal is how long signals count as one: a terminal, a shell and timeout(1) may each pass on the same
// Ctrl-C or SIGTERM, and no hand is that fast.
const oneSignal = 300 * time.Millisecond

// unlessSecond waits for a result after a first signal; a second one ends the waiting with errAtOnce.
func unlessSecond[T any](result <-chan T, signals <-chan os.Signal) (r T, err error) {
	first := time.Now()
	for {
		select {
		case r = <-result:
			return r, nil
		case <-signals:
			if time.Since(first) > oneSignal {
				return r, errAtOnce
			}
		}
	}
}

// startUnlessSignalled starts the node; a signal meanwhile cancels the start.
func startUnlessSignalled(ctx context.Context, cancel func(), signals <-chan os.Signal, o server.Options) (*server.Node, error) {
	type started struct {
		node *server.Node
		err  error
	}
	result := make(chan started, 1)
	go func() {
		n, err := server.Start(ctx, o)
		result <- started{n, err}
	}()
	select {
	case r := <-result:
		return r.node, r.err
	case <-signals:
	}
	cancel()
	r, err := unlessSecond(result, signals)
	switch {
	case err != nil:
		return nil, err
	case r.err != nil:
		return nil, errInterrupted
	}
	return nil, errors.Join(errInterrupted, r.node.Stop(context.WithoutCancel(ctx)))
}

// announce says that the node serves, and where.
func (s *shell) announce(n *server.Node, o server.Options) error {
	data, err := filepath.Abs(o.Data)
	if err != nil {
		data = o.Data
	}
	b := readiness.Block{
		Version: o.Version, ClusterID: n.ClusterID(), NodeID: n.NodeID(), StoreID: n.StoreID(),
		Address: n.Addr(), Gossip: n.GossipAddr(), HTTP: n.HTTPAddr(), Data: data, Insecure: o.Insecure, PID: os.Getpid(),
	}
	if s.json() {
		return b.WriteJSON(s.out)
	}
	return b.WriteText(s.out)
}
