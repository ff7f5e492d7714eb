package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/server/clustermap"
)

// testCluster is three nodes in one process.
type testCluster struct {
	t    testing.TB
	base string // of the data directories
	mu   sync.Mutex
	by   map[string]*Node // by data directory
}

func startCluster(t testing.TB, size int, change ...func(*Options)) *testCluster {
	c := &testCluster{t: t, base: t.TempDir(), by: map[string]*Node{}}
	c.grow(size, change...)
	return c
}

// grow adds nodes, which join those that are there.
func (c *testCluster) grow(by int, change ...func(*Options)) {
	for range by {
		var join []string
		for _, n := range c.nodes() {
			join = append(join, n.Addr())
		}
		dir := filepath.Join(c.base, fmt.Sprint("n", len(join)+1))
		o := testOptions(c.t, dir, join...)
		for _, f := range change {
			f(&o)
		}
		c.set(dir, startNode(c.t, o))
	}
}

func (c *testCluster) set(dir string, n *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == nil {
		delete(c.by, dir)
	} else {
		c.by[dir] = n
	}
}

func (c *testCluster) nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Node
	for _, n := range c.by {
		out = append(out, n)
	}
	return out
}

// status is the driver's view, from any node.
func (c *testCluster) status(client *testClient) *locuspb.StatusResponse {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, n := range c.nodes() {
		if s, err := client.locus(n).Status(ctx, &locuspb.StatusRequest{}); err == nil {
			return s
		}
	}
	return &locuspb.StatusResponse{}
}

// leader of a range, as the nodes see themselves.
func (c *testCluster) leader(id ids.RangeID) *Node {
	for _, n := range c.nodes() {
		if r, ok := n.store.Range(id); ok && r.Leaseholder {
			return n
		}
	}
	return nil
}

// crash ends a node as a kill does: nothing is handed over, said to anybody, or checkpointed.
func crash(t testing.TB, n *Node) {
	t.Helper()
	n.stopOnce.Do(func() {
		n.grpc.Stop()
		n.runner.close() // a kill needs no such thing: it closes no engine
		n.raft.Close()
		n.ticking()
		n.executor.Close()
		n.cancel()
		_ = n.gossip.Abort()
		_ = n.http.Close()
		n.endBackground()
		defer close(n.stopped) // also if this fails, or the node's cleanup waits for ever
		require.NoError(t, n.closeFiles())
	})
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 3)
	client := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(client)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3 && s.Ranges >= 3
	})

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	created, err := client.locus(c.nodes()[0]).CreateKeyspace(ctx, &locuspb.CreateKeyspaceRequest{
		Name: "flights", Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}, SplitAt: [][]byte{[]byte("g"), []byte("p")},
	})
	require.NoError(t, err)
	l := clustermap.LayoutOf(created.Keyspace)

	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				require.NoError(t, client.put(l, fmt.Sprintf("%c/%03d", 'c'+2*w, i), "v"))
			}
		})
	}
	wg.Wait()
	for _, n := range c.nodes() {
		result, last, err := client.run(n, l, "rows", 0)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(writers*each), result)
		require.GreaterOrEqual(t, last.Progress.RangesDone, uint64(3))
	}

	// The leader of the counter's range dies; so does the driver's node if they are one.
	counted := 0
	for range 5 {
		got, err := client.call(l, "count", "k/counter", 1)
		require.NoError(t, err)
		counted++
		require.Equal(t, fmt.Sprint(counted), got)
	}
	piece, ok := c.nodes()[0].cmap.Locate(l.Encode([]byte("k/counter")))
	require.True(t, ok)
	var victim *Node
	eventually(t, "a leader", func() bool { victim = c.leader(piece.Route.Descriptor.ID); return victim != nil })
	dir := victim.o.Data
	c.set(dir, nil)
	crash(t, victim)
	for range 5 {
		got, err := client.call(l, "count", "k/counter", 1)
		require.NoError(t, err)
		counted++
		require.Equal(t, fmt.Sprint(counted), got)
	}
	result, _, err := client.run(c.nodes()[0], l, "rows", 0)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(writers*each+1), result)

	// It comes back at other ports, and takes part again.
	back := startNode(t, testOptions(t, dir, c.nodes()[0].Addr()))
	c.set(dir, back)
	require.Equal(t, victim.StoreID(), back.StoreID())
	eventually(t, "the node is back", func() bool {
		s := c.status(client)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && back.unready() == ""
	})
	result, _, err = client.run(back, l, "rows", 0)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(writers*each+1), result)
}

