package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

func TestMinFree(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct{ option, capacity, want uint64 }{
		{0, 1000 * gib, 50 * gib},
		{0, 20 * gib, gib},
		{0, 10 * gib, gib},
		{0, gib, gib / 100 * 20},
		{0, 0, 0},
		{7, 1000 * gib, 7},
		{2 * gib, gib, 2 * gib},
	} {
		require.Equal(t, tc.want, minFree(tc.option, tc.capacity), "%+v", tc)
	}
}

// TestDiskIsNearlyFull: below the limit, until there is a tenth more; a look that fails changes nothing.
func TestDiskIsNearlyFull(t *testing.T) {
	var available uint64
	var err error
	var log bytes.Buffer
	available = 1000
	d := newDisk(func() (uint64, uint64, error) { return 1 << 20, available, err }, 1000, slog.New(slog.NewTextHandler(&log, nil)))
	look := func(now uint64, changed, full bool) {
		t.Helper()
		available = now
		require.Equal(t, changed, d.look())
		require.Equal(t, full, d.state.Load().full)
	}
	look(1000, false, false)
	look(999, true, true)
	look(1000, false, true)
	look(1099, false, true)
	err = errors.New("stale file handle")
	look(5000, false, true)
	look(5000, false, true)
	require.Equal(t, 1, strings.Count(log.String(), "stale file handle"))
	err = nil
	look(1100, true, false)
	look(1000, false, false)
	look(0, true, true)

	// A store that is nearly full when its node starts refuses from the first request on.
	require.True(t, newDisk(d.usage, 1000, slog.New(slog.DiscardHandler)).state.Load().full)
}

// ledStore leads, or not, one range with replicas on stores 1, 2 and 3.
type ledStore struct {
	*fakeStore
	leads bool
}

func (s ledStore) Range(id ids.RangeID) (raftstore.RangeInfo, bool) {
	d := &topology.Descriptor{ID: id}
	for i := range 3 {
		d.Replicas = append(d.Replicas, topology.Replica{Store: ids.StoreID(i + 1), ID: ids.ReplicaID(i + 1), Role: topology.Voter})
	}
	return raftstore.RangeInfo{Descriptor: d, Leaseholder: s.leads}, id == 7
}

// TestDiskFull: what is refused, and because of which stores.
func TestDiskFull(t *testing.T) {
	key := defaultLayout.Encode([]byte("a"))
	put := &locuspb.Mutation{Key: key, Value: []byte("v")}
	del := &locuspb.Mutation{Key: key, Delete: true}
	write := func(w *locuspb.WriteRequest) *locuspb.Request {
		return &locuspb.Request{RangeId: 7, Session: &locuspb.Session{}, Op: &locuspb.Request_Write{Write: w}}
	}
	call := func(function string, dry bool) *locuspb.Request {
		c := &locuspb.CallRequest{Function: function, Key: key, Argument: []byte("1"), Codec: locuspb.Codec_JSON, DryRun: dry}
		return &locuspb.Request{RangeId: 7, Session: &locuspb.Session{}, Op: &locuspb.Request_Call{Call: c}}
	}
	requests := map[string]*locuspb.Request{
		"a put":              write(&locuspb.WriteRequest{Mutations: []*locuspb.Mutation{put}}),
		"a batch with a put": write(&locuspb.WriteRequest{Mutations: []*locuspb.Mutation{del, put}}),
		"a read-write call":  call("count", false),

		"a delete":         write(&locuspb.WriteRequest{Mutations: []*locuspb.Mutation{del}}),
		"conditions alone": write(&locuspb.WriteRequest{Conditions: []*locuspb.Condition{{Key: key}}}),
		"a span's erasure": write(&locuspb.WriteRequest{DeleteSpan: true, Span: api.SpanToProto(defaultLayout.All())}),
		"the cluster's own": write(&locuspb.WriteRequest{Mutations: []*locuspb.Mutation{
			{Key: systemLayout.Encode([]byte("id/office")), Value: []byte("1")},
		}}),
		"a dry run": call("count", true),
		"a get":     {RangeId: 7, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}},
		"a scan":    {RangeId: 7, Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(keys.KeySpan(key))}}},
	}
	adds := map[string]bool{"a put": true, "a batch with a put": true, "a read-write call": true}
	own := newDisk(func() (uint64, uint64, error) { return 1 << 40, 5, nil }, 1000, slog.New(slog.DiscardHandler))
	for _, tc := range []struct {
		name   string
		leads  bool
		disk   *disk
		others []*locuspb.NodeInfo
		want   *api.DiskFullError
	}{
		{"room everywhere", true, plenty(), nil, nil},
		{"this store", true, own, nil, &api.DiskFullError{Store: 1, Free: 5, Limit: 1000}},
		{"this store, which does not lead", false, own, nil, nil},
		{"a follower's", true, plenty(), []*locuspb.NodeInfo{{StoreId: 3, NearlyFull: true, AvailableBytes: 6, MinFreeBytes: 2000, State: "up"}}, &api.DiskFullError{Store: 3, Free: 6, Limit: 2000}},
		{"a suspect follower's", true, plenty(), []*locuspb.NodeInfo{{StoreId: 3, NearlyFull: true, State: "suspect"}}, &api.DiskFullError{Store: 3}},
		{"a dead follower's", true, plenty(), []*locuspb.NodeInfo{{StoreId: 3, NearlyFull: true, State: "dead"}}, nil},
		{"another store's", true, plenty(), []*locuspb.NodeInfo{{StoreId: 4, NearlyFull: true, State: "up"}}, nil},
		{"this store, by old news", true, plenty(), []*locuspb.NodeInfo{{StoreId: 1, NearlyFull: true, State: "up"}}, nil},
	} {
		fake := &fakeStore{}
		fake.answerAll(&locuspb.Response{})
		s := ledStore{fake, tc.leads}
		d := newTestDispatcher(t, s)
		d.room = &room{self: 1, disk: tc.disk, cmap: d.cmap, store: s}
		d.cmap.Apply(&locuspb.HeartbeatResponse{MapVersion: 2, Nodes: append(tc.others, &locuspb.NodeInfo{StoreId: 2, State: "up"})})
		for name, req := range requests {
			asked := fake.asked.Load()
			resp := ask(t, d, fromNode, req)
			if tc.want == nil || !adds[name] {
				require.Nil(t, resp.Error, "%s, %s", tc.name, name)
				require.Equal(t, asked+1, fake.asked.Load())
				continue
			}
			require.Equal(t, tc.want, api.FromProto(resp.Error), "%s, %s", tc.name, name)
			require.Equal(t, asked, fake.asked.Load(), "%s, %s: refused before anything is proposed", tc.name, name)
		}
		if tc.want != nil {
			require.Equal(t, uint64(len(adds)), d.room.refused.Load())
		}
		// What can't be a request at all is told so first.
		bad := write(&locuspb.WriteRequest{Mutations: []*locuspb.Mutation{put, {Key: defaultLayout.Encode([]byte("b")), Value: []byte("v")}}})
		require.Equal(t, uint32(api.CodeNotOneGroup), ask(t, d, fromClient, bad).Error.GetCode())
	}
}

