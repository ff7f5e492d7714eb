package kill

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
)

var (
	full   = flag.Bool("kill.full", false, "the full size: many writes and kills, minutes long")
	seed   = flag.Uint64("kill.seed", 0, "seed of the choices of faults; 0: a new one")
	keep   = flag.Bool("kill.keep", false, "keep logs and data")
	race   = flag.Bool("kill.race", false, "run nodes built with the race detector")
	locus  = flag.String("kill.binary", "", "run this locus binary instead of building one")
	level  = flag.String("kill.log-level", "warn", "the nodes' --log-level")
	kills  = flag.Int("kill.kills", 0, "how many kills; 0: as the size says")
	ext4   = flag.Bool("kill.ext4", false, "TestDiskFullExt4, which is known to fail")
	writes = flag.Int("kill.writes", 0, "how many acknowledged writes of unique keys at least; 0: as the size says")
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

// newCluster makes a cluster as the flags say.
func newCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	o := cluster.Options{Binary: *locus, Args: []string{"--log-level", *level}}
	if o.Binary == "" && *race {
		o.Binary = clustertest.Binary(t, "-race")
	}
	return clustertest.New(t, o, *keep)
}

// newRand is the test's randomness; its seed is printed, though what processes do between two faults is not
// the seed's to say.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// startLoad starts clients, which end with the test.
func startLoad(ctx context.Context, t *testing.T, c *cluster.Cluster, clients int) *check.Load {
	t.Helper()
	l, err := check.Start(ctx, c, clients, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// judge judges the load, and returns the digest of all data. What it finds wrong is written beside the logs.
func judge(ctx context.Context, t *testing.T, l *check.Load, nodes int) string {
	t.Helper()
	begun := time.Now()
	require.NoError(t, l.AwaitHealthy(ctx, nodes))
	v, err := l.Judge(ctx)
	requireRight(t, l, err)
	t.Logf("judged %d operations on %d registers, the order of %d timestamps, and %s on each replica, in %s",
		v.Operations, v.Registers, v.Timestamps, v.Digest, round(time.Since(begun)))
	return v.Digest
}

// requireRight fails the test if something is wrong.
func requireRight(t *testing.T, l *check.Load, err error) {
	t.Helper()
	require.NoError(t, errors.Join(err, l.Write(err)))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
