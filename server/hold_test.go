package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/ids"
)

// Rule C9, end to end, with a retention window of seconds: a snapshot that is held is read as it was for as long as it is held,
// by gets and by functions, also under the next driver; one that is not held is refused once the window has passed it, with the
// oldest timestamp that works, which is the held one.
func TestHeldSnapshot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes and a retention window")
	}
	c := startCluster(t, 3, func(o *Options) { o.retention, o.checkpointTicks = 4*time.Second, 10 })
	probe := newTestClient(t, c.nodes)
	eventually(t, "three replicas of everything", func() bool {
		s := c.status(probe)
		return s.LiveNodes == 3 && s.Underreplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	db := openClient(t, c.nodes())
	require.NoError(t, db.CreateKeyspace(ctx, "h", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("m")}}))
	ks := db.Keyspace("h")
	writes := 0
	write := func() {
		for _, k := range []string{"a", "z"} {
			_, err := ks.Put(ctx, fmt.Appendf(nil, "%s%d", k, writes), nil)
			require.NoError(t, err)
			_, err = ks.Put(ctx, []byte(k), fmt.Append(nil, writes))
			require.NoError(t, err)
		}
		writes++
	}
	get := func(s *client.Snapshot, key string) (string, error) {
		item, err := s.Keyspace("h").Get(ctx, []byte(key))
		return string(item.Value), err
	}
	refused := func(s *client.Snapshot) (oldest client.Timestamp) {
		eventually(t, "a snapshot is let go", func() bool {
			write()
			var gone *client.TimestampUnavailableError
			for _, k := range []string{"a", "z"} {
				_, err := get(s, k)
				if !errors.As(err, &gone) {
					require.NoError(t, err)
					return false
				}
			}
			oldest = gone.Oldest
			return true
		})
		return oldest
	}

	write()
	free, err := db.Snapshot(ctx)
	require.NoError(t, err)
	_, err = get(free, "a")
	require.NoError(t, err, "within the window")
	// A hold keeps a little more than its own: what clocks may be apart, and what lies between two samples of the store's, which are
	// further apart where the machine is busy.
	pass := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			write()
		}
	}
	pass(6 * time.Second)
	then := writes - 1
	held, err := db.Snapshot(ctx, client.Hold(10*time.Minute))
	require.NoError(t, err)
	eventually(t, "the hold is in the status", func() bool { return c.status(probe).Holds == 1 })
	stores, drivers, age := c.holdMetrics()
	require.Equal(t, 3, stores)
	require.Equal(t, 1, drivers)
	require.Greater(t, age, 0.0)
	require.Less(t, age, 60.0)

	refused(free)
	var home *Node
	eventually(t, "the driver has moved", func() bool {
		now := c.leader(ids.SystemRange)
		if home == nil {
			home = now
		}
		if now == nil || now != home {
			return now != nil
		}
		for _, n := range c.nodes() {
			if n != now {
				soon, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				_ = db.TransferRange(soon, client.RangeID(ids.SystemRange), client.StoreID(n.ident.StoreID))
				break
			}
		}
		return false
	})
	pass(6 * time.Second)
	eventually(t, "the oldest that works is the held one", func() bool {
		oldest := refused(free)
		require.LessOrEqual(t, oldest, held.Timestamp())
		return oldest == held.Timestamp()
	})
	rows := client.NewRangeFunc[int64, int64]("rows")
	for _, k := range []string{"a", "z"} {
		v, err := get(held, k)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(then), v)
	}
	n, err := rows.Run(ctx, ks.All(), 0, client.AtTimestamp(held.Timestamp()))
	require.NoError(t, err)
	require.EqualValues(t, 2*then+4, n)

	var gone *client.TimestampUnavailableError
	_, err = rows.Run(ctx, ks.All(), 0, client.AtTimestamp(free.Timestamp()), client.Hold(time.Minute))
	require.ErrorAs(t, err, &gone, "it is too late to hold it")
	require.Equal(t, free.Timestamp(), gone.Timestamp)
	require.Greater(t, gone.Oldest, free.Timestamp())

	require.NoError(t, held.Close())
	require.Greater(t, refused(held), held.Timestamp())
	require.Zero(t, c.status(probe).Holds)
	stores, drivers, age = c.holdMetrics()
	require.Zero(t, stores+drivers)
	require.Zero(t, age)
}

// holdMetrics sums up what the nodes' metrics say of holds; the age is the highest.
func (c *testCluster) holdMetrics() (stores, drivers int, age float64) {
	for _, n := range c.nodes() {
		_, body := fetch(c.t, n, "/metrics")
		value := func(name string) (v float64) {
			_, rest, found := strings.Cut(body, "\n"+name+" ")
			require.True(c.t, found, name)
			_, err := fmt.Sscan(rest, &v)
			require.NoError(c.t, err)
			return v
		}
		held, known := value("locus_holds"), value("locus_driver_holds")
		stores, drivers = stores+int(held), drivers+int(known)
		ofStore, ofDriver := value("locus_oldest_hold_age_seconds"), value("locus_driver_oldest_hold_age_seconds")
		require.Equal(c.t, held > 0, ofStore > 0)
		require.Equal(c.t, known > 0, ofDriver > 0)
		age = max(age, ofStore, ofDriver)
	}
	return stores, drivers, age
}
