package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/udf"
)

var (
	vcall  = client.NewFunc[string, string]("vcall", client.Raw)
	vread  = client.NewFunc[string, string]("vread", client.Raw)
	vrange = client.NewRangeFunc[string, string]("vrange", client.Raw)
	vmap   = client.NewRangeFunc[string, string]("vmap", client.Raw)
)

// registerVersions registers versions 1 to n of the functions named, which return "1" to "n"; the last is active.
func registerVersions(t testing.TB, db *client.DB, n int, names ...string) {
	t.Helper()
	for _, name := range names {
		for v := 1; v <= n; v++ {
			info, err := db.RegisterFunction(context.Background(), name, versionGuest(byte('0'+v)))
			require.NoError(t, err)
			require.Equal(t, uint32(v), info.Version)
		}
	}
}

// threeNodes is a cluster in which everything has three replicas.
func threeNodes(t *testing.T, change ...func(*Options)) (*testCluster, *client.DB) {
	t.Helper()
	if testing.Short() {
		t.Skip("three nodes")
	}
	c := startCluster(t, 3, change...)
	db := openClient(t, c.nodes())
	eventually(t, "three replicas of everything", func() bool {
		s, err := db.Status(context.Background())
		return err == nil && s.LiveNodes == 3 && s.UnderReplicated == 0 && s.Unavailable == 0 && s.WantedReplicas == 3
	})
	return c, db
}

// on is a client that has been told of one node. It may learn of the others.
func on(t *testing.T, n *Node) *client.DB { return openClient(t, []*Node{n}) }

// vcallAt has one node, and no other, run vcall.
func vcallAt(ctx context.Context, t *testing.T, n *Node, version uint32) (string, uint32, error) {
	t.Helper()
	stream, err := newTestClient(t, one(n)).locus(n).Batch(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&locuspb.BatchRequest{Requests: []*locuspb.Request{{Id: 1, Op: &locuspb.Request_Call{
		Call: &locuspb.CallRequest{Function: "vcall", Version: version, Codec: locuspb.Codec_RAW},
	}}}}))
	frame, err := stream.Recv()
	if err != nil {
		return "", 0, api.FromStatus(err)
	}
	resp := frame.Responses[0]
	return string(resp.GetCall().GetResult()), resp.GetCall().GetVersion(), api.FromProto(resp.Error)
}

