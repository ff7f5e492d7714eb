package rpc

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// clusterKey is the metadata that a node sends with every call: the cluster it is of.
const clusterKey = "locus-cluster"

var nodeService = "/" + locuspb.Node_ServiceDesc.ServiceName + "/"

// Identify makes every call of a connection name the cluster that the caller is of.
func Identify(cluster string) []grpc.DialOption {
	mark := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, clusterKey, cluster)
	}
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(mark(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(mark(ctx), desc, cc, method, opts...)
		}),
	}
}

// FromNode says whether a call comes from a node of the cluster.
func FromNode(ctx context.Context, cluster string) bool {
	return callerCluster(ctx) == cluster
}

// callerCluster is the cluster a caller says to be of; empty for clients.
func callerCluster(ctx context.Context) string { return named(ctx, clusterKey) }

// named is the one value that a call's metadata has under a key, or empty.
func named(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) == 1 {
		return v[0]
	}
	return ""
}

// Guard refuses calls of the Node service by whoever is not of the cluster; Join alone is open, because a
// new node is of none and is judged by the driver. Of the other services it refuses nodes and clients of another cluster.
func Guard(cluster string) []grpc.ServerOption {
	check := func(ctx context.Context, method string) error {
		got := callerCluster(ctx)
		switch {
		case method == locuspb.Node_Join_FullMethodName:
			return nil
		case strings.HasPrefix(method, nodeService):
		case got == "":
			if got = named(ctx, api.ClientClusterKey); got == "" {
				return nil // a client that does not know yet
			}
		}
		if got != cluster {
			return api.ToStatus(&api.ClusterMismatchError{Want: cluster, Got: got})
		}
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			reply, err := handle(ctx, req)
			return reply, api.ToStatus(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(srv, stream)
		}),
	}
}
