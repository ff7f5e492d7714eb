package server

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/boottime"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/placement"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/server/gateway"
	"github.com/locuskv/locus/server/gossip"
	"github.com/locuskv/locus/server/rpc"
	"github.com/locuskv/locus/server/transport"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/operators"
	"github.com/locuskv/locus/udf/wasm"
)

// assemble makes the parts that need the node's identity and not its store.
func (n *Node) assemble(context.Context) error {
	creds, err := n.o.credentials()
	if err != nil {
		return err
	}
	n.clock = hlc.NewSteadyClock(time.Now, boottime.Now, n.o.MaxClockOffset)
	n.pool = rpc.NewPool(append(n.o.dialOptions(creds), rpc.Identify(n.ident.ClusterID)...)...)
	n.peers = &peers{self: n.ident.StoreID, clock: n.clock, pool: n.pool, cmap: n.cmap, local: n, hint: n.gossipAddressOf}
	n.raft = transport.New(transport.Options{
		ClusterID: n.ident.ClusterID, Self: n.ident.StoreID, Dialer: n.peers, Clock: n.clock, Logger: n.log,
		SnapshotRate: n.o.SnapshotRate,
	})
	compiled := cmp.Or(n.o.CompiledDir, n.dir.file(compiledDir))
	modules, err := wasm.NewRuntime(wasm.Options{
		CacheDir: compiled,
		Log:      func(function, line string) { n.log.Debug("guest", "function", function, "line", line) },
	})
	if err != nil {
		return fmt.Errorf("server: starting the WebAssembly runtime: %w", err)
	}
	life, end := context.WithCancel(context.Background())
	n.functions = &functions{
		node: n.ident.NodeID, native: n.o.Functions.With(operators.Functions()...), compiler: wasmCompiler{modules}, cmap: n.cmap,
		fs: n.dir.fs, dir: n.dir.file(moduleDir),
		list: func(ctx context.Context) ([]*locuspb.FunctionInfo, error) {
			return n.registered(ctx)
		},
		fetch: func(ctx context.Context, hash string) ([]byte, error) { return n.catalog.module(ctx, hash) },
		trust: trust{clock: boottime.Now, refresh: func() { n.reporter.refresh() }}, life: life, end: end,
	}
	if f := n.o.watchCompiler; f != nil {
		n.functions.compiler = f(n.functions.compiler)
	}
	n.functions.accounts = newAccounts(n.functions.known)
	n.preparer = newPreparer(n.functions, n.dir.file(preparedFile), n.log)
	n.tidier = &tidier{functions: n.functions, compiled: compiled, limit: maxCompiledBytes}
	return nil
}

// wasmCompiler is the runtime, as functions uses it.
type wasmCompiler struct{ runtime *wasm.Runtime }

