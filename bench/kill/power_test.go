package kill

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
)

var (
	cuts    = flag.Int("kill.cuts", 2, "how often TestPowerLoss cuts the power")
	byNames = flag.Bool("kill.names-by-directory", false, "TestPowerLoss: the sync of a file does not make its name durable")
	without = flag.Bool("kill.without-sync", false, "TestPowerLoss: nodes leave out 19 of 20 syncs of their log, and the test has to fail")
)

// TestPowerLoss kills all nodes at once while clients work, and takes away what they had not synced: every other time all
// of it, else any part. The nodes have to open what is left, and everything that clients were told has to be true.
func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	disk := newDisk(t)
	o := cluster.Options{Binary: *locus, Keep: *keep, Args: []string{"--log-level", *level}, Data: disk.Dir()}
	if *without {
		o.Binary = cluster.Binary(t, "-overlay", withoutSync(t))
	}
	c := cluster.New(t, o)
	t.Cleanup(func() { rescue(t, c, disk) })
	rng := newRand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	begun := time.Now()

	require.NoError(t, c.Start(ctx, 3))
	l := startLoad(ctx, t, c, 4)
	f := &faults{t: t, cluster: c, load: l, rng: rng, size: sizes()}
	err := f.losses(l.ctx, disk, *cuts)
	l.stop()
	require.NoError(t, l.failure(err))
	t.Log(f.report())
	t.Log(l.report(time.Since(begun)))

	admin := open(ctx, t, c.Addrs())
	awaitHealthy(ctx, t, admin, 3)
	l.judge(ctx, t, c, admin)
	t.Log(messages(c))
	t.Logf("all of it took %s", round(time.Since(begun)))
}

// withoutSync is an overlay for go build under which a store acknowledges what is in no durable log.
func withoutSync(t *testing.T) string {
	t.Helper()
	const (
		file  = "raftstore/logwriter.go"
		right = "if err := w.s.log.Sync(); err != nil {"
		wrong = "if syncs++; syncs%20 != 0 {\n\t\t} else " + right
	)
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), right), "the line that syncs the log has changed")
	broken := strings.Replace(string(source), right, wrong, 1) + "\nvar syncs int\n"
	dir := t.TempDir()
	replaced := filepath.Join(dir, "logwriter.go")
	require.NoError(t, os.WriteFile(replaced, []byte(broken), 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, file): replaced}})
	require.NoError(t, err)
	name := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(name, overlay, 0o600))
	return name
}

func newDisk(t *testing.T) *cluster.Disk {
	if *byNames {
		return cluster.NewDisk(t, "-names-by-directory")
	}
	return cluster.NewDisk(t)
}

// losses cuts the power so often.
func (f *faults) losses(ctx context.Context, disk *cluster.Disk, n int) error {
	if err := f.awaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	movers, stopMoving := context.WithCancel(ctx)
	var wg sync.WaitGroup
	rng := rand.New(rand.NewPCG(f.rng.Uint64(), 1)) // of its own: f.rng is this goroutine's
	wg.Go(func() { f.move(movers, rng) })
	defer wg.Wait()
	defer stopMoving()
	begun := time.Now()
	for i := range n {
		if !pass(ctx, f.upTo(4*f.size.between)) {
			return context.Cause(ctx)
		}
		if err := f.loss(ctx, disk, i%2 == 1, time.Since(begun)); err != nil {
			return fmt.Errorf("power loss %d: %w", i+1, err)
		}
	}
	return poll(ctx, 10*time.Minute, func() (bool, error) { return f.load.acks.total() >= f.size.writes, nil })
}

// loss is one loss of power, and the return.
func (f *faults) loss(ctx context.Context, disk *cluster.Disk, byChance bool, at time.Duration) error {
	nodes := f.cluster.Nodes()
	f.load.acks.reset()
	acknowledged := f.load.acks.total()
	if err := cluster.KillAll(nodes...); err != nil {
		return err
	}
	killed := time.Now()
	lost, err := "", error(nil)
	if byChance {
		lost, err = disk.CutByChance(f.rng.Uint64())
	} else {
		lost, err = disk.Cut()
	}
	if err != nil {
		return err
	}
	f.t.Logf("%d writes acknowledged; lost %s", acknowledged, lost)
	e := fault{victims: []string{"all"}, at: at, down: time.Since(killed)}
	started := time.Now()
	if err := cluster.StartAll(ctx, nodes...); err != nil {
		return err
	}
	e.serve = time.Since(started)
	if err := f.awaitWrites(ctx, started); err != nil {
		return err
	}
	e.writes = time.Since(killed)
	if f.rng.IntN(3) > 0 {
		if err := awaitReady(ctx, f.size.patience, nodes...); err != nil {
			return err
		}
		e.ready = time.Since(started)
	}
	e.most, e.least = f.load.acks.pauses()
	f.done = append(f.done, e)
	return nil
}

// rescue copies what a test that failed left on the disk, which ends with it, to the logs.
func rescue(t *testing.T, c *cluster.Cluster, disk *cluster.Disk) {
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
