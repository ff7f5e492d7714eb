package kill

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/bench/check"
	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
	"github.com/locuskv/locus/client"
)

var functionMutants = flag.Bool("kill.mutants", false, "TestFunctionMutants: nodes that are wrong on purpose, minutes long")

// TestFunctions runs a range function and a map function, written in Go and compiled to WebAssembly, over many ranges, again and
// again, while nodes are killed and started again (the leaders of ranges, and the runs' gateways), ranges are split, leases
// move, and everything is overwritten. Each run is compared with the truth, which the test knows: what it loaded. A run visits
// each key once, in its place, as it was at the run's timestamp, and counts as many records.
func TestFunctions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newStory(t, c)
	require.NoError(t, s.play(t.Context()))
	t.Log(s.report())
	require.Positive(t, s.continued, "no run lost its gateway")
	require.Positive(t, s.failed, "no part was interrupted")
}

// story is what happens in TestFunctions.
type story struct {
	t       *testing.T
	cluster *cluster.Cluster
	rand    *rand.Rand
	records int
	kills   int
	rounds  int

	db *client.DB
	ks *client.Keyspace
	at client.Timestamp // of the snapshot that all runs read

	truth             chain
	outputs           []string
	runs              [3]atomic.Int64 // of one result, of a stream in key order, and of one as it comes
	splits, transfers atomic.Int64
	starved           atomic.Int64
	continued, failed float64 // parts and runs, by the nodes' metrics before they were killed, and in the end
	parts             float64
	began             time.Time
}

// chain is the guest's accumulator (testdata/chain).
type chain struct{ H, P, N uint64 }

const chainBase = 0x9E3779B97F4A7C15

func newStory(t *testing.T, c *cluster.Cluster) *story {
	s := &story{t: t, cluster: c, rand: newRand(t), records: 24_000, kills: 3, rounds: 1, began: time.Now()}
	if *full {
		s.records, s.kills = 200_000, 20
	}
	if *kills > 0 {
		s.kills = *kills
	}
	return s
}