func (c wasmCompiler) Compile(ctx context.Context, name string, module []byte) (udf.Runnable, error) {
	f, err := c.runtime.Compile(ctx, name, module)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (c wasmCompiler) Close() error { return c.runtime.Close() }

func (n *Node) storeOptions() raftstore.Options {
	n.executor = raftstore.NewPool(raftstore.PoolOptions{})
	return raftstore.Options{
		Ident: n.ident, Engine: n.engine, Log: n.raftLog, Files: n.dir.fs, SnapshotDir: n.dir.file(snapshotDir),
		Clock: n.clock, Monotonic: boottime.Now, TickInterval: n.o.TickInterval, Reads: n.o.readMode(), Executor: n.executor, Transport: n.raft, Logger: n.log, OnFatal: n.fail,
		Retention: n.o.retention, CheckpointTicks: n.o.checkpointTicks,
		ScanCacheBytes: n.o.ScanCacheBytes,
		Rand:           rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Evaluator:      &evaluator{functions: n.functions, cmap: n.cmap, node: n.ident.NodeID},
	}
}

// connectStore makes the parts that use the store.
func (n *Node) connectStore(s store) {
	n.receiver = &transport.Receiver{ClusterID: n.ident.ClusterID, Self: n.ident.StoreID, Clock: n.clock, Store: s, Logger: n.log}
	n.finder = &finder{
		self: n.ident.StoreID, store: s, cmap: n.cmap, peers: n.peers, pool: n.pool,
		gossip: func() (string, bool) {
			if n.gossip == nil {
				return "", false
			}
			m, ok := n.gossip.Driver()
			return m.Address, ok && m.NodeID != n.ident.NodeID
		},
	}
	n.reporter = newReporter()
	n.session = newSession(n.clock)
	n.system = &system{peers: n.peers, cmap: n.cmap, store: s, session: n.session, refresh: n.reporter.refresh}
	n.catalog = newCatalog(n.background, n.system, n.clock.Now)
	n.office = &office{
		store: s, system: n.system, catalog: n.catalog, self: n.self, hint: n.finder.hint, log: n.log,
		options: placement.Options{ClusterID: n.ident.ClusterID, DeadAfter: n.o.DeadAfter},
		announce: func(term ids.Term) {
			if err := n.gossip.SetDriver(term); err != nil {
				n.log.Debug("gossiping the driver's place", "error", err)
			}
			n.reporter.refresh()
		},
	}
	n.reporter.store, n.reporter.clock, n.reporter.cmap = s, n.clock, n.cmap
	n.reporter.splitter = newSplitter(s, n.cmap.Layout, n.o.MaxRangeBytes, n.loads, n.reporter.refresh, n.log)
	n.reporter.finder, n.reporter.office, n.reporter.self = n.finder, n.office, n.self
	n.reporter.interval, n.reporter.log, n.reporter.learned = n.o.HeartbeatInterval, n.log, n.keepPeers
	n.reporter.trusted, n.reporter.used = n.functions.trust.renew, n.functions.trust.wanted
	n.reporter.functions = func(list []*locuspb.FunctionInfo) {
		n.preparer.heard(list)
		n.tidier.look(list, n.wg.Go)
	}
	n.reporter.moved = func() uint64 { return n.store.Changes() }
	n.dispatcher = &dispatcher{
		store: s, clock: n.clock, cmap: n.cmap, functions: n.functions, refetch: n.refetchKeyspaces,
		pure: make(chan struct{}, 4*runtime.GOMAXPROCS(0)),
		room: &room{self: n.ident.StoreID, disk: n.disk, cmap: n.cmap, store: s}, loads: n.loads,
	}
	n.runner = newRangeRunner(s, n.clock, n.functions, n.dispatcher)
	n.runKeys = newRunKeys(n.system, n.clock, n.log)
	n.gateway = gateway.New(gateway.Options{Cluster: gatewayCluster{n}, Clock: n.clock, Keys: n.runKeys, WorkBytes: n.o.workBytes})
}

// do and runRange make the node its own peer.
func (n *Node) do(ctx context.Context, req *locuspb.Request, done func(*locuspb.Response)) {
	n.dispatcher.dispatch(ctx, req, fromNode, done)
}

func (n *Node) runRange(ctx context.Context, req *locuspb.RunRangeRequest) *locuspb.RunRangeResponse {
	return n.runner.run(ctx, req)
}

// gatewayCluster is the cluster as the gateway sees it.
type gatewayCluster struct{ n *Node }

func (c gatewayCluster) Tile(span keys.Span) []clustermap.Piece { return c.n.cmap.Tile(span) }
func (c gatewayCluster) Learn(routes []api.Route)               { c.n.cmap.Learn(routes) }
func (c gatewayCluster) Refresh()                               { c.n.reporter.refresh() }

func (c gatewayCluster) Do(ctx context.Context, store ids.StoreID, reqs []*locuspb.Request) ([]*locuspb.Response, error) {
	return c.n.peers.Do(ctx, store, reqs)
}

func (c gatewayCluster) RunRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	return c.n.peers.RunRange(ctx, store, req)
}

