package kill

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
)

var (
	cuts    = flag.Int("kill.cuts", 2, "how often TestPowerLoss cuts the power")
	byNames = flag.Bool("kill.names-by-directory", false, "TestPowerLoss: the sync of a file does not make its name durable")
	without = flag.Bool("kill.without-sync", false, "TestPowerLoss: nodes leave out 19 of 20 syncs of their log, and the test has to fail")
)

// TestPowerLoss kills all nodes at once while clients work, and takes away what they had not synced: every other time all
// of it, else any part. The nodes have to open what is left, and everything that clients were told has to be true.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	disk := newDisk(t)
	o := cluster.Options{Binary: *locus, Args: []string{"--log-level", *level}, Data: disk.Dir()}
	if *without {
		o.Binary = clustertest.Binary(t, "-overlay", withoutSync(t))
	}
	c := clustertest.New(t, o, *keep)
	t.Cleanup(func() { rescue(t, c, disk) })
	rng := newRand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	begun := time.Now()

	require.NoError(t, c.Start(ctx, 3))
	l := startLoad(ctx, t, c, 4)
	size := sizes()
	p := &power{t: t, disk: disk, nemesis: &check.Nemesis{Cluster: c, Load: l, Rand: rng, Pace: size.Pace}}
	err := p.losses(l.Context(), *cuts, size.writes)
	l.Stop()
	requireRight(t, l, l.Failure(err))
	t.Log(p.nemesis.Report())
	t.Log(l.Report(time.Since(begun)))

	judge(ctx, t, l, 3)
	t.Log(messages(c))
	t.Logf("all of it took %s", round(time.Since(begun)))
}

// withoutSync is an overlay for go build under which a store acknowledges what is in no durable log.
func withoutSync(t *testing.T) string {
	const right = "if err := w.s.log.Sync(); err != nil {"
	return clustertest.Overlay(t, "raftstore/logwriter.go", "var syncs int",
		clustertest.Break{Right: right, Wrong: "if syncs++; syncs%20 != 0 {\n\t\t} else " + right})
}

func newDisk(t *testing.T) *clustertest.Disk {
	if *byNames {
		return clustertest.NewDisk(t, "-names-by-directory")
	}
	return clustertest.NewDisk(t)
}

// power is who cuts it.
type power struct {
	t       *testing.T
	disk    *clustertest.Disk
	nemesis *check.Nemesis
}

// losses cuts the power n times, and waits until there were enough writes.
func (p *power) losses(ctx context.Context, n, writes int) error {
	if err := p.nemesis.AwaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	defer p.nemesis.MoveBeside(ctx, check.Split, check.Transfer)()
	begun := time.Now()
	for i := range n {
		if !check.Pass(ctx, p.nemesis.UpTo(4*p.nemesis.Pace.Between)) {
			return context.Cause(ctx)
		}
		if err := p.loss(ctx, i%2 == 1, time.Since(begun)); err != nil {
			return fmt.Errorf("power loss %d: %w", i+1, err)
		}
	}
	return awaitCount(ctx, p.nemesis.Load, writes)
}

// loss is one loss of power, and the return.
func (p *power) loss(ctx context.Context, byChance bool, at time.Duration) error {
	nodes := p.nemesis.Cluster.Nodes()
	p.nemesis.Load.ResetPauses()
	acknowledged := p.nemesis.Load.Written()
	if err := cluster.KillAll(nodes...); err != nil {
		return err
	}
	killed := time.Now()
	lost, err := "", error(nil)
	if byChance {
		lost, err = p.disk.CutByChance(p.nemesis.Rand.Uint64())
	} else {
		lost, err = p.disk.Cut()
	}
	if err != nil {
		return err
	}
	p.t.Logf("%d writes acknowledged; lost %s", acknowledged, lost)
	i := check.Incident{Fault: "power", What: "all", At: at, Lasted: time.Since(killed)}
	return p.nemesis.Restart(ctx, i, nodes, killed)
}

// rescue copies what a test that failed left on the disk, which ends with it, to the logs.
func rescue(t *testing.T, c *cluster.Cluster, disk *clustertest.Disk) {
	if !t.Failed() {
		return
	}
	if err := cluster.KillAll(c.Nodes()...); err != nil {
		t.Logf("killing the nodes: %v", err)
	}
	to := filepath.Join(c.Dir(), "disk")
	if out, err := exec.Command("cp", "-r", "--sparse=always", disk.Dir(), to).CombinedOutput(); err != nil {
		t.Logf("copying the disk: %v: %s", err, out)
	}
}
