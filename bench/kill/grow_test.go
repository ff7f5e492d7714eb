package kill

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/client"
)

// TestGrow stops and starts nodes in order under load, adds an empty node, which gets replicas, and kills
// it. The full version also leaves a node dead until it is replaced, and lets it come back.
func TestGrow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	begun := time.Now()
	require.NoError(t, c.Start(ctx, 3))
	l := startLoad(ctx, t, c, 4)
	memory := watchMemory(c)
	g := &growth{t: t, cluster: c, load: l, admin: l.Admin()}
	err := g.run(l.Context())
	l.Stop()
	memory.stop()
	requireRight(t, l, l.Failure(err))
	t.Log(memory.report())
	t.Log(l.Report(time.Since(begun)))
	judge(ctx, t, l, 4)
	t.Log(messages(c))
}

// copies is how many replicas a range has.
const copies = 3

// growth is the story of TestGrow.
type growth struct {
	t       *testing.T
	cluster *cluster.Cluster
	load    *check.Load
	admin   *client.DB
}

func (g *growth) run(ctx context.Context) error {
	if err := g.awaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	for _, n := range g.cluster.Nodes() {
		if err := g.bounce(ctx, n); err != nil {
			return fmt.Errorf("stopping and starting %s: %w", n.Name(), err)
		}
	}
	fourth, err := g.join(ctx)
	if err != nil {
		return fmt.Errorf("a node joins: %w", err)
	}
	if err := g.killAndStart(ctx, fourth); err != nil {
		return fmt.Errorf("killing the node that joined: %w", err)
	}
	if !*full {
		return nil
	}
	if err := g.replace(ctx, g.cluster.Nodes()[1]); err != nil {
		return fmt.Errorf("a node stays dead: %w", err)
	}
	return nil
}

// bounce stops a node in order and starts it again.
func (g *growth) bounce(ctx context.Context, n *cluster.Node) error {
	g.load.ResetPauses()
	begun := time.Now()
	if err := n.Stop(ctx); err != nil {
		return err
	}
	stopped := time.Now()
	if err := g.awaitWrites(ctx, stopped); err != nil {
		return err
	}
	started := time.Now()
	if err := n.Start(ctx); err != nil {
		return err
	}
	serves := time.Now()
	requireNoRecovery(ctx, g.t, n)
	if err := g.awaitReady(ctx, n); err != nil {
		return err
	}
	if err := g.awaitWrites(ctx, serves); err != nil {
		return err
	}
	most, _ := g.load.Pauses()
	g.t.Logf("%s stopped in %s, served again %s after its start; longest pause of writes %s", n.Name(),
		round(stopped.Sub(begun)), round(serves.Sub(started)), round(most))
	return nil
}

// join adds a node and waits until it has replicas.
func (g *growth) join(ctx context.Context) (*cluster.Node, error) {
	n, err := g.cluster.Add()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	serves := time.Since(begun)
	if err := g.awaitReplicas(ctx, n); err != nil {
		return nil, err
	}
	g.t.Logf("%s served %s after its start, and had a replica after %s", n.Name(), round(serves), round(time.Since(begun)))
	return n, g.awaitWrites(ctx, time.Now())
}

// awaitReplicas waits until a node's store votes in a range.
func (g *growth) awaitReplicas(ctx context.Context, n *cluster.Node) error {
	return check.Poll(ctx, 2*time.Minute, func() (bool, error) {
		ranges, err := g.admin.Ranges(ctx)
		if err != nil {
			return false, err
		}
		for _, r := range ranges {
			for _, x := range r.Replicas {
				if uint64(x.Store) == n.Block().Store && x.Role == "voter" {
					return true, nil
				}
			}
		}
		return false, fmt.Errorf("%s has no replica", n.Name())
	})
}

func (g *growth) killAndStart(ctx context.Context, n *cluster.Node) error {
	if err := n.Kill(); err != nil {
		return err
	}
	if err := g.awaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	return g.awaitReady(ctx, n)
}

// replace leaves a node dead until no range counts on it, and starts it again: its replicas were removed in
// the meantime, and it has to learn that before it gets new ones.
func (g *growth) replace(ctx context.Context, n *cluster.Node) error {
	begun := time.Now()
	if err := n.Kill(); err != nil {
		return err
	}
	store := client.StoreID(n.Block().Store)
	err := check.Poll(ctx, 3*time.Minute, func() (bool, error) { return g.without(ctx, store) })
	if err != nil {
		return err
	}
	g.t.Logf("%s had no replica any more %s after its end", n.Name(), round(time.Since(begun)))
	if err := g.awaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	begun = time.Now()
	if err := n.Start(ctx); err != nil {
		return err
	}
	if err := g.awaitReplicas(ctx, n); err != nil {
		return err
	}
	g.t.Logf("%s came back and had a replica after %s", n.Name(), round(time.Since(begun)))
	return g.awaitReady(ctx, n)
}

// without says whether no range has a replica on a store, and each has all it should.
func (g *growth) without(ctx context.Context, store client.StoreID) (bool, error) {
	ranges, err := g.admin.Ranges(ctx)
	if err != nil {
		return false, err
	}
	for _, r := range ranges {
		for _, x := range r.Replicas {
			if x.Store == store {
				return false, fmt.Errorf("range %d still counts on store %d", r.ID, store)
			}
		}
		if len(r.Replicas) != copies {
			return false, fmt.Errorf("range %d has %d replicas", r.ID, len(r.Replicas))
		}
	}
	return true, nil
}

func (g *growth) awaitWrites(ctx context.Context, since time.Time) error {
	return g.load.AwaitWrites(ctx, since, time.Minute)
}

func (g *growth) awaitReady(ctx context.Context, n *cluster.Node) error {
	return check.AwaitReady(ctx, time.Minute, n)
}