// self describes this node to the others.
func (n *Node) self() *locuspb.NodeInfo {
	info := &locuspb.NodeInfo{
		StoreId: uint64(n.ident.StoreID), NodeId: n.ident.NodeID, Address: n.address, HttpAddress: n.httpAddress,
		Version: n.o.Version,
	}
	if n.gossip != nil {
		info.GossipAddress = n.gossip.Address()
	}
	d := n.disk.state.Load()
	info.CapacityBytes, info.AvailableBytes, info.UsedBytes = d.capacity, d.available, n.usedBytes()
	info.MinFreeBytes, info.NearlyFull = d.limit, d.full
	info.Requests = n.loads.requests()
	if n.store != nil {
		c := n.store.ClockState()
		info.ClockOff, info.ClockOffsetUs = c.Off, c.Ahead.Microseconds()
	}
	return info
}

// keepPeers keeps the addresses of the other nodes for the next start, and closes connections to those
// that nobody has any more.
func (n *Node) keepPeers(nodes []*locuspb.NodeInfo) {
	if err := n.dir.writePeers(nodes, uint64(n.ident.StoreID)); err != nil {
		n.log.Warn("keeping the peers' addresses", "error", err)
	}
	keep := make(map[string]bool)
	for _, m := range nodes {
		keep[m.Address] = true
	}
	if g := n.gossiped.Load(); g != nil {
		for _, a := range *g {
			keep[a] = true
		}
	}
	n.pool.Retain(keep)
}

// startGossip begins to gossip, with whoever is known.
func (n *Node) startGossip(context.Context) error {
	key, err := n.o.gossipKey()
	if err != nil {
		return err
	}
	advertise := ""
	if n.o.Advertise != "" {
		if advertise, _, err = net.SplitHostPort(n.address); err != nil {
			return err
		}
	}
	n.gossip, err = gossip.Start(gossip.Options{
		ClusterID: n.ident.ClusterID, NodeID: n.ident.NodeID, Store: n.ident.StoreID,
		Address: n.address, HTTPAddress: n.httpAddress, Version: n.o.Version,
		Listen: n.o.GossipListen, AdvertiseHost: advertise, SecretKey: key,
		Fast: onLoopback(n.o.GossipListen), Logger: n.log, Changed: n.membersChanged, Peers: n.findPeers,
	})
	if err != nil {
		return &ListenError{Address: n.o.GossipListen, Use: "gossip", Cause: bindCause(err)}
	}
	n.wg.Go(func() {
		// Nobody need answer: those who are not up yet will find this node, and gossip tries again while alone.
		if peers := n.gossipPeers(); len(peers) > 0 {
			answered, err := n.gossip.Join(peers)
			n.log.Debug("gossip joined", "answered", answered, "error", err)
		}
	})
	return nil
}

// findPeers is for a node that gossips with nobody: the others may have moved while it was away, and those it
// was told to join may be up by now.
func (n *Node) findPeers() []string {
	if err := n.confirm(n.background); err != nil {
		n.log.Warn("the nodes to join do not take this one", "error", err)
	}
	return n.gossipPeers()
}

// gossipPeers lists the gossip addresses of the other nodes.
func (n *Node) gossipPeers() []string {
	var out []string
	for _, m := range n.cmap.Nodes() {
		if m.NodeId != n.ident.NodeID && m.GossipAddress != "" {
			out = append(out, m.GossipAddress)
		}
	}
	return out
}

// membersChanged takes over the addresses that gossip knows. A living member's own word on where it is
// comes before the map's.
func (n *Node) membersChanged(members []gossip.Member) {
	addresses := make(map[ids.StoreID]string)
	for _, m := range members {
		if m.Alive && m.NodeID != n.ident.NodeID {
			addresses[m.Store] = m.Address
		}
	}
	n.gossiped.Store(&addresses)
	n.reporter.refresh()
}

func (n *Node) gossipAddressOf(id ids.StoreID) (string, bool) {
	g := n.gossiped.Load()
	if g == nil {
		return "", false
	}
	a, ok := (*g)[id]
	return a, ok && a != ""
}