func TestLifeCycle(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "n")))
	db := openClient(t, []*Node{n})
	registerVersions(t, db, 3, "vcall")
	shown := func() (out string) {
		d, err := db.DescribeFunction(ctx, "vcall")
		require.NoError(t, err)
		for _, v := range d.Versions {
			require.WithinDuration(t, time.Now(), v.Registered, time.Minute)
			require.Equal(t, hashOf(versionGuest(byte('0'+v.Version))), v.Hash)
			require.Equal(t, "pure raw wasm", v.Kind+" "+v.Codec+" "+v.Runtime)
			out += fmt.Sprint(" ", v.Version)
			if v.Active {
				out += "*"
			}
			if v.Previous {
				out += "-"
			}
		}
		return strings.TrimPrefix(out, " ")
	}
	runs := func(want string, version uint32) {
		t.Helper()
		r, err := vcall.Do(ctx, db, "")
		require.NoError(t, err)
		require.Equal(t, want, r.Value)
		require.Equal(t, version, r.Version)
	}
	require.Equal(t, "1 2- 3*", shown())
	runs("3", 3)
	before, err := db.ActivateFunction(ctx, "vcall", 1)
	require.NoError(t, err)
	require.Equal(t, uint32(3), before)
	require.Equal(t, "1* 2 3-", shown())
	runs("1", 1)
	pinned, err := client.NewFunc[string, string]("vcall", client.Raw, client.Version(2)).Do(ctx, db, "")
	require.NoError(t, err)
	require.Equal(t, "2", pinned.Value)

	now, before, err := db.RollbackFunction(ctx, "vcall")
	require.NoError(t, err)
	require.Equal(t, []uint32{3, 1}, []uint32{now.Version, before})
	runs("3", 3)
	require.NoError(t, db.RemoveFunctionVersion(ctx, "vcall", 1))
	require.Equal(t, "2- 3*", shown(), "a rollback goes to what there is still")
	_, _, err = db.RollbackFunction(ctx, "vcall")
	require.NoError(t, err)
	runs("2", 2)
	require.NoError(t, db.RemoveFunctionVersion(ctx, "vcall", 3))
	_, _, err = db.RollbackFunction(ctx, "vcall")
	require.ErrorContains(t, err, "no other version")

	// What can't be.
	var invalid *client.InvalidArgumentError
	var missing *client.FunctionNotFoundError
	require.ErrorAs(t, db.RemoveFunctionVersion(ctx, "vcall", 2), &invalid)
	require.ErrorContains(t, invalid, "is active")
	require.ErrorAs(t, db.RemoveFunctionVersion(ctx, "vcall", 3), &missing)
	_, err = db.ActivateFunction(ctx, "vcall", 3)
	require.ErrorAs(t, err, &missing)
	require.Equal(t, uint32(3), missing.Version)
	_, err = db.ActivateFunction(ctx, "nothere", 1)
	require.ErrorAs(t, err, &missing)
	_, err = db.ActivateFunction(ctx, "square", 1)
	require.ErrorContains(t, err, "native")
	_, err = db.RemoveFunction(ctx, "square")
	require.ErrorContains(t, err, "native")
	_, _, err = db.RollbackFunction(ctx, "nothere")
	require.ErrorAs(t, err, &missing)
	_, err = db.DescribeFunction(ctx, "nothere")
	require.ErrorAs(t, err, &missing)

	// No number is given twice, and a version that is registered inactive runs for those who name it.
	info, err := db.RegisterFunction(ctx, "vcall", versionGuest('4'), client.Inactive())
	require.NoError(t, err)
	require.Equal(t, uint32(4), info.Version)
	require.Equal(t, "2* 4", shown())
	runs("2", 2)
	info, err = db.RegisterFunction(ctx, "vcall", versionGuest('4'))
	require.NoError(t, err)
	require.Equal(t, uint32(4), info.Version, "the same module is the same version, active now")
	runs("4", 4)
	removed, err := db.RemoveFunction(ctx, "vcall")
	require.NoError(t, err)
	require.Len(t, removed, 2)
	_, err = vcall.Call(ctx, db, "")
	require.ErrorAs(t, err, &missing)
	info, err = db.RegisterFunction(ctx, "vcall", versionGuest('5'))
	require.NoError(t, err)
	require.Equal(t, uint32(5), info.Version)
	runs("5", 5)

	// Only the module that is named is there: in the system keyspace, and in a while on disk.
	chunks, err := n.system.scanKeys(ctx, keys.PrefixSpan(systemLayout.Encode([]byte(prefixModule))))
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	require.Equal(t, chunkKey(hashOf(versionGuest('5')), 0), chunks[0].Key)
	eventually(t, "the disk is tidied", func() bool {
		names, err := os.ReadDir(n.dir.file(moduleDir))
		return err == nil && len(names) <= 1
	})
	d, err := db.DescribeFunction(ctx, "vcall")
	require.NoError(t, err)
	require.Equal(t, []client.FunctionNode{{Store: 1, Compiled: []uint32{5}}}, d.Nodes)

	// All of it outlives the process.
	stopNode(t, n)
	n = startNode(t, testOptions(t, n.o.Data))
	db = openClient(t, []*Node{n})
	require.Equal(t, "5*", shown())
	runs("5", 5)
}