func (s *story) play(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Minute)
	defer cancel()
	module, err := os.ReadFile("testdata/chain.wasm")
	if err != nil {
		return err
	}
	if err := s.cluster.Start(ctx, 3); err != nil {
		return err
	}
	if s.db, err = client.Open(ctx, client.Options{Addrs: s.cluster.Addrs()}); err != nil {
		return err
	}
	s.t.Cleanup(func() { _ = s.db.Close() })
	for _, name := range []string{"chain", "each"} {
		if _, err := s.db.RegisterFunction(ctx, name, module); err != nil {
			return err
		}
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := s.healthy(ctx); err != nil {
		return err
	}
	hurt, hurting := context.WithCancel(ctx)
	defer hurting()
	g, ctx := errgroup.WithContext(ctx)
	// Two of the first kind: they are short, and their gateway should be killed in the middle of one.
	for _, run := range []func(context.Context) error{s.runChain, s.runChain, s.runOrdered, s.runUnordered} {
		g.Go(func() error {
			for hurt.Err() == nil {
				err := run(ctx)
				// A guest may be stopped at its bound of time where the machine is too busy to run it. That says nothing of the run;
				// that enough others end is awaited.
				var slow *client.FuelError
				if errors.As(err, &slow) {
					s.starved.Add(1)
				} else if err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error { return s.move(ctx, hurt) })
	g.Go(func() error { return s.overwrite(ctx, hurt) })
	g.Go(func() error {
		defer hurting()
		return s.killAll(ctx)
	})
	return errors.Join(g.Wait(), s.gather(s.cluster.Nodes()...))
}

// load puts records in, and computes what runs over them have to say.
func (s *story) load(ctx context.Context) error {
	name := func(i int) string { return fmt.Sprintf("k%07d", i) }
	var at [][]byte
	for i := range 5 {
		at = append(at, []byte(name((i+1)*s.records/6)))
	}
	if err := s.db.CreateKeyspace(ctx, "f", client.KeyspaceOptions{SplitAt: at}); err != nil {
		return err
	}
	s.ks = s.db.Keyspace("f")
	w := s.ks.BulkWriter(ctx, client.BulkOptions{})
	s.truth = chain{P: 1}
	value := make([]byte, 200)
	for i := range s.records {
		for j := 0; j < len(value); j += 8 {
			binary.LittleEndian.PutUint64(value[j:], s.rand.Uint64())
		}
		if err := w.Put([]byte(name(i)), value); err != nil {
			return err
		}
		h := fnv.New64a()
		h.Write([]byte(name(i) + "\x00"))
		for range s.rounds {
			h.Write(value)
		}
		s.truth = chain{s.truth.H*chainBase + h.Sum64(), s.truth.P * chainBase, s.truth.N + 1}
		s.outputs = append(s.outputs, fmt.Sprintf("%s=%016x", name(i), h.Sum64()))
	}
	if err := w.Close(); err != nil {
		return err
	}
	snapshot, err := s.db.Snapshot(ctx, client.Hold(time.Hour))
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { snapshot.Close() })
	s.at = snapshot.Timestamp()
	return nil
}

// wrongError is an answer that is not the truth, as opposed to none.
type wrongError struct{ error }

func wrongf(format string, args ...any) error { return wrongError{fmt.Errorf(format, args...)} }

// noticed: the gateway, or the client, found out itself that something was visited twice or not at all.
func noticed(err error) bool {
	var e *client.InternalError
	return errors.As(err, &e) && (strings.Contains(e.Reason, "a node answered a stream with") || strings.Contains(e.Reason, "visited twice"))
}

// options are those of each run.
func (s *story) options(last *client.Progress, more ...client.RunOption) []client.RunOption {
	return append(more, client.AtTimestamp(s.at), client.OnProgress(func(p client.Progress) { *last = p }))
}

func (s *story) runChain(ctx context.Context) error {
	var last client.Progress
	r, err := client.NewRangeFunc[int, chain]("chain").Do(ctx, s.ks.All(), s.rounds, s.options(&last)...)
	switch {
	case noticed(err):
		return wrongf("a run: %w", err)
	case err != nil:
		return fmt.Errorf("a run: %w", err)
	case r.Value != s.truth:
		return wrongf("a run of %d records comes to %+v, not %+v", s.records, r.Value, s.truth)
	case last.Records != s.truth.N || last.RangesDone != last.RangesTotal || r.Timestamp != s.at || r.Version != 1:
		return wrongf("a run counts %+v, at %s by version %d", last, r.Timestamp, r.Version)
	}
	s.runs[0].Add(1)
	return nil
}

func (s *story) runOrdered(ctx context.Context) error {
	return s.runStream(ctx, 1, client.KeyOrder())
}

func (s *story) runUnordered(ctx context.Context) error { return s.runStream(ctx, 2) }

func (s *story) runStream(ctx context.Context, kind int, more ...client.RunOption) error {
	var last client.Progress
	var got []string
	for out, err := range client.NewRangeFunc[int, string]("each").Stream(ctx, s.ks.All(), s.rounds, s.options(&last, more...)...) {
		if noticed(err) {
			return wrongf("a stream: %w", err)
		}
		if err != nil {
			return fmt.Errorf("a stream, after %d outputs: %w", len(got), err)
		}
		got = append(got, out)
	}
	if kind == 2 {
		slices.Sort(got)
	}
	if !slices.Equal(got, s.outputs) {
		return wrongf("a stream has %d outputs, not the %d that it should have", len(got), len(s.outputs))
	}
	if last.Records != s.truth.N {
		return wrongf("a stream counts %+v", last)
	}
	s.runs[kind].Add(1)
	return nil
}

// killAll kills nodes in turn, each while runs are under way, and starts them again.
func (s *story) killAll(ctx context.Context) error {
	for i := range s.kills {
		before := s.finished()
		n := s.cluster.Nodes()[i%3]
		if !check.Pass(ctx, time.Duration(s.rand.Int64N(int64(time.Second)))) {
			return context.Cause(ctx)
		}
		if err := s.gather(n); err != nil {
			return err
		}
		if err := n.Kill(); err != nil {
			return err
		}
		if err := n.Start(ctx); err != nil {
			return err
		}
		if err := s.healthy(ctx); err != nil {
			return fmt.Errorf("after kill %d: %w", i+1, err)
		}
		// Each kill is survived by a run of some kind before the next one.
		if err := check.Poll(ctx, 2*time.Minute, func() (bool, error) { return s.finished() > before, nil }); err != nil {
			return fmt.Errorf("no run ends after kill %d: %w", i+1, err)
		}
	}
	return check.Poll(ctx, 5*time.Minute, func() (bool, error) {
		return s.runs[0].Load() > 0 && s.runs[1].Load() > 0 && s.runs[2].Load() > 0, nil
	})
}

func (s *story) finished() (n int64) {
	for i := range s.runs {
		n += s.runs[i].Load()
	}
	return n
}

// healthy waits until the cluster is whole.
func (s *story) healthy(ctx context.Context) error {
	return check.Poll(ctx, 2*time.Minute, func() (bool, error) {
		st, err := s.db.Status(ctx)
		return err == nil && st.LiveNodes == 3 && st.UnderReplicated == 0 && st.Unavailable == 0, err
	})
}

// move splits ranges and moves leases until hurt ends. That some of it fails while a node is down is as it should be.
func (s *story) move(ctx, hurt context.Context) error {
	rng := rand.New(rand.NewPCG(s.rand.Uint64(), 1))
	for check.Pass(hurt, time.Duration(100+rng.IntN(300))*time.Millisecond) {
		ranges, err := s.ks.Ranges(ctx)
		if err != nil || len(ranges) == 0 {
			continue
		}
		r := ranges[rng.IntN(len(ranges))]
		if rng.IntN(3) == 0 && len(ranges) < 24 {
			if _, err := s.db.SplitRange(ctx, r.ID); err == nil {
				s.splits.Add(1)
			}
		} else if s.db.TransferRange(ctx, r.ID, r.Replicas[rng.IntN(len(r.Replicas))].Store) == nil {
			s.transfers.Add(1)
		}
	}
	return nil
}

// overwrite changes and deletes what the runs read as it was.
func (s *story) overwrite(ctx, hurt context.Context) error {
	rng := rand.New(rand.NewPCG(s.rand.Uint64(), 2))
	for check.Pass(hurt, 5*time.Millisecond) {
		key := fmt.Appendf(nil, "k%07d", rng.IntN(s.records))
		var err error
		switch rng.IntN(3) {
		case 0:
			_, err = s.ks.Delete(ctx, key)
		case 1:
			_, err = s.ks.Put(ctx, append(key, "-new"...), key)
		default:
			_, err = s.ks.Put(ctx, key, []byte("other"))
		}
		var unknown *client.AmbiguousError
		if err != nil && !errors.As(err, &unknown) {
			return fmt.Errorf("a write beside the runs: %w", err)
		}
	}
	return nil
}

// gather adds up what nodes count, before they are killed.
func (s *story) gather(nodes ...*cluster.Node) error {
	for _, n := range nodes {
		m, err := n.Metrics(context.Background())
		if err != nil {
			return err
		}
		s.continued += m["locus_runs_continued_total"]
		s.parts += m["locus_run_parts_total"]
		s.failed += m["locus_run_parts_failed_total"]
	}
	return nil
}

func (s *story) report() string {
	return fmt.Sprintf("%d kills, %d splits, %d transfers; %d runs with one result, %d streams in key order and %d as they come over %d records were right; "+
		"%.0f of them were gone on with, of %.0f parts %.0f were interrupted; %d runs were too slow for the machine; in %s",
		s.kills, s.splits.Load(), s.transfers.Load(), s.runs[0].Load(), s.runs[1].Load(), s.runs[2].Load(), s.records,
		s.continued, s.parts, s.failed, s.starved.Load(), round(time.Since(s.began)))
}

// TestFunctionMutants: the story notices nodes that do parts twice, leave parts out, or forget what was done.
func TestFunctionMutants(t *testing.T) {
	if !*functionMutants {
		t.Skip("it takes minutes; run it with -kill.mutants")
	}
	for name, m := range map[string]struct {
		file  string
		wrong clustertest.Break
	}{
		"a leaseholder says to go on some keys later": {"server/runrange.go", clustertest.Break{
			Right: "at := append(l.Encode(lastKey(batch)), 0); ", Wrong: "at := keys.PrefixEnd(l.Encode(lastKey(batch)[:7])); ",
		}},
		"what a continuation says is done is done again": {"server/gateway/run.go", clustertest.Break{
			Right: "		left.Start = s.span.End\n", Wrong: "",
		}},
		"the result does not care": {"server/gateway/run.go", clustertest.Break{
			Right: "if err := r.complete(); err != nil {\n		return err\n	}", Wrong: "r.segments = append(r.segments, r.segments[0])",
		}},
		"accumulators are merged as they come": {"server/gateway/segment.go", clustertest.Break{
			Right: "accs[i] = p.acc", Wrong: "accs[len(accs)-1-i] = p.acc",
		}},
		"a continuation says that what is under way is done": {"server/gateway/checkpoint.go", clustertest.Break{
			Right: "if s.status != done {", Wrong: "if s.status != done && !s.running {",
		}},
		"a continuation has no accumulators": {"server/gateway/checkpoint.go", clustertest.Break{
			Right: "Accumulator: s.acc, ", Wrong: "",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			binary := clustertest.Binary(t, "-overlay", clustertest.Overlay(t, m.file, "", m.wrong))
			s := newStory(t, clustertest.New(t, cluster.Options{Binary: binary, Args: []string{"--log-level", *level}}, *keep))
			s.kills = 9
			err := s.play(t.Context())
			var wrong wrongError
			require.ErrorAs(t, err, &wrong, s.report())
			t.Logf("found: %v", err)
		})
	}
}
