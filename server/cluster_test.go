package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/rpc"
	"github.com/locuskv/locus/udf"
)

// testFunctions are what the nodes of these tests offer.
func testFunctions(t testing.TB) *udf.Registry {
	t.Helper()
	r, err := udf.NewRegistry(
		copyAll,
		udf.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil }),
		udf.ReadWrite("count", func(_ context.Context, tx udf.Tx, by int64) (int64, error) {
			key := tx.Call().Key
			var n int64
			if v, ok, err := tx.Get(key); err != nil {
				return 0, err
			} else if ok {
				if err := json.Unmarshal(v, &n); err != nil {
					return 0, err
				}
			}
			n += by
			v, err := json.Marshal(n)
			if err != nil {
				return 0, err
			}
			return n, tx.Put(key, v)
		}),
		udf.ReadWrite("stray", func(_ context.Context, tx udf.Tx, _ int64) (int64, error) {
			return 0, tx.Put([]byte("elsewhere"), []byte("x"))
		}),
		udf.Range("rows", udf.Aggregate[int64, int64, int64]{
			Init: func(int64) (int64, error) { return 0, nil },
			Add: func(_ context.Context, acc int64, b udf.Batch) (int64, error) {
				return acc + int64(b.Len()), nil
			},
			Merge:  func(a, b int64) (int64, error) { return a + b, nil },
			Result: func(acc int64) (int64, error) { return acc, nil },
		}),
	)
	require.NoError(t, err)
	return r
}

// testOptions are those of a small, quick node.
func testOptions(t testing.TB, dir string, join ...string) Options {
	level := slog.LevelWarn
	if os.Getenv("LOCUS_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return Options{
		Data: dir, Listen: "127.0.0.1:0", Join: join, Insecure: true, Functions: testFunctions(t),
		MinFreeBytes: 1, // whatever machine this is
		TickInterval: 30 * time.Millisecond, HeartbeatInterval: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level})),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	if os.Getenv("LOCUS_TEST_LOG") != "" {
		fmt.Fprint(os.Stderr, string(p))
	}
	return len(p), nil
}

// patience is how long tests wait for what has to happen, however slow the machine is. It costs time only when a test fails.
const patience = 2 * time.Minute

// startNode starts a node and stops it when the test ends.
func startNode(t testing.TB, o Options) *Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := Start(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { stopNode(t, n) })
	return n
}

func stopNode(t testing.TB, n *Node) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, n.Stop(ctx))
}

// eventually waits for a condition without saying how long that takes.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// testClient sends single requests to whichever node leads: a client's router in its smallest form.
type testClient struct {
	t     testing.TB
	nodes func() []*Node
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
	sess  *session
}

func newTestClient(t testing.TB, nodes func() []*Node) *testClient {
	c := &testClient{t: t, nodes: nodes, conns: map[string]*grpc.ClientConn{}, sess: newSession(nodes()[0].clock)}
	t.Cleanup(func() {
		for _, conn := range c.conns {
			_ = conn.Close()
		}
	})
	return c
}

func (c *testClient) conn(address string) *grpc.ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns[address] == nil {
		conn, err := grpc.NewClient("passthrough:///"+address, rpc.DialOptions(insecure.NewCredentials())...)
		require.NoError(c.t, err)
		c.conns[address] = conn
	}
	return c.conns[address]
}

func (c *testClient) locus(n *Node) locuspb.LocusClient {
	return locuspb.NewLocusClient(c.conn(n.Addr()))
}

// do sends a request about key until it is answered for good.
func (c *testClient) do(key []byte, req *locuspb.Request) (*locuspb.Response, error) {
	deadline := time.Now().Add(patience)
	for attempt := 0; ; attempt++ {
		nodes := c.nodes()
		resp, err := c.once(nodes[attempt%len(nodes)], key, req)
		if err == nil && resp.Error == nil {
			return resp, nil
		}
		if err == nil {
			err = api.FromProto(resp.Error)
			if !elsewhere(err) {
				return resp, err
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *testClient) once(via *Node, key []byte, req *locuspb.Request) (*locuspb.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	routes, err := c.locus(via).Routes(ctx, &locuspb.RoutesRequest{Span: api.SpanToProto(keys.KeySpan(key))})
	if err != nil {
		return nil, err
	}
	if len(routes.Routes) == 0 {
		return nil, &api.UnavailableError{Reason: "no route"}
	}
	route := routes.Routes[0]
	address := via.Addr()
	for _, n := range routes.Nodes {
		if n.StoreId == route.LeaseholderStore {
			address = n.Address
		}
	}
	req.Id, req.RangeId, req.BoundsEpoch = 1, route.Descriptor_.RangeId, route.Descriptor_.BoundsEpoch
	stream, err := locuspb.NewLocusClient(c.conn(address)).Batch(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&locuspb.BatchRequest{Requests: []*locuspb.Request{req}}); err != nil {
		return nil, err
	}
	frame, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return frame.Responses[0], nil
}

var defaultLayout = keys.Layout{ID: 1}

func (c *testClient) put(l keys.Layout, key, value string) error {
	p := c.sess.begin()
	defer c.sess.end(p)
	k := l.Encode([]byte(key))
	_, err := c.do(k, &locuspb.Request{Session: p, Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		Mutations: []*locuspb.Mutation{{Key: k, Value: []byte(value)}},
	}}})
	return err
}

func (c *testClient) delete(l keys.Layout, key string) error {
	p := c.sess.begin()
	defer c.sess.end(p)
	k := l.Encode([]byte(key))
	_, err := c.do(k, &locuspb.Request{Session: p, Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		Mutations: []*locuspb.Mutation{{Key: k, Delete: true}},
	}}})
	return err
}

