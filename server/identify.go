package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
	"github.com/locuskv/locus/server/rpc"
)

// firstStore is the store id that the node that begins a cluster gives itself.
const firstStore ids.StoreID = 1

const (
	// joinQuiet is how long a node waits for those it is to join before it says so, and joinEvery is how often
	// it says so again: whoever starts several nodes at once need not read that the first was slower.
	joinQuiet = 3 * time.Second
	joinEvery = 30 * time.Second
	// joinPause is the time between two rounds of asking the nodes to join.
	joinPause = 500 * time.Millisecond
	// confirmTime bounds how long a node that knows who it is asks the nodes it was told to join. They may all
	// be down, in a cluster that starts again as a whole.
	confirmTime = 2 * time.Second
)

// openDirectory locks the directory and opens the log and the engine.
func (n *Node) openDirectory(context.Context) error {
	var err error
	if n.dir, err = openDirectory(n.o.Data); err != nil {
		return err
	}
	if n.raftLog, err = raftlog.Open(raftlog.Options{FS: n.dir.fs, Dir: n.dir.file(logDir), Logger: n.log}); err != nil {
		return n.openError(err)
	}
	n.engine, err = engine.OpenBadger(engine.BadgerOptions{
		Dir: n.dir.file(engineDir), MemTableBytes: n.o.MemTableBytes, Logger: n.log,
	})
	if err != nil {
		return n.openError(err)
	}
	n.disk = newDisk(n.diskUsage, n.o.MinFreeBytes, n.log)
	n.loads = newLoads(n.o.MaxRangeRequests, n.o.loadSampling, n.o.loadHold)
	return nil
}

// openError gives what the log and the engine say of a format the node's own type; damage stays what they
// call it.
func (n *Node) openError(err error) error {
	var format *raftlog.FormatError
	switch {
	case errors.As(err, &format):
		return &FormatError{Path: n.dir.path, Have: int(format.Version), Supported: int(format.Known)}
	case errors.Is(err, engine.ErrLocked):
		return &DirectoryInUseError{Path: n.dir.path}
	}
	return err
}

// identify finds out who this node is: what its log says; else, with Join, what the cluster says; else the
// first node of a new cluster. An empty directory with Join never begins a cluster, however long nobody
// answers.
func (n *Node) identify(ctx context.Context) error {
	ident, known, err := raftstore.ReadIdent(n.raftLog)
	switch {
	case err != nil:
		return err
	case known:
		n.ident = ident
		if err := n.dir.complete(); err != nil {
			return &DirectoryError{Path: n.dir.path, Cause: err}
		}
		n.cmap.SetNodes(n.dir.readPeers())
		return n.confirm(ctx)
	case !n.dir.fresh:
		return &DirectoryError{Path: n.dir.path, Cause: errors.New("its log has no identity, although it was complete once")}
	case len(n.o.Join) > 0:
		return n.join(ctx)
	}
	return n.bootstrap()
}

// bootstrap begins a cluster.
func (n *Node) bootstrap() error {
	n.ident = raftstore.Ident{ClusterID: uuid.NewString(), NodeID: uuid.NewString(), StoreID: firstStore}
	if err := raftstore.Bootstrap(n.engine, n.raftLog, n.ident, hlc.FromTime(time.Now())); err != nil {
		return fmt.Errorf("server: beginning a cluster: %w", err)
	}
	n.log.Info("a new cluster begins", "cluster", n.ident.ClusterID)
	return n.completed()
}

func (n *Node) completed() error {
	if err := n.dir.complete(); err != nil {
		return &DirectoryError{Path: n.dir.path, Cause: err}
	}
	return nil
}