// TestActivateReachesEveryNode: a call that begins after a version was activated runs it, whichever node it is sent to: without
// waiting for anything, and while all nodes are being asked for the old one.
func TestActivateReachesEveryNode(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	registerVersions(t, db, 2, "vcall")
	var nodes []*client.DB
	for _, n := range c.nodes() {
		nodes = append(nodes, on(t, n))
	}
	for i := range 12 {
		version := uint32(i%2 + 1)
		var err error
		if i%4 < 2 {
			_, err = nodes[i%3].ActivateFunction(ctx, "vcall", version)
		} else {
			_, _, err = nodes[i%3].RollbackFunction(ctx, "vcall")
		}
		require.NoError(t, err)
		for _, n := range c.nodes() {
			got, ran, err := vcallAt(ctx, t, n, 0)
			require.NoError(t, err)
			require.Equal(t, version, ran, "activation %d", i)
			require.Equal(t, fmt.Sprint(version), got)
		}
	}
}

// TestVersionsFlipUnderCalls: while versions are activated, rolled back, registered and removed, every call, run and stream is of
// one version wholly, and says which.
func TestVersionsFlipUnderCalls(t *testing.T) {
	t.Parallel()
	_, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ks, want := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00100"), []byte("k00200"), []byte("k00300"), []byte("k00400")}}, 500)
	registerVersions(t, db, 3, "vcall", "vread", "vrange", "vmap")
	var done atomic.Bool
	var seen [4][10]atomic.Int64
	whole := func(kind int, got string, version uint32) {
		require.NotEmpty(t, got)
		require.Equal(t, strings.Repeat(fmt.Sprint(version), len(got)), got)
		seen[kind][version].Add(1)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !done.Load() {
				r, err := vcall.Do(ctx, db, "")
				require.NoError(t, err)
				whole(0, r.Value, r.Version)
				r, err = vread.Do(ctx, ks.Key([]byte(want[0])), "")
				require.NoError(t, err)
				whole(1, r.Value, r.Version)
			}
		})
		wg.Go(func() {
			for !done.Load() {
				r, err := vrange.Do(ctx, ks.All(), "")
				require.NoError(t, err)
				require.GreaterOrEqual(t, len(r.Value), 5, "one for each range at least")
				whole(2, r.Value, r.Version)
			}
		})
		wg.Go(func() {
			for !done.Load() {
				got := ""
				for v, err := range vmap.Stream(ctx, ks.All(), "") {
					require.NoError(t, err)
					got += v
				}
				require.GreaterOrEqual(t, len(got), 5)
				whole(3, got, uint32(got[0]-'0'))
			}
		})
	}
	for i := range 9 {
		for _, name := range []string{"vcall", "vread", "vrange", "vmap"} {
			_, err := db.ActivateFunction(ctx, name, uint32(i%3+1))
			require.NoError(t, err)
		}
	}
	// A version that comes and goes.
	for range 2 {
		for _, name := range []string{"vcall", "vread", "vrange", "vmap"} {
			info, err := db.RegisterFunction(ctx, name, versionGuest('9'), client.Inactive())
			require.NoError(t, err)
			require.NoError(t, db.RemoveFunctionVersion(ctx, name, info.Version))
		}
	}
	done.Store(true)
	wg.Wait()
	for kind := range seen {
		for v := 1; v <= 3; v++ {
			require.Positive(t, seen[kind][v].Load(), "kind %d never ran version %d", kind, v)
		}
	}
}