// All nodes die at once and come back at other addresses: who was told to join finds the one it was told of,
// before there is a driver to ask.
func TestWholeClusterMoves(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes, twice")
	}
	c := startCluster(t, 3)
	client := newTestClient(t, c.nodes)
	healthy := func() bool {
		s := c.status(client)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	}
	eventually(t, "three replicas of everything", healthy)
	require.NoError(t, client.put(defaultLayout, "a", "1"))
	old := c.nodes()
	for _, n := range old {
		c.set(n.o.Data, nil)
		crash(t, n)
	}
	var join []string
	for _, n := range old {
		again := startNode(t, testOptions(t, n.o.Data, join...))
		require.NotEqual(t, n.Addr(), again.Addr())
		c.set(n.o.Data, again)
		join = []string{c.nodes()[0].Addr()}
	}
	v, found, err := client.get(defaultLayout, "a")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "1", v)
	eventually(t, "all are back", healthy)
}

func TestRegisterFunction(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	client := newTestClient(t, c.nodes)
	eventually(t, "two nodes", func() bool { return c.status(client).LiveNodes == 2 })
	module, err := os.ReadFile(filepath.Join("..", "examples", "guests", "c", "fieldsum.wasm"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nodes := c.nodes()

	register := func(n *Node, name string, module []byte) (*locuspb.FunctionInfo, error) {
		resp, err := client.locus(n).RegisterFunction(ctx, &locuspb.RegisterFunctionRequest{Name: name, Module: module})
		return resp.GetFunction(), api.FromStatus(err)
	}
	info, err := register(nodes[0], "fieldsum", module)
	require.NoError(t, err)
	require.Equal(t, uint32(1), info.Version)
	require.Equal(t, "range", info.Kind)
	require.Equal(t, hashOf(module), info.Hash)
	again, err := register(nodes[1], "fieldsum", module)
	require.NoError(t, err)
	require.Equal(t, uint32(1), again.Version, "the same module is the same version")

	_, err = register(nodes[0], "square", module)
	require.ErrorContains(t, err, "native")
	_, err = register(nodes[0], "broken", []byte("not a module"))
	require.Error(t, err)
	_, err = register(nodes[0], "a/b", module)
	var invalid *api.InvalidArgumentError
	require.ErrorAs(t, err, &invalid)

	for _, n := range nodes {
		list, err := client.locus(n).ListFunctions(ctx, &locuspb.ListFunctionsRequest{})
		require.NoError(t, err)
		var names []string
		for _, f := range list.Functions {
			names = append(names, f.Name)
		}
		require.Equal(t, []string{"copy", "count", "locus.query", "locus.select", "rows", "square", "stray", "fieldsum"}, names)
		raw, err := hex.DecodeString(info.Hash)
		require.NoError(t, err)
		got, err := client.locus(n).FetchModule(ctx, &locuspb.FetchModuleRequest{Hash: raw})
		require.NoError(t, err)
		require.Equal(t, info.Hash, hashOf(got.Module))
	}
	for i := range 10 {
		require.NoError(t, client.put(defaultLayout, fmt.Sprint("doc", i), fmt.Sprintf(`{"delay":%d}`, i)))
	}
	for _, n := range nodes {
		result, last, err := client.run(n, defaultLayout, "fieldsum", "delay")
		require.NoError(t, err)
		require.JSONEq(t, `{"count":10,"sum":45}`, result)
		require.Equal(t, uint32(1), last.Version)
		_, _, err = client.run(n, defaultLayout, "fieldsum", 7)
		var own *api.FunctionError
		require.ErrorAs(t, err, &own)
		require.Equal(t, int64(1), own.Code)
	}
}
