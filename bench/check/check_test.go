package check

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster/clustertest"
)

var (
	mutants = flag.Bool("check.mutants", false, "run the check against binaries that are broken on purpose: it has to find them")
	length  = flag.Duration("check.time", 3*time.Minute, "TestMutants: how long each run may take to find it")
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

func TestOptions(t *testing.T) {
	require.NoError(t, Options{}.Validate())
	for want, o := range map[string]Options{
		"--time":    {Time: -1},
		"--clients": {Clients: MaxClients + 1},
		"--nodes":   {Nodes: 2},
		"--nemesis": {Faults: []Fault{"flood"}},
	} {
		require.ErrorContains(t, o.Validate(), want)
	}
}

// TestPace: a minute is not slowed down, an hour is.
func TestPace(t *testing.T) {
	require.Less(t, Options{}.WithDefaults().every(), time.Millisecond)
	long := Options{Time: MaxTime, Clients: MaxClients}.WithDefaults()
	require.InDelta(t, maxOperations, float64(long.Time/long.every())*float64(goroutines*long.Clients), maxOperations/100)
}

// mutant is a bug that the check is there for.
type mutant struct {
	name, file string
	breaks     []clustertest.Break
	nemesis    string
	// within is enough time for it, where most of what is wrong is only seen by the judge in the end; 0: -check.time.
	within time.Duration
}

// endlessLease is a lease that holds for as long as its leader does not know better. With bound followers the old leader
// mostly steps down before they elect another; without, it does not.
var endlessLease = clustertest.Break{Right: "!s.leaseVoid && now < s.leaseUntil", Wrong: "!s.leaseVoid && s.leaseUntil > 0"}

var mutations = []mutant{
	{"a lease that never ends", "raftstore/lease.go", []clustertest.Break{
		endlessLease,
		{Right: "return r.store.opts.Monotonic() < r.raft.heardAt+r.store.opts.electionTimeout()", Wrong: "return false"},
	}, "partition", 0},
	{"a lease that never ends, bound followers", "raftstore/lease.go", []clustertest.Break{endlessLease}, "partition", 0},
	{"retried commands run again", "raftstore/evaluate.go", []clustertest.Break{
		{Right: "if prior != nil {", Wrong: "if false {"},
	}, "kill,partition", 0},
	{"snapshots read the newest", "raftstore/read.go", []clustertest.Break{
		{Right: "if ts == 0 || ts >= s.applied.TS {", Wrong: "if true {"},
	}, "transfer", briefly},
	{"a fresh timestamp asks no leaseholder (C2)", "internal/clientcore/dispatch.go", []clustertest.Break{
		{Right: "\t\tc.gather(o)\n", Wrong: "\t\tc.finish(o, Done{Timestamp: c.clock})\n"},
	}, "transfer", briefly},
	{"a fresh timestamp is what leaseholders have closed (C2)", "raftstore/store.go", []clustertest.Break{
		{Right: "now := uint64(r.store.clock.Now())\n\t\treply", Wrong: "now := uint64(st.applied.Closed)\n\t\treply"},
	}, "transfer", briefly},
	{"what an optimistic call has read may have changed (A7)", "raftstore/evaluate.go", []clustertest.Break{
		{Right: "ok, err := b.holds(c.attempt)", Wrong: "ok, err := true, error(nil)"},
	}, "transfer", briefly},
}

const briefly = 10 * time.Second

// TestMutants runs the command of binaries that have a bug, which it has to find: status 1, and a history.
func TestMutants(t *testing.T) {
	if !*mutants {
		t.Skip("it takes minutes; run it with -check.mutants")
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			binary := clustertest.Binary(t, "-overlay", clustertest.Overlay(t, m.file, "", m.breaks...))
			within := m.within
			if within == 0 {
				within = *length
			}
			ctx, cancel := context.WithTimeout(t.Context(), within+5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, "check", "--time", within.String(), "--nemesis", m.nemesis, "--output", "json", "--verbose")
			cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			var exit *exec.ExitError
			require.True(t, errors.As(err, &exit), "it found nothing: %s", out)
			require.Equal(t, 1, exit.ExitCode())
			var s struct {
				Summary
				Violation bool
				Error     string
				History   []string
			}
			require.NoError(t, json.Unmarshal(out, &s), "%s", out)
			require.True(t, s.Violation, s.Error)
			require.NotEmpty(t, s.History)
			text, err := os.ReadFile(s.History[0])
			require.NoError(t, err)
			t.Logf("after %.1f s: %s\n%.1500s", s.Seconds, s.Error, text)
		})
	}
}