// TestRemovedUnderRuns: a run over many ranges whose version is removed meanwhile ends wholly, or with an error that says so.
func TestRemovedUnderRuns(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ks, _ := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00100"), []byte("k00200"), []byte("k00300"), []byte("k00400")}}, 500)
	var ended, refused int
	for round := range 4 {
		info, err := db.RegisterFunction(ctx, "vrange", versionGuest(byte('1'+round)))
		require.NoError(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, n := range c.nodes() {
			all := on(t, n).Keyspace("s").All() // its gateway
			wg.Go(func() {
				for {
					r, err := vrange.Do(ctx, all, "")
					mu.Lock()
					if err == nil {
						require.Equal(t, info.Version, r.Version)
						require.Equal(t, strings.Repeat(string(rune('1'+round)), len(r.Value)), r.Value)
						ended++
						mu.Unlock()
						continue
					}
					var missing *client.FunctionNotFoundError
					require.ErrorAs(t, err, &missing)
					refused++
					mu.Unlock()
					return
				}
			})
		}
		_, err = db.RemoveFunction(ctx, "vrange")
		require.NoError(t, err)
		_, err = vrange.Run(ctx, ks.All(), "")
		var missing *client.FunctionNotFoundError
		require.ErrorAs(t, err, &missing, "a run that begins after the removal")
		wg.Wait()
	}
	require.Positive(t, ended)
	require.Equal(t, 12, refused)
}

// TestNodeThatMissedIt: a node that was down when a version was registered and activated runs it in its first call, and so does one
// that joins later; neither has the module from anywhere but the cluster.
func TestNodeThatMissedIt(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	registerVersions(t, db, 1, "vcall")
	away := c.nodes()[0]
	for _, n := range c.nodes() { // not the driver's: an election is not what this is about
		if _, err := n.office.driver(); err != nil {
			away = n
		}
	}
	got, _, err := vcallAt(ctx, t, away, 0)
	require.NoError(t, err)
	require.Equal(t, "1", got)
	c.set(away.o.Data, nil)
	stopNode(t, away)

	db = openClient(t, c.nodes())
	_, err = db.RegisterFunction(ctx, "vcall", versionGuest('2'))
	require.NoError(t, err)
	back := startNode(t, testOptions(t, away.o.Data, c.nodes()[0].Addr()))
	c.set(back.o.Data, back)
	got, _, err = vcallAt(ctx, t, back, 0)
	require.NoError(t, err)
	require.Equal(t, "2", got)

	late := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "late"), back.Addr()))
	got, _, err = vcallAt(ctx, t, late, 0)
	require.NoError(t, err)
	require.Equal(t, "2", got)
}

// TestActivationOutlivesTheDriver: the driver's node dies after a version was activated. The others go on with it, the next driver
// knows it, and the next change reaches all who are left.
func TestActivationOutlivesTheDriver(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	registerVersions(t, db, 3, "vcall")
	_, err := db.ActivateFunction(ctx, "vcall", 1)
	require.NoError(t, err)
	var driver *Node
	eventually(t, "a driver", func() bool {
		for _, n := range c.nodes() {
			if _, err := n.office.driver(); err == nil {
				driver = n
			}
		}
		return driver != nil
	})
	c.set(driver.o.Data, nil)
	crash(t, driver)
	all := func(want string) {
		t.Helper()
		for _, n := range c.nodes() {
			got, _, err := vcallAt(ctx, t, n, 0)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	all("1")
	now, before, err := on(t, c.nodes()[0]).RollbackFunction(ctx, "vcall")
	require.NoError(t, err)
	require.Equal(t, []uint32{3, 1}, []uint32{now.Version, before})
	all("3")
	info, err := on(t, c.nodes()[1]).RegisterFunction(ctx, "vcall", versionGuest('4'))
	require.NoError(t, err)
	require.Equal(t, uint32(4), info.Version)
	all("4")
}

// TestCutOffNodeAsksFirst: a node that has not heard from the driver for long serves no call without a version, and goes on with
// those that name one.
func TestCutOffNodeAsksFirst(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	registerVersions(t, db, 2, "vcall")
	n := c.nodes()[0]
	_, _, err := vcallAt(ctx, t, n, 0)
	require.NoError(t, err)
	clock := n.functions.trust.clock
	var skipped atomic.Int64
	n.functions.trust.clock = func() time.Duration { return clock() + time.Duration(skipped.Load()) }
	skipped.Store(int64(time.Hour)) // nothing that it heard counts any more, nor what it will
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, _, err = vcallAt(short, t, n, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got, _, err := vcallAt(ctx, t, n, 1)
	require.NoError(t, err)
	require.Equal(t, "1", got)
	skipped.Store(0)
	got, _, err = vcallAt(ctx, t, n, 0)
	require.NoError(t, err)
	require.Equal(t, "2", got)
}

// TestCompiledOnce: however many ask, a module is compiled once, and never again while what was made of it is on disk.
func TestCompiledOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "n")))
	registerVersions(t, openClient(t, []*Node{n}), 1, "vcall")
	files := func() (out []string) {
		_ = filepath.WalkDir(n.dir.file(compiledDir), func(path string, d os.DirEntry, err error) error {
			require.NoError(t, err)
			if info, err := d.Info(); err == nil && !d.IsDir() {
				out = append(out, fmt.Sprint(path, " ", info.Size(), " ", info.ModTime()))
			}
			return nil
		})
		return out
	}
	before := files()
	require.NotEmpty(t, before)
	stopNode(t, n)
	o, counting := testOptions(t, n.o.Data), &countingCompiler{}
	o.watchCompiler = func(c compiler) compiler { counting.compiler = c; return counting }
	n = startNode(t, o)
	db := openClient(t, []*Node{n})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			got, err := vcall.Call(ctx, db, "")
			require.NoError(t, err)
			require.Equal(t, "1", got)
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), counting.asked.Load())
	require.Equal(t, before, files(), "nothing was compiled anew: the runtime writes what it compiles")
}

