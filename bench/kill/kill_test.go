package kill

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/client"
)

// size is how much a run of TestKill does.
type size struct {
	writes, kills int
	// between two faults passes up to so much time, and a victim stays dead for up to so much.
	between, down time.Duration
	// paused is how long a process is stopped (SIGSTOP) after a kill, at most; elections take one to two seconds.
	paused time.Duration
	// movesEvery is how often ranges are split and leases moved beside it all.
	movesEvery time.Duration
	// patience is how long a range may take no write before that counts as a failure of its own.
	patience time.Duration
}

func sizes() size {
	s := size{
		writes: 2000, kills: 3, between: 500 * time.Millisecond, down: 500 * time.Millisecond,
		paused: 2 * time.Second, movesEvery: time.Second, patience: time.Minute,
	}
	if *full {
		s = size{
			writes: 50_000, kills: 20, between: 3 * time.Second, down: 4 * time.Second,
			paused: 5 * time.Second, movesEvery: 2 * time.Second, patience: time.Minute,
		}
	}
	if *kills > 0 {
		s.kills = *kills
	}
	if *writes > 0 {
		s.writes = *writes
	}
	return s
}

// TestKill kills each node in turn, and all three at once, and pauses some in between, while clients write
// unique keys, read, call a counter and work on registers. Then everything that clients were told has to be
// true.
func TestKill(t *testing.T) {
	c := newCluster(t)
	rng := newRand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	begun := time.Now()

	require.NoError(t, c.Start(ctx, 3))
	l := startLoad(ctx, t, c, 8)
	memory := watchMemory(c)
	f := &faults{t: t, cluster: c, load: l, rng: rng, size: sizes()}
	err := f.run(l.ctx)
	l.stop()
	memory.stop()
	require.NoError(t, l.failure(err))
	t.Log(memory.report())
	t.Log(f.report())
	t.Log(l.report(time.Since(begun)))

	admin := open(ctx, t, c.Addrs())
	awaitHealthy(ctx, t, admin, 3)
	data := l.judge(ctx, t, c, admin)

	stopped := time.Now()
	require.NoError(t, cluster.StopAll(ctx, c.Nodes()...))
	t.Logf("orderly stop of all nodes: %s", round(time.Since(stopped)))
	started := time.Now()
	require.NoError(t, cluster.StartAll(ctx, c.Nodes()...))
	requireNoRecovery(ctx, t, c.Nodes()...)
	require.Equal(t, data, digest(scan(ctx, t, admin)), "the data after an orderly stop")
	t.Logf("started again, and read everything: %s", round(time.Since(started)))
	t.Log(messages(c))
	t.Logf("all of it took %s", round(time.Since(begun)))
}

// requireNoRecovery wants nodes that had next to nothing to undo when they started, as after an orderly stop:
// what was applied while the last checkpoint was being written is undone and applied again.
func requireNoRecovery(ctx context.Context, t *testing.T, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		m, err := n.Metrics(ctx)
		require.NoError(t, err)
		require.Contains(t, m, undone)
		require.Less(t, m[undone], 100.0, "%s recovered after an orderly stop", n.Name())
	}
}

// undone is the metric of how many sequences recovery undid when a store was opened: thousands after a crash
// under load.
const undone = "locus_recovery_undone_sequences_total"

// open is a client whose operations may take as long as any recovery does.
func open(ctx context.Context, t *testing.T, addrs []string) *client.DB {
	t.Helper()
	db, err := client.Open(ctx, client.Options{Addrs: addrs, Timeout: opTimeout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// awaitHealthy waits until so many nodes live and every range has its replicas and a leaseholder.
func awaitHealthy(ctx context.Context, t *testing.T, db *client.DB, live uint64) {
	t.Helper()
	var s client.Status
	err := poll(ctx, time.Minute, func() (bool, error) {
		var err error
		s, err = db.Status(ctx)
		return err == nil && s.LiveNodes >= live && s.Ranges > 0 && s.UnderReplicated == 0 && s.Unavailable == 0, err
	})
	require.NoError(t, err, "the cluster does not become healthy: %+v", s)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
