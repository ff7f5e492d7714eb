package kill

import (
	"context"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
	"github.com/locuskv/locus/client"
)

// TestDriverThatWasReplaced: the node that runs the placement driver is cut off from the others while the range of the driver's
// records is quiet, so that nothing tells it of the next driver. A version that is activated there is the only one that runs, on
// the node that was cut off too: it does not vouch to itself for what it knew.
func TestDriverThatWasReplaced(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs addresses of 127.0.0.0/8")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	o := cluster.Options{Binary: *locus, Links: true, Args: []string{"--log-level", *level}}
	c := clustertest.New(t, o, *keep)
	require.NoError(t, c.Start(ctx, 3))
	db, err := client.Open(ctx, client.Options{Addrs: c.Addrs()})
	require.NoError(t, err)
	defer db.Close()
	module, err := os.ReadFile("../../udf/wasm/testdata/hostile.wasm")
	require.NoError(t, err)
	for range 2 {
		_, err = db.RegisterFunction(ctx, "pure", module)
		require.NoError(t, err)
		module = append(module, 0, 2, 1, 'x') // a section that says nothing: it is another module
	}
	old := driverOf(ctx, t, c)
	for _, n := range c.Nodes() {
		version, err := pureAt(ctx, t, n)
		require.NoError(t, err)
		require.Equal(t, uint32(2), version)
	}
	awaitQuiet(ctx, t, c)

	var others []string
	at := slices.Index(c.Nodes(), old)
	for i, n := range c.Nodes() {
		if i != at {
			others = append(others, n.Addr())
			c.Links().Set(i, at, cluster.Link{Cut: true})
			c.Links().Set(at, i, cluster.Link{Cut: true})
		}
	}
	there, err := client.Open(ctx, client.Options{Addrs: others})
	require.NoError(t, err)
	defer there.Close()
	_, _, err = there.RollbackFunction(ctx, "pure")
	require.NoError(t, err)
	for range 5 { // for longer than a node goes by what it has heard
		short, stop := context.WithTimeout(ctx, time.Second)
		version, err := pureAt(short, t, old)
		stop()
		require.Error(t, err, "version %d ran", version)
	}
	c.Links().Heal()
	version, err := pureAt(ctx, t, old)
	require.NoError(t, err)
	require.Equal(t, uint32(1), version)
}

// awaitQuiet waits until all ranges are quiet: no replica has woken or fallen quiet for as long as one takes to fall quiet.
func awaitQuiet(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	var last float64
	for since := time.Now(); time.Since(since) < 8*time.Second; time.Sleep(100 * time.Millisecond) {
		require.NoError(t, ctx.Err(), "the ranges don't fall quiet")
		var now float64
		for _, n := range c.Nodes() {
			m, err := n.Metrics(ctx)
			require.NoError(t, err)
			now += m["locus_fell_quiet_total"] + m["locus_propose_entries_total"] + m["locus_read_requests_total"]
		}
		if now != last {
			last, since = now, time.Now()
		}
	}
	require.Positive(t, last)
}

// driverOf is the node that runs the placement driver.
func driverOf(ctx context.Context, t *testing.T, c *cluster.Cluster) *cluster.Node {
	t.Helper()
	for ctx.Err() == nil {
		for _, n := range c.Nodes() {
			m, err := n.Metrics(ctx)
			require.NoError(t, err)
			if m["locus_driver"] == 1 {
				return n
			}
		}
	}
	t.Fatal("no node runs the placement driver")
	return nil
}

// pureAt has one node, and no other, run pure, and says in which version.
func pureAt(ctx context.Context, t *testing.T, n *cluster.Node) (version uint32, err error) {
	t.Helper()
	conn, err := grpc.NewClient(n.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	stream, err := locuspb.NewLocusClient(conn).Batch(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&locuspb.BatchRequest{Requests: []*locuspb.Request{{Id: 1, Op: &locuspb.Request_Call{
		Call: &locuspb.CallRequest{Function: "pure", Codec: locuspb.Codec_RAW},
	}}}}))
	frame, err := stream.Recv()
	if err != nil {
		return 0, api.FromStatus(err)
	}
	resp := frame.Responses[0]
	return resp.GetCall().GetVersion(), api.FromProto(resp.Error)
}
