package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
)

// Rule C6, end to end: the leaseholder came by a snapshot that is younger than a timestamp; gets, scans and functions at the
// timestamp are served by the replica that was there. Where that one can't either, the error names the oldest that it can.
func TestYoungLeaseholder(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 1)
	first := c.nodes()[0]
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	db := openClient(t, c.nodes())
	require.NoError(t, db.CreateKeyspace(ctx, "y", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("m")}}))
	ks := db.Keyspace("y")
	for i, k := range []string{"a", "b", "y", "z"} {
		_, err := ks.Put(ctx, []byte(k), fmt.Append(nil, i))
		require.NoError(t, err)
	}
	snap, err := db.Snapshot(ctx)
	require.NoError(t, err)
	for _, k := range []string{"a", "c", "z"} {
		_, err := ks.Put(ctx, []byte(k), []byte("later"))
		require.NoError(t, err)
	}

	c.grow(2)
	probe := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(probe)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	// young has every range of the keyspace led by replicas that came by a snapshot. The driver balances leases meanwhile.
	young := func() bool {
		ranges, err := ks.Ranges(ctx)
		require.NoError(t, err)
		moved := len(ranges) > 0
		for _, r := range ranges {
			if uint64(r.Leaseholder) == uint64(first.StoreID()) || r.Leaseholder == 0 {
				moved = false
				for _, x := range r.Replicas {
					if uint64(x.Store) != uint64(first.StoreID()) {
						_ = db.TransferRange(ctx, r.ID, x.Store)
						break
					}
				}
			}
		}
		return moved
	}
	// while repeats what it is told until the leaseholders were young before and after.
	while := func(f func()) {
		t.Helper()
		eventually(t, "young leaseholders", func() bool {
			if !young() {
				return false
			}
			f()
			return young()
		})
	}
	scan := func(opts ...client.ReadOption) (out []string, err error) {
		for item, err := range ks.Scan(ctx, ks.All(), opts...) {
			if err != nil {
				return nil, err
			}
			out = append(out, string(item.Key)+"="+string(item.Value))
		}
		return out, nil
	}
	rows := client.NewRangeFunc[int64, int64]("rows")
	copies := client.NewRangeFunc[int64, string]("copy")

	while(func() {
		item, err := snap.Keyspace("y").Get(ctx, []byte("z"))
		require.NoError(t, err)
		require.Equal(t, "3", string(item.Value))
	})
	while(func() {
		got, err := scan(client.AtTimestamp(snap.Timestamp()))
		require.NoError(t, err)
		require.Equal(t, []string{"a=0", "b=1", "y=2", "z=3"}, got)
		got, err = scan(client.AtTimestamp(snap.Timestamp()), client.Reverse())
		require.NoError(t, err)
		require.Len(t, got, 4)
	})
	while(func() {
		n, err := rows.Run(ctx, ks.All(), 0, client.AtTimestamp(snap.Timestamp()))
		require.NoError(t, err)
		require.EqualValues(t, 4, n)
	})
	while(func() {
		n := 0
		for _, err := range copies.Stream(ctx, ks.All(), 0, client.AtTimestamp(snap.Timestamp())) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 4, n)
	})

	// Before everything there is nothing to be read; the first node's replicas say from when on.
	const before = client.Timestamp(1)
	while(func() {
		var gone *client.TimestampUnavailableError
		_, err := ks.Get(ctx, []byte("a"), client.AtTimestamp(before))
		require.ErrorAs(t, err, &gone)
		require.Less(t, gone.Oldest, snap.Timestamp())
		_, err = ks.Get(ctx, []byte("a"), client.AtTimestamp(gone.Oldest))
		require.ErrorIs(t, err, client.ErrNotFound, "the oldest that works")
		_, err = scan(client.AtTimestamp(before))
		require.ErrorAs(t, err, &gone)
		require.Less(t, gone.Oldest, snap.Timestamp())
		_, err = rows.Run(ctx, ks.All(), 0, client.AtTimestamp(before))
		require.ErrorAs(t, err, &gone)
		require.Equal(t, before, gone.Timestamp)
		require.Less(t, gone.Oldest, snap.Timestamp())
		n, err := rows.Run(ctx, ks.All(), 0, client.AtTimestamp(gone.Oldest))
		require.NoError(t, err)
		require.Zero(t, n)
	})
}
