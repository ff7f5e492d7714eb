package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/server/gateway"
	"github.com/locuskv/locus/server/gossip"
	"github.com/locuskv/locus/server/rpc"
	"github.com/locuskv/locus/server/transport"
)

// Node is one running node. Make it with Start, end it with Stop.
type Node struct {
	o           Options
	log         *slog.Logger
	ident       raftstore.Ident
	address     string // gRPC, as advertised
	httpAddress string

	dir      *directory
	disk     *disk
	loads    *loads
	engine   *engine.Badger
	raftLog  raftlog.Log
	clock    *hlc.Clock
	cmap     *clustermap.Map
	pool     *rpc.Pool
	peers    *peers
	executor *raftstore.Pool
	raft     *transport.Transport
	receiver *transport.Receiver
	store    *raftstore.Store

	session    *session
	system     *system
	functions  *functions
	preparer   *preparer
	tidier     *tidier
	catalog    *catalog
	dispatcher *dispatcher
	runner     *rangeRunner
	gateway    *gateway.Gateway
	runKeys    *runKeys
	finder     *finder
	office     *office
	reporter   *reporter
	gossip     *gossip.Gossip
	gossiped   atomic.Pointer[map[ids.StoreID]string] // addresses of living members

	listener net.Listener
	grpc     *grpc.Server
	http     *http.Server
	web      net.Listener

	// background ends with cancel; wg waits for it.
	background context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	ticking    context.CancelFunc

	stopOnce sync.Once
	ready    atomic.Bool
	failed   chan struct{} // closed on a failure that the node can't go on after
	stopped  chan struct{} // closed once Stop is done
	mu       struct {
		sync.Mutex
		failure error
		stopErr error
	}
}

// Start opens a node's directory, or makes one, and starts the node: see the package comment for the
// order. ctx bounds the start alone: an empty node with Options.Join asks until it ends. Whatever fails, all
// that was started is stopped and nothing on disk is damaged.
func Start(ctx context.Context, o Options) (*Node, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if _, err := o.credentials(); err != nil {
		return nil, err // before any data is touched
	}
	n := &Node{o: o.withDefaults(), failed: make(chan struct{}), stopped: make(chan struct{}), cmap: &clustermap.Map{}}
	n.log = n.o.Logger
	n.background, n.cancel = context.WithCancel(context.Background())
	steps := []func(context.Context) error{
		n.listen, n.openDirectory, n.identify, n.assemble, n.openStore, n.startGossip, n.serve, n.startLoops, n.serveHTTP,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			n.abandon()
			return nil, err
		}
	}
	n.ready.Store(true)
	n.log.Info("node started", "cluster", n.ident.ClusterID, "node", n.ident.NodeID, "store", n.ident.StoreID,
		"address", n.address, "http", n.httpAddress, "gossip", n.gossip.Address())
	return n, nil
}

// Addr is the gRPC address under which clients and nodes reach this node.
func (n *Node) Addr() string { return n.address }

// HTTPAddr is the address of health checks, metrics and profiles.
func (n *Node) HTTPAddr() string { return n.httpAddress }

// GossipAddr is the address of membership gossip.
func (n *Node) GossipAddr() string { return n.gossip.Address() }

// ClusterID is the UUID of the node's cluster.
func (n *Node) ClusterID() string { return n.ident.ClusterID }

// NodeID is the node's UUID, which is its own for ever.
func (n *Node) NodeID() string { return n.ident.NodeID }

// StoreID is the number of the node's store in its cluster.
func (n *Node) StoreID() uint64 { return uint64(n.ident.StoreID) }

// Wait waits until the node has been stopped, or can't go on: a write or a sync failed, or data was found
// damaged. Then the process must end, because what it would acknowledge could be lost.
func (n *Node) Wait() error {
	select {
	case <-n.failed:
	case <-n.stopped:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(n.mu.failure, n.mu.stopErr)
}

// fail is told of failures that end the node.
func (n *Node) fail(err error) {
	n.mu.Lock()
	first := n.mu.failure == nil
	if first {
		n.mu.failure = err
	}
	n.mu.Unlock()
	if first {
		n.ready.Store(false)
		close(n.failed) // Wait tells of it
	}
}

// failure is why the node can't go on; nil while it can.
func (n *Node) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.failure
}

// listen takes the addresses first: one that is in use is found out before any data is touched.
func (n *Node) listen(context.Context) error {
	var err error
	if n.listener, err = net.Listen("tcp", n.o.Listen); err != nil {
		return &ListenError{Address: n.o.Listen, Use: "gRPC", Cause: bindCause(err)}
	}
	if n.web, err = net.Listen("tcp", n.o.HTTPListen); err != nil {
		return &ListenError{Address: n.o.HTTPListen, Use: "HTTP", Cause: bindCause(err)}
	}
	// Gossip binds for itself, later; that it could is tried now. Port 0 needs no trial.
	if _, port, _ := splitAddress(n.o.GossipListen); port != 0 {
		probe, err := net.Listen("tcp", n.o.GossipListen)
		if err != nil {
			return &ListenError{Address: n.o.GossipListen, Use: "gossip", Cause: bindCause(err)}
		}
		_ = probe.Close()
	}
	n.httpAddress = n.web.Addr().String()
	_, port, err := net.SplitHostPort(n.listener.Addr().String())
	if err != nil {
		return err
	}
	n.address = n.listener.Addr().String()
	if n.o.Advertise != "" {
		n.address = n.o.advertiseAddress(port)
	}
	return nil
}

// bindCause keeps of an error of net.Listen what its address does not say already.
func bindCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// openStore opens the replicas. From here on Raft's messages could be sent, but none comes in yet.
func (n *Node) openStore(context.Context) error {
	s, err := raftstore.Open(n.storeOptions())
	if err != nil {
		return err
	}
	n.store = s
	n.connectStore(s)
	return nil
}

// serve lets requests in.
func (n *Node) serve(context.Context) error {
	creds, err := n.o.credentials()
	if err != nil {
		return err
	}
	n.grpc = grpc.NewServer(append(rpc.ServerOptions(creds.server), rpc.Guard(n.ident.ClusterID)...)...)
	locuspb.RegisterLocusServer(n.grpc, &locusService{n: n})
	locuspb.RegisterNodeServer(n.grpc, &nodeService{n: n})
	n.wg.Go(func() {
		if err := n.grpc.Serve(n.listener); err != nil && n.background.Err() == nil {
			n.fail(&ListenError{Address: n.o.Listen, Use: "gRPC", Cause: err})
		}
	})
	return nil
}

// startLoops starts what runs for as long as the node does.
func (n *Node) startLoops(context.Context) error {
	ticks, stop := context.WithCancel(context.Background())
	n.ticking = stop
	n.wg.Go(func() { n.tick(ticks) })
	n.wg.Go(func() { n.office.run(n.background, n.reporter.look) })
	n.wg.Go(func() { n.reporter.run(n.background) })
	n.wg.Go(func() { n.runKeys.run(n.background) })
	n.wg.Go(func() { n.preparer.run(n.background) })
	n.wg.Go(func() { n.disk.run(n.background, n.reporter.refresh) })
	return nil
}

// tick drives the store's clock. A late tick is one tick: the ticker drops those that were missed, so that
// a pause of the process does not look like silence of its peers.
func (n *Node) tick(ctx context.Context) {
	ticker := time.NewTicker(n.o.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			n.store.Tick()
		}
	}
}
