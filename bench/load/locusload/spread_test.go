package locusload

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/server"
)

// lead makes n ranges of a keyspace, led by a store, with voters on all three.
func lead(ranges []client.RangeInfo, keyspace string, store client.StoreID, n int) []client.RangeInfo {
	for range n {
		r := client.RangeInfo{ID: client.RangeID(len(ranges) + 1), Keyspace: keyspace, Leaseholder: store}
		for s := range client.StoreID(3) {
			r.Replicas = append(r.Replicas, client.ReplicaInfo{Store: s + 1, Role: "voter"})
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// TestMoves: what is moved evens out the keyspace, and gives the driver no reason to move anything back.
func TestMoves(t *testing.T) {
	for _, tc := range []struct {
		name       string
		own, other [3]int // leases
		want       [3]int // own, in the end
		swapped    bool
	}{
		{name: "nothing to do", own: [3]int{4, 4, 4}, other: [3]int{1, 1, 1}, want: [3]int{4, 4, 4}},
		{name: "a difference of one stays", own: [3]int{5, 4, 4}, other: [3]int{0, 1, 0}, want: [3]int{5, 4, 4}},
		{name: "within the driver's tolerance", own: [3]int{12, 0, 0}, other: [3]int{333, 333, 333}, want: [3]int{4, 4, 4}},
		{name: "others go back for it", own: [3]int{9, 0, 0}, other: [3]int{0, 9, 9}, want: [3]int{3, 3, 3}, swapped: true},
		{name: "the system's range goes nowhere", own: [3]int{3, 1, 1}, other: [3]int{0, 0, 0}, want: [3]int{2, 1, 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ranges := lead(nil, systemKeyspace, 2, 1)
			for i := range client.StoreID(3) {
				ranges = lead(ranges, "bench", i+1, tc.own[i])
				ranges = lead(ranges, "other", i+1, tc.other[i])
			}
			nodes := []client.NodeInfo{{Store: 1, State: "up"}, {Store: 2, State: "up"}, {Store: 3, State: "up"}, {Store: 4, State: "dead"}}
			calm := even(leasesOf("bench", nodes, ranges).all, []client.StoreID{1, 2, 3})
			swapped := false
			for range 10 {
				for _, m := range leasesOf("bench", nodes, ranges).moves() {
					r := &ranges[m.id-1]
					require.NotEqual(t, systemKeyspace, r.Keyspace)
					swapped = swapped || r.Keyspace == "other"
					r.Leaseholder = m.to
				}
			}
			l := leasesOf("bench", nodes, ranges)
			require.Empty(t, l.moves())
			require.Equal(t, tc.want, [3]int{l.own[1], l.own[2], l.own[3]})
			require.True(t, !calm || even(l.all, l.stores), "%s", l)
			require.Equal(t, tc.swapped, swapped)
		})
	}
}

func TestMovesFollowTheReplicas(t *testing.T) {
	ranges := lead(nil, "bench", 1, 6)
	for i := range ranges {
		ranges[i].Replicas = ranges[i].Replicas[:2] // none on store 3
	}
	nodes := []client.NodeInfo{{Store: 1, State: "up"}, {Store: 2, State: "up", ClockOff: true}, {Store: 3, State: "up"}}
	require.Empty(t, leasesOf("bench", nodes, ranges).moves(), "nobody may lead but store 1")
	nodes[1].ClockOff = false
	require.Len(t, leasesOf("bench", nodes, ranges).moves(), 3)
	l := leasesOf("bench", nodes, lead(ranges, "bench", 0, 2))
	require.Equal(t, 8, l.led())
	require.Equal(t, 3, l.placed())
	require.Equal(t, "nobody is known to lead 2 of it and 2 in all, store 1 leads 6 of it and 6 in all", l.String())
}

// TestPrepareSpreads: with the driver of a real cluster at work, Prepare comes to an end with even leaseholders, also of a
// keyspace that is small beside another.
func TestPrepareSpreads(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	t.Parallel()
	var addrs []string
	for range 3 {
		n, err := server.Start(t.Context(), server.Options{
			Data: t.TempDir(), Listen: "127.0.0.1:0", Join: addrs, Insecure: true, Logger: slog.New(slog.DiscardHandler), MinFreeBytes: 1,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Stop(context.Background())) })
		addrs = append(addrs, n.Addr())
	}
	db, err := client.Open(t.Context(), client.Options{Addrs: addrs, Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for _, tc := range []struct{ ranges, apart int }{{60, 1}, {12, 1}} {
		name := fmt.Sprint("bench", tc.ranges)
		placed := 0
		require.NoError(t, Prepare(t.Context(), db, name, tc.ranges, func(n int) { placed = n }))
		l, err := look(t.Context(), db, name)
		require.NoError(t, err)
		require.Equal(t, tc.ranges, l.led())
		require.GreaterOrEqual(t, placed, tc.ranges-2)
		for _, a := range l.stores {
			for _, b := range l.stores {
				require.LessOrEqual(t, l.own[a]-l.own[b], tc.apart+1, "%s", l) // one may be on its way
			}
		}
	}
}
