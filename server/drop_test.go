package server

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

func openClient(t *testing.T, nodes []*Node) *client.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := client.Options{}
	for _, n := range nodes {
		o.Addrs = append(o.Addrs, n.Addr())
	}
	db, err := client.Open(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// Once a drop has returned, nobody reads or writes the keyspace any more, not even who knows its id; and once
// the name is there again, it is the new keyspace for all.
func TestDropIsSeenByAll(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 3)
	probe := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(probe)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	first, second := openClient(t, c.nodes()), openClient(t, c.nodes())
	key := func(i int) []byte { return []byte{byte('a' + i)} }
	var missing *client.KeyspaceNotFoundError
	count := client.NewFunc[int64, int64]("count")
	rows := client.NewRangeFunc[int64, int64]("rows")
	ks := second.Keyspace("t")

	require.ErrorAs(t, first.DropKeyspace(ctx, "t"), &missing)
	require.Equal(t, "t", missing.Name)
	for round := range 4 {
		require.NoError(t, first.CreateKeyspace(ctx, "t", client.KeyspaceOptions{SplitAt: [][]byte{key(2), key(4)}}))
		if round > 0 {
			// The second client has the id of the one before.
			switch round {
			case 1:
				_, err := ks.Get(ctx, key(0))
				require.ErrorIs(t, err, client.ErrNotFound)
			case 2:
				n, err := count.Call(ctx, ks.Key(key(0)), 1)
				require.NoError(t, err)
				require.Equal(t, int64(1), n)
			case 3:
				for item, err := range ks.Scan(ctx, ks.All()) {
					t.Fatalf("the new keyspace is not empty: %v, %v", item, err)
				}
			}
		}
		for i := range 6 {
			_, err := ks.Put(ctx, key(i), []byte("1"))
			require.NoError(t, err)
		}
		info, err := ks.Info(ctx)
		require.NoError(t, err)
		old := keys.Layout{ID: ids.KeyspaceID(info.ID)}
		require.NoError(t, first.DropKeyspace(ctx, "t"))
		for _, n := range c.nodes() {
			require.True(t, n.cmap.Gone(old.ID), "node %s serves it still", n.NodeID())
			_, _, err := probe.run(n, old, "rows", 0)
			require.ErrorAs(t, err, &missing)
		}
		for i := range 6 {
			_, _, err := probe.get(old, string(key(i)))
			require.ErrorAs(t, err, &missing)
			require.ErrorAs(t, probe.put(old, string(key(i)), "2"), &missing)
			_, err = probe.call(old, "count", string(key(i)), 1)
			require.ErrorAs(t, err, &missing)
		}
		if round == 0 {
			for i := range 6 {
				_, err := ks.Get(ctx, key(i))
				require.ErrorAs(t, err, &missing)
				_, err = ks.Put(ctx, key(i), []byte("2"))
				require.ErrorAs(t, err, &missing)
				require.Equal(t, "t", missing.Name)
			}
			_, err = rows.Run(ctx, ks.All(), 0)
			require.ErrorAs(t, err, &missing)
		}
		require.ErrorAs(t, first.DropKeyspace(ctx, "t"), &missing)
	}
}