// split splits a range at a key.
func (c *testClient) split(via *Node, l keys.Layout, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.locus(via).SplitRange(ctx, &locuspb.SplitRangeRequest{Key: l.Encode([]byte(key))})
	return err
}

func (c *testClient) get(l keys.Layout, key string) (string, bool, error) {
	k := l.Encode([]byte(key))
	resp, err := c.do(k, &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: k}}})
	return string(resp.GetGet().GetValue()), resp.GetGet().GetFound(), err
}

func (c *testClient) call(l keys.Layout, function, key string, arg any) (string, error) {
	p := c.sess.begin()
	defer c.sess.end(p)
	a, err := json.Marshal(arg)
	require.NoError(c.t, err)
	call := &locuspb.CallRequest{Function: function, Argument: a, Codec: locuspb.Codec_JSON}
	k := l.Encode(nil)
	if key != "" {
		k = l.Encode([]byte(key))
		call.Key = k
	}
	req := &locuspb.Request{Session: p, Op: &locuspb.Request_Call{Call: call}}
	resp, err := c.do(k, req)
	return string(resp.GetCall().GetResult()), err
}

// pure runs a function that touches no key, on one node.
func (c *testClient) pure(n *Node, function string, version uint32, arg any) (string, error) {
	a, err := json.Marshal(arg)
	require.NoError(c.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.locus(n).Batch(ctx)
	if err != nil {
		return "", err
	}
	call := &locuspb.CallRequest{Function: function, Version: version, Argument: a, Codec: locuspb.Codec_JSON}
	if err := stream.Send(&locuspb.BatchRequest{Requests: []*locuspb.Request{{Id: 7, Op: &locuspb.Request_Call{Call: call}}}}); err != nil {
		return "", err
	}
	frame, err := stream.Recv()
	if err != nil {
		return "", err
	}
	resp := frame.Responses[0]
	require.Equal(c.t, uint64(7), resp.Id)
	return string(resp.GetCall().GetResult()), api.FromProto(resp.Error)
}

// run executes a range function over a whole keyspace.
func (c *testClient) run(n *Node, l keys.Layout, function string, arg any) (result string, last *locuspb.RunResponse, err error) {
	a, err := json.Marshal(arg)
	require.NoError(c.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.locus(n).Run(ctx, &locuspb.RunRequest{
		Function: function, Argument: a, Codec: locuspb.Codec_JSON, Span: api.SpanToProto(l.All()),
	})
	if err != nil {
		return "", nil, err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return "", nil, err
		}
		if resp.Error != nil {
			return "", resp, api.FromProto(resp.Error)
		}
		if resp.Done {
			return string(resp.Result), resp, nil
		}
	}
}

func one(n *Node) func() []*Node { return func() []*Node { return []*Node{n} } }

func TestOneNode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, testOptions(t, dir))
	c := newTestClient(t, one(n))

	require.NoError(t, c.put(defaultLayout, "a", "1"))
	v, found, err := c.get(defaultLayout, "a")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "1", v)
	_, found, err = c.get(defaultLayout, "missing")
	require.NoError(t, err)
	require.False(t, found)

	got, err := c.pure(n, "square", 0, 5)
	require.NoError(t, err)
	require.Equal(t, "25", got)
	_, err = c.pure(n, "nothing", 0, 5)
	var notFound *api.FunctionNotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, "nothing", notFound.Name)
	require.Equal(t, n.NodeID(), notFound.Node)
	_, err = c.pure(n, "square", 3, 5)
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, uint32(3), notFound.Version)

	for i := 1; i <= 10; i++ {
		got, err := c.call(defaultLayout, "count", "counter", 1)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), got)
	}
	_, err = c.call(defaultLayout, "stray", "a", 1)
	require.ErrorIs(t, err, api.ErrNotOneGroup)
	_, found, err = c.get(defaultLayout, "elsewhere")
	require.NoError(t, err)
	require.False(t, found)

	result, last, err := c.run(n, defaultLayout, "rows", 0)
	require.NoError(t, err)
	require.Equal(t, "2", result) // a and counter
	require.Equal(t, uint64(2), last.Progress.Records)

	before := n.ClusterID()
	stopNode(t, n)
	n = startNode(t, testOptions(t, dir))
	require.Equal(t, before, n.ClusterID())
	c = newTestClient(t, one(n))
	v, found, err = c.get(defaultLayout, "a")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "1", v)
	got, err = c.call(defaultLayout, "count", "counter", 5)
	require.NoError(t, err)
	require.Equal(t, "15", got)
}
