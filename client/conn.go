package client

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// Sizes of connections. A frame of answers is at most a page of a scan (8 MiB) and its neighbours.
const (
	maxMessage   = 32 << 20
	bufferSize   = 128 << 10
	streamWindow = 4 << 20
	connWindow   = 16 << 20
	dialTimeout  = 2 * time.Second
)

// traffic counts the bytes of all connections, as the network sees them.
type traffic struct {
	sent, received atomic.Uint64
}

// countingConn counts below TLS and HTTP/2. A gRPC stats handler would count above them, and cost more.
type countingConn struct {
	net.Conn
	traffic *traffic
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.received.Add(uint64(n))
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.sent.Add(uint64(n))
	return n, err
}

// conns are the connections of a DB, one per address.
type conns struct {
	opts    []grpc.DialOption
	dialer  func(ctx context.Context, addr string) (net.Conn, error)
	traffic traffic

	// cluster is the one that the first answer came from; empty before.
	cluster atomic.Value

	mu struct {
		sync.Mutex
		byAddr map[string]*grpc.ClientConn
		closed bool
	}
}

// of names the cluster in a call, so that a node of another one, which has been given a node's old address, refuses it.
func (c *conns) of(ctx context.Context) context.Context {
	if id, _ := c.cluster.Load().(string); id != "" {
		return metadata.AppendToOutgoingContext(ctx, api.ClientClusterKey, id)
	}
	return ctx
}

func newConns(t *tls.Config, dialer func(context.Context, string) (net.Conn, error)) *conns {
	if dialer == nil {
		dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	c := &conns{dialer: dialer}
	c.mu.byAddr = make(map[string]*grpc.ClientConn)
	creds := insecure.NewCredentials()
	if t != nil {
		creds = credentials.NewTLS(t)
	}
	c.opts = []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(c.dial),
		grpc.WithReadBufferSize(bufferSize),
		grpc.WithWriteBufferSize(bufferSize),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage), grpc.ForceCodecV2(api.Codec())),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // the core retries, and knows why
		grpc.WithIdleTimeout(0), // streams stay open
		grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(c.of(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(c.of(ctx), desc, cc, method, opts...)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: dialTimeout,
		}),
	}
	return c
}

func (c *conns) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.dialer(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: conn, traffic: &c.traffic}, nil
}

// get returns the connection to an address, which may still have to be made.
func (c *conns) get(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, ErrClosed
	}
	if cc := c.mu.byAddr[addr]; cc != nil {
		return cc, nil
	}
	cc, err := grpc.NewClient(scheme+addr, c.opts...)
	if err != nil {
		return nil, &InvalidArgumentError{Reason: "address " + addr + ": " + err.Error()}
	}
	c.mu.byAddr[addr] = cc
	return cc, nil
}

// keep closes the connections to addresses that are not in the set.
func (c *conns) keep(addrs map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, cc := range c.mu.byAddr {
		if !addrs[addr] {
			delete(c.mu.byAddr, addr)
			_ = cc.Close()
		}
	}
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
	for addr, cc := range c.mu.byAddr {
		delete(c.mu.byAddr, addr)
		_ = cc.Close()
	}
}

// ready waits until the connection stands, so that whoever fails here knows that nothing was sent.
func ready(ctx context.Context, cc *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for {
		s := cc.GetState()
		switch s {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			cc.Connect()
		case connectivity.TransientFailure:
			return &UnavailableError{Reason: "no connection to " + address(cc) + ": " + cause(ctx, cc)}
		case connectivity.Shutdown:
			return &UnavailableError{Reason: "no connection to " + address(cc) + ": it was closed"}
		}
		if !cc.WaitForStateChange(ctx, s) {
			return &UnavailableError{Reason: "no connection to " + address(cc) + " in time"}
		}
	}
}

// scheme leaves names to the dialer, so that each attempt resolves them anew.
const scheme = "passthrough:///"

// address is what a connection was asked for.
func address(cc *grpc.ClientConn) string { return strings.TrimPrefix(cc.Target(), scheme) }

// noMethod is served by nobody. Calling it on a connection that failed sends nothing, and fails with the
// reason, which gRPC tells in no other way.
const noMethod = "/locus.v1.Locus/-"

// causeTime is for a connection that is being made again while its failure is asked for.
const causeTime = 100 * time.Millisecond

// cause is why a connection can't be made, in words for people: "connect: connection refused", or what TLS
// had against it.
func cause(ctx context.Context, cc *grpc.ClientConn) string {
	// The answer comes at once, even to a caller whose time is up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), causeTime)
	defer cancel()
	s := status.Convert(cc.Invoke(ctx, noMethod, &emptypb.Empty{}, &emptypb.Empty{}))
	if s.Code() != codes.Unavailable {
		return "it failed a moment ago" // and stands again by now
	}
	text := s.Message()
	if _, quoted, ok := strings.Cut(text, "desc = "); ok {
		if plain, err := strconv.Unquote(quoted); err == nil {
			text = plain
		}
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "transport: "), "Error while dialing: ")
	if !strings.HasPrefix(text, "dial ") && !strings.HasPrefix(text, "authentication handshake failed") {
		text += " (the node closed the connection: does it want TLS, or another certificate?)"
	}
	return text
}

func service(cc *grpc.ClientConn) locuspb.LocusClient { return locuspb.NewLocusClient(cc) }
