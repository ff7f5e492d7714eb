package server

import (
	"context"
	"crypto/hmac"
	"time"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/placement"
)

// adminTimeout bounds calls of the driver whose callers set no deadline: creating a keyspace waits for
// replicas.
const adminTimeout = 2 * time.Minute

// nodeService is what this node offers to the others.
type nodeService struct {
	locuspb.UnimplementedNodeServer
	n *Node
}

var _ locuspb.NodeServer = (*nodeService)(nil)

func (s *nodeService) Raft(stream grpc.ClientStreamingServer[locuspb.RaftFrame, locuspb.RaftAck]) error {
	return s.n.receiver.Raft(stream)
}

func (s *nodeService) Snapshot(stream grpc.ClientStreamingServer[locuspb.SnapshotChunk, locuspb.SnapshotAck]) error {
	return s.n.receiver.Snapshot(stream)
}

// Join passes a node that wants to join on to the driver. One that was a member before is let in without it
// if need be: a cluster that starts again as a whole, at other addresses, has no driver before its nodes have
// found each other.
func (s *nodeService) Join(ctx context.Context, req *locuspb.JoinRequest) (*locuspb.JoinResponse, error) {
	if c := req.ClusterId; c != "" && c != s.n.ident.ClusterID {
		return nil, &api.ClusterMismatchError{Want: s.n.ident.ClusterID, Got: c}
	}
	if err := s.n.admitGossip(req); err != nil {
		return nil, err
	}
	member := s.n.isMember(req) && !forwarded(ctx)
	if member {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, confirmTime/4)
		defer cancel()
	}
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.JoinResponse, error) {
			return placement.Await(ctx, func(done func(*locuspb.JoinResponse, error)) { d.Join(req, done) })
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.JoinResponse, error) {
			return locuspb.NewNodeClient(conn).Join(ctx, req)
		})
	if err != nil && member && (elsewhere(err) || ctx.Err() != nil) {
		return s.n.welcome(req), nil
	}
	if err != nil {
		return nil, err
	}
	return &locuspb.JoinResponse{
		ClusterId: resp.ClusterId, StoreId: resp.StoreId, Nodes: resp.Nodes, Clock: uint64(s.n.clock.Hint()),
	}, nil
}

// admitGossip refuses a new node with another gossip key: it would serve, and nobody would ever hear it. A
// member may come with another, or keys could not be changed one node after another.
func (n *Node) admitGossip(req *locuspb.JoinRequest) error {
	if req.ClusterId != "" {
		return nil
	}
	want, err := n.o.gossipMAC(req.GetNode().GetNodeId())
	if err != nil {
		return err
	}
	if !hmac.Equal(want, req.GossipMac) {
		return &api.InvalidArgumentError{Reason: "the --gossip-key is not the one that " + n.address + " has: all nodes have the same, or none"}
	}
	return nil
}

// isMember says whether a joining node is one that this node knows from before.
func (n *Node) isMember(req *locuspb.JoinRequest) bool {
	known, ok := n.cmap.Node(ids.StoreID(req.GetNode().GetStoreId()))
	return ok && req.ClusterId == n.ident.ClusterID && known.NodeId == req.Node.NodeId
}

// welcome answers a member in the driver's place: with the nodes that this one knows, and itself as it is now.
func (n *Node) welcome(req *locuspb.JoinRequest) *locuspb.JoinResponse {
	n.cmap.Heard([]*locuspb.NodeInfo{n.self(), req.Node})
	return &locuspb.JoinResponse{
		ClusterId: n.ident.ClusterID, StoreId: req.Node.StoreId, Nodes: n.cmap.Nodes(), Clock: uint64(n.clock.Hint()),
	}
}

func (s *nodeService) Heartbeat(ctx context.Context, req *locuspb.HeartbeatRequest) (*locuspb.HeartbeatResponse, error) {
	if err := s.n.clock.Update(hlc.Timestamp(req.Clock)); err != nil {
		return nil, err
	}
	resp, err := s.n.office.heartbeat(ctx, req)
	if err != nil {
		return nil, err
	}
	resp.Clock = uint64(s.n.clock.Hint())
	return resp, nil
}

func (s *nodeService) RunRange(ctx context.Context, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	return s.n.runner.run(ctx, req), nil
}

func (s *nodeService) AllocateIDs(ctx context.Context, req *locuspb.AllocateIDsRequest) (*locuspb.AllocateIDsResponse, error) {
	return driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.AllocateIDsResponse, error) {
			first, err := placement.Await(ctx, func(done func(ids.RangeID, error)) { d.AllocateIDs(req.Count, done) })
			return &locuspb.AllocateIDsResponse{First: uint64(first)}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.AllocateIDsResponse, error) {
			return locuspb.NewNodeClient(conn).AllocateIDs(ctx, req)
		})
}

// driverCall runs a method of the driver here, or passes the call on to the node that runs it and waits
// while none does. A call that was passed on already is answered here or not at all: two nodes that take
// each other for the driver's would pass it on for ever.
func driverCall[T any](ctx context.Context, n *Node, local func(context.Context, *placement.Driver) (T, error), remote func(context.Context, grpc.ClientConnInterface) (T, error)) (T, error) {
	here := func(ctx context.Context) (T, error) {
		d, err := n.office.driver()
		if err != nil {
			var zero T
			return zero, err
		}
		return local(ctx, d)
	}
	if forwarded(ctx) {
		return here(ctx)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, adminTimeout)
		defer cancel()
	}
	return untilDriver(ctx, func(ctx context.Context) (T, error) {
		return askDriver(ctx, n.finder, here, remote)
	})
}