type countingCompiler struct {
	compiler
	asked atomic.Int64
}

func (c *countingCompiler) Compile(ctx context.Context, name string, module []byte) (udf.Runnable, error) {
	c.asked.Add(1)
	return c.compiler.Compile(ctx, name, module)
}

// TestEvictedUnderCalls: more functions in use than are kept compiled cost time and fail nobody.
func TestEvictedUnderCalls(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	n := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "n")))
	db := openClient(t, []*Node{n})
	registerVersions(t, db, 4, "vcall", "vread")
	n.functions.mu.Lock()
	n.functions.limit = 1
	n.functions.evict(1)
	n.functions.mu.Unlock()
	key := db.Keyspace("default").Key([]byte("k"))
	var wg sync.WaitGroup
	for v := 1; v <= 4; v++ {
		wg.Go(func() {
			for range 50 {
				got, err := client.NewFunc[string, string]("vread", client.Raw, client.Version(uint32(v))).Call(ctx, key, "")
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(v), got)
				got, err = client.NewFunc[string, string]("vcall", client.Raw, client.Version(uint32(v))).Call(ctx, db, "")
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(v), got)
			}
		})
	}
	wg.Wait()
	n.functions.mu.Lock()
	defer n.functions.mu.Unlock()
	require.Len(t, n.functions.mu.compiled, 1)
	require.LessOrEqual(t, len(n.functions.mu.versions), 1)
}

func TestTidier(t *testing.T) {
	d, err := openDirectory(filepath.Join(t.TempDir(), "n"))
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	f := &functions{fs: d.fs, dir: d.file(moduleDir)}
	y := &tidier{functions: f, compiled: d.file(compiledDir), limit: 10}
	code := filepath.Join(d.file(compiledDir), "wazero-1")
	require.NoError(t, os.MkdirAll(code, 0o700))
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.WriteFile(filepath.Join(code, name), make([]byte, 10), 0o600))
	}
	for _, name := range []string{"aa.wasm", "bb.wasm", "other"} {
		require.NoError(t, os.WriteFile(filepath.Join(f.dir, name), []byte("x"), 0o600))
	}
	y.look([]*locuspb.FunctionInfo{{Hash: "bb"}}, func(tidy func()) { tidy() })
	names, err := d.fs.List(f.dir)
	require.NoError(t, err)
	require.Equal(t, []string{"bb.wasm", "other"}, names)
	names, err = d.fs.List(code)
	require.NoError(t, err)
	require.Len(t, names, 1, "what fits")
}

// TestEvaluateEvicted: what the sequencer lacks is no error of the caller's.
func TestEvaluateEvicted(t *testing.T) {
	d := newTestDispatcher(t, &fakeStore{})
	e := &evaluator{functions: d.functions, cmap: d.cmap, node: "here"}
	_, err := e.Evaluate(&locuspb.CallRequest{Function: "gone", Version: 3, Key: grouped.Encode([]byte("a/n"))}, &memTx{data: map[string]string{}})
	var retry *api.RetryError
	require.ErrorAs(t, err, &retry)
}
