package rpc

import (
	"context"
	"net"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/locuskv/locus/api"
)

const (
	// MaxMessage is the largest message either way. Scans answer with 1 MiB, Raft frames and snapshot chunks
	// stay at 4 MiB; gRPC's own default of 4 MiB would leave them no room.
	MaxMessage = 16 << 20

	// Static windows: a stream may have 4 MiB in flight and a connection 16 MiB, so that a stalled stream
	// can't take a connection's whole window. gRPC's bandwidth estimation would cost pings and start low.
	streamWindow = 4 << 20
	connWindow   = 16 << 20
	ioBuffer     = 128 << 10

	// maxStreams bounds what one connection can have open; clients use one Batch stream and few calls.
	maxStreams = 1024

	// A peer that answers no ping for this long is gone: below it, TCP would wait for minutes.
	pingAfter   = 10 * time.Second // gRPC's own minimum for clients
	pingTimeout = 5 * time.Second
)

// ServerOptions are those of a node's gRPC server.
func ServerOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(api.Codec()),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBuffer),
		grpc.WriteBufferSize(ioBuffer),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingAfter / 2, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10 * time.Second),
	}
}

// DialOptions are those of a connection from a node to another.
func DialOptions(creds credentials.TransportCredentials) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage), grpc.ForceCodecV2(api.Codec())),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 2 * time.Second}),
		// Nodes and their addresses are what the cluster map says, never what a proxy or a DNS record does.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	}
}

// From makes connections come from one of the machine's addresses.
func From(ip net.IP) grpc.DialOption {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	})
}
