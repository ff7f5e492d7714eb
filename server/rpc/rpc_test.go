package rpc

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

type service struct {
	locuspb.UnimplementedNodeServer
	locuspb.UnimplementedLocusServer
}

func (service) Join(context.Context, *locuspb.JoinRequest) (*locuspb.JoinResponse, error) {
	return &locuspb.JoinResponse{StoreId: 7}, nil
}

func (service) AllocateIDs(context.Context, *locuspb.AllocateIDsRequest) (*locuspb.AllocateIDsResponse, error) {
	return &locuspb.AllocateIDsResponse{First: 9}, nil
}

func (service) Raft(s grpc.ClientStreamingServer[locuspb.RaftFrame, locuspb.RaftAck]) error {
	return s.SendAndClose(&locuspb.RaftAck{})
}

func (service) ListNodes(ctx context.Context, _ *locuspb.ListNodesRequest) (*locuspb.ListNodesResponse, error) {
	if FromNode(ctx, "mine") {
		return &locuspb.ListNodesResponse{}, nil
	}
	return nil, &api.NotDriverError{Address: "there"} // handlers return typed errors, and clients get them
}

func start(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(append(ServerOptions(insecure.NewCredentials()), Guard("mine")...)...)
	locuspb.RegisterNodeServer(s, service{})
	locuspb.RegisterLocusServer(s, service{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// clientOf names a cluster as clients do.
func clientOf(cluster string) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(metadata.AppendToOutgoingContext(ctx, api.ClientClusterKey, cluster), method, req, reply, cc, opts...)
	})}
}

func TestGuard(t *testing.T) {
	address := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		name    string
		options []grpc.DialOption
		member  bool
		welcome bool // as a client
	}{
		{"a node of the cluster", Identify("mine"), true, true},
		{"a node of another cluster", Identify("other"), false, false},
		{"a client that does not know yet", nil, false, true},
		{"a client", clientOf("mine"), false, true},
		{"a client of another cluster", clientOf("other"), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := NewPool(append(DialOptions(insecure.NewCredentials()), c.options...)...)
			defer pool.Close()
			conn, err := pool.Get(address, Control)
			require.NoError(t, err)
			node := locuspb.NewNodeClient(conn)

			joined, err := node.Join(ctx, &locuspb.JoinRequest{})
			require.NoError(t, err, "whoever joins is of no cluster yet")
			require.Equal(t, uint64(7), joined.StoreId)

			_, err = node.AllocateIDs(ctx, &locuspb.AllocateIDsRequest{})
			stream, serr := node.Raft(ctx)
			require.NoError(t, serr)
			serr = stream.RecvMsg(&locuspb.RaftAck{})
			_, lerr := locuspb.NewLocusClient(conn).ListNodes(ctx, &locuspb.ListNodesRequest{})
			var mismatch *api.ClusterMismatchError
			if !c.welcome {
				require.ErrorAs(t, api.FromStatus(lerr), &mismatch)
				require.Equal(t, "mine", mismatch.Want)
				require.Equal(t, "other", mismatch.Got)
			}
			if c.member {
				require.NoError(t, err)
				require.NoError(t, serr)
				require.NoError(t, lerr)
				return
			}
			require.ErrorAs(t, api.FromStatus(err), &mismatch)
			require.Equal(t, "mine", mismatch.Want)
			require.ErrorAs(t, api.FromStatus(serr), &mismatch)
			if !c.welcome {
				return
			}
			var elsewhere *api.NotDriverError
			require.ErrorAs(t, api.FromStatus(lerr), &elsewhere)
			require.Equal(t, "there", elsewhere.Address)
		})
	}
}

func TestPool(t *testing.T) {
	pool := NewPool(DialOptions(insecure.NewCredentials())...)
	a, err := pool.Get("127.0.0.1:1", Control)
	require.NoError(t, err)
	same, err := pool.Get("127.0.0.1:1", Control)
	require.NoError(t, err)
	require.Same(t, a, same)
	for _, class := range []Class{Raft, Bulk} {
		other, err := pool.Get("127.0.0.1:1", class)
		require.NoError(t, err)
		require.NotSame(t, a, other, "each class has its own")
	}
	pool.Retain(map[string]bool{"127.0.0.1:1": true})
	same, err = pool.Get("127.0.0.1:1", Control)
	require.NoError(t, err)
	require.Same(t, a, same)
	pool.Retain(map[string]bool{"127.0.0.1:2": true})
	fresh, err := pool.Get("127.0.0.1:1", Control)
	require.NoError(t, err)
	require.NotSame(t, a, fresh)
	pool.Close()
	_, err = pool.Get("127.0.0.1:1", Control)
	require.ErrorIs(t, err, ErrPoolClosed)
}
