package kill

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/locuskv/locus/bench/cluster"
)

var (
	full   = flag.Bool("kill.full", false, "the full size: many writes and kills, minutes long")
	seed   = flag.Uint64("kill.seed", 0, "seed of the choices of faults; 0: a new one")
	keep   = flag.Bool("kill.keep", false, "keep logs and data")
	race   = flag.Bool("kill.race", false, "run nodes built with the race detector")
	locus  = flag.String("kill.binary", "", "run this locus binary instead of building one")
	level  = flag.String("kill.log-level", "warn", "the nodes' --log-level")
	kills  = flag.Int("kill.kills", 0, "how many kills; 0: as the size says")
	writes = flag.Int("kill.writes", 0, "how many acknowledged writes of unique keys at least; 0: as the size says")
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// newCluster makes a cluster as the flags say.
func newCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	o := cluster.Options{Binary: *locus, Keep: *keep, Args: []string{"--log-level", *level}}
	if o.Binary == "" && *race {
		o.Binary = cluster.Binary(t, "-race")
	}
	return cluster.New(t, o)
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