// TestDiskFullCluster: three nodes, one of whose disks becomes nearly full and has room again. No leaseholder takes puts
// meanwhile, and all take reads, deletes and splits.
func TestDiskFullCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	free := map[string]*atomic.Uint64{} // by data directory
	c := startCluster(t, 3, func(o *Options) {
		f := &atomic.Uint64{}
		f.Store(5000)
		free[o.Data] = f
		o.MinFreeBytes = 1000
		o.fileSystem = func() (uint64, uint64, error) { return 10_000, f.Load(), nil }
	})
	client := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(client)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3 && s.Ranges >= 3
	})
	require.NoError(t, client.put(defaultLayout, "kept", "1"))
	require.NoError(t, client.put(defaultLayout, "deleted", "1"))

	// A store that does not lead the range, so that its leaseholder has to be told.
	var victim *Node
	eventually(t, "a follower", func() bool {
		for _, n := range c.nodes() {
			if leader := c.leader(2); leader != nil && n != leader {
				victim = n
			}
		}
		return victim != nil
	})
	free[victim.o.Data].Store(999)
	var full *api.DiskFullError
	eventually(t, "puts are refused", func() bool { return errors.As(client.put(defaultLayout, "deleted", "2"), &full) })
	require.Equal(t, &api.DiskFullError{Store: victim.StoreID(), Free: 999, Limit: 1000}, full)
	_, err := client.call(defaultLayout, "count", "counter", 1)
	require.ErrorAs(t, err, &full)
	eventually(t, "the status says so", func() bool {
		s := c.status(client)
		return len(s.NearlyFull) == 1 && s.NearlyFull[0] == victim.StoreID()
	})

	v, found, err := client.get(defaultLayout, "kept")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "1", v)
	require.NoError(t, client.delete(defaultLayout, "deleted"))
	_, found, err = client.get(defaultLayout, "deleted")
	require.NoError(t, err)
	require.False(t, found)
	require.NoError(t, client.split(victim, defaultLayout, "m"))
	require.ErrorAs(t, client.put(defaultLayout, "n", "1"), &full)
	result, _, err := client.run(victim, defaultLayout, "rows", 0)
	require.NoError(t, err)
	require.Equal(t, "1", result)

	free[victim.o.Data].Store(1100)
	eventually(t, "puts work again", func() bool { return client.put(defaultLayout, "again", "1") == nil })
	_, err = client.call(defaultLayout, "count", "counter", 1)
	require.NoError(t, err)
	eventually(t, "the status says so", func() bool { return len(c.status(client).NearlyFull) == 0 })
}