// join asks the given nodes for a store id until one answers, or ctx ends.
func (n *Node) join(ctx context.Context) error {
	nodeID := uuid.NewString()
	mac, err := n.o.gossipMAC(nodeID)
	if err != nil {
		return err
	}
	req := &locuspb.JoinRequest{Node: n.joining(nodeID), GossipMac: mac}
	begun, quiet := time.Now(), joinQuiet
	for {
		resp, err := n.askToJoin(ctx, req)
		if err == nil {
			return n.joined(nodeID, resp)
		}
		if final(err) {
			return fmt.Errorf("server: joining: %w", err)
		}
		if waited := time.Since(begun); waited >= quiet {
			n.log.Warn("waiting to join a cluster", "nodes", n.o.Join, "error", err)
			quiet = waited + joinEvery
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("server: nobody of %v let this node join: %w", n.o.Join, err)
		case <-time.After(joinPause):
		}
	}
}

// joined makes what the cluster said durable.
func (n *Node) joined(nodeID string, resp *locuspb.JoinResponse) error {
	n.ident = raftstore.Ident{ClusterID: resp.ClusterId, NodeID: nodeID, StoreID: ids.StoreID(resp.StoreId)}
	n.cmap.SetNodes(resp.Nodes)
	if err := n.dir.writePeers(resp.Nodes, resp.StoreId); err != nil {
		return &DirectoryError{Path: n.dir.path, Cause: err}
	}
	if err := raftstore.WriteIdent(n.raftLog, n.ident); err != nil {
		return fmt.Errorf("server: writing the node's identity: %w", err)
	}
	n.log.Info("joined", "cluster", n.ident.ClusterID, "store", n.ident.StoreID)
	return n.completed()
}

func (n *Node) joining(nodeID string) *locuspb.NodeInfo {
	return &locuspb.NodeInfo{
		NodeId: nodeID, StoreId: uint64(n.ident.StoreID), Address: n.address, HttpAddress: n.httpAddress, Version: n.o.Version,
	}
}

// confirm asks the given nodes whether they know this one. That nobody answers is no reason not to start;
// that they are of another cluster is.
func (n *Node) confirm(ctx context.Context) error {
	if len(n.o.Join) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	resp, err := n.askToJoin(ctx, &locuspb.JoinRequest{ClusterId: n.ident.ClusterID, Node: n.joining(n.ident.NodeID)})
	var other *api.ClusterMismatchError
	switch {
	case errors.As(err, &other):
		return &OtherClusterError{Path: n.dir.path, Have: n.ident.ClusterID, Contacts: other.Want}
	case err != nil && final(err):
		return fmt.Errorf("server: joining again: %w", err)
	case err != nil:
		n.log.Info("the nodes to join do not answer; starting without them", "nodes", n.o.Join, "error", err)
		return nil
	case resp.ClusterId != n.ident.ClusterID:
		return &OtherClusterError{Path: n.dir.path, Have: n.ident.ClusterID, Contacts: resp.ClusterId}
	}
	n.cmap.Heard(resp.Nodes)
	return nil
}

// askToJoin asks each of the given nodes once.
func (n *Node) askToJoin(ctx context.Context, req *locuspb.JoinRequest) (*locuspb.JoinResponse, error) {
	creds, err := n.o.credentials()
	if err != nil {
		return nil, err
	}
	pool := rpc.NewPool(n.o.dialOptions(creds)...)
	defer pool.Close()
	var last error
	for _, address := range n.o.Join {
		if address == n.address {
			continue // this node itself, which serves nobody yet
		}
		resp, err := joinOne(ctx, pool, address, req)
		if err == nil || final(err) {
			return resp, err
		}
		last = fmt.Errorf("%s: %w", address, err)
	}
	if last == nil {
		last = errors.New("the only node to join is this one")
	}
	return nil, last
}

func joinOne(ctx context.Context, pool *rpc.Pool, address string, req *locuspb.JoinRequest) (*locuspb.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	conn, err := pool.Get(address, rpc.Control)
	if err != nil {
		return nil, err
	}
	resp, err := locuspb.NewNodeClient(conn).Join(ctx, req)
	if err != nil {
		return nil, api.FromStatus(err)
	}
	return resp, nil
}

// final says whether asking again is of no use: the cluster has judged.
func final(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeClusterMismatch, api.CodeInvalidArgument, api.CodePermission:
		return true
	}
	return false
}
