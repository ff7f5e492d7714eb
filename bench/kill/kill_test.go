package kill

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/bench/cluster"
)

// size is how much a run of TestKill does.
type size struct {
	check.Pace
	writes, kills int
}

func sizes() size {
	s := size{writes: 2000, kills: 3, Pace: check.DefaultPace()}
	if *full {
		s = size{writes: 50_000, kills: 20, Pace: check.Pace{
			Between: 3 * time.Second, Down: 4 * time.Second, Paused: 5 * time.Second, MovesEvery: 2 * time.Second, Patience: time.Minute,
		}}
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
	t.Parallel()
	c := newCluster(t)
	rng := newRand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	begun := time.Now()

	require.NoError(t, c.Start(ctx, 3))
	l := startLoad(ctx, t, c, 8)
	memory := watchMemory(c)
	size := sizes()
	n := &check.Nemesis{Cluster: c, Load: l, Rand: rng, Pace: size.Pace}
	err := killAll(l.Context(), n, size)
	l.Stop()
	memory.stop()
	requireRight(t, l, l.Failure(err))
	t.Log(memory.report())
	t.Log(n.Report())
	t.Log(l.Report(time.Since(begun)))

	data := judge(ctx, t, l, 3)

	stopped := time.Now()
	require.NoError(t, cluster.StopAll(ctx, c.Nodes()...))
	t.Logf("orderly stop of all nodes: %s", round(time.Since(stopped)))
	started := time.Now()
	require.NoError(t, cluster.StartAll(ctx, c.Nodes()...))
	requireNoRecovery(ctx, t, c.Nodes()...)
	again, err := l.Digest(ctx)
	require.NoError(t, err)
	require.Equal(t, data, again, "the data after an orderly stop")
	t.Logf("started again, and read everything: %s", round(time.Since(started)))
	t.Log(messages(c))
	t.Logf("all of it took %s", round(time.Since(begun)))
}

// killAll makes all kills of the size, with pauses in between, and waits until there were enough writes.
func killAll(ctx context.Context, n *check.Nemesis, s size) error {
	if err := n.AwaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	defer n.MoveBeside(ctx, check.Split, check.Transfer)()
	for i := range s.kills {
		if !check.Pass(ctx, n.UpTo(s.Between)) {
			return context.Cause(ctx)
		}
		if err := n.KillAndStart(ctx, victims(n.Cluster.Nodes(), s.kills, i)); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		if err := n.PauseOne(ctx); err != nil {
			return fmt.Errorf("pause after kill %d: %w", i+1, err)
		}
	}
	return awaitCount(ctx, n.Load, s.writes)
}

func awaitCount(ctx context.Context, l *check.Load, writes int) error {
	return check.Poll(ctx, 10*time.Minute, func() (bool, error) { return l.Written() >= writes, nil })
}

// victims takes each node in turn, and then all at once.
func victims(nodes []*cluster.Node, kills, i int) []*cluster.Node {
	if kills < 4 { // one, another, all
		i = []int{0, 1, 3}[i%3]
	}
	if k := i % (len(nodes) + 1); k < len(nodes) {
		return nodes[k : k+1]
	}
	return nodes
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
