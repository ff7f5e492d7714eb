package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// slowCompiler writes down what it compiles, and does it when it is let.
type slowCompiler struct {
	anyCompiler
	mu      sync.Mutex
	names   []string
	held    chan struct{} // until it is closed, compilations wait; nil: none does
	failure func(name string) error
	closed  bool
}

func (c *slowCompiler) Compile(ctx context.Context, name string, module []byte) (udf.Runnable, error) {
	c.mu.Lock()
	c.names = append(c.names, name)
	c.mu.Unlock()
	if c.held != nil {
		<-c.held
	}
	if c.failure != nil {
		if err := c.failure(name); err != nil {
			return nil, err
		}
	}
	return c.anyCompiler.Compile(ctx, name, module)
}

func (c *slowCompiler) Close() error {
	c.closed = true
	return nil
}

// hold has compilations wait until they are let go, or the test ends.
func (c *slowCompiler) hold(t *testing.T) (let func()) {
	c.held = make(chan struct{})
	let = sync.OnceFunc(func() { close(c.held) })
	t.Cleanup(let)
	return let
}

// taken is what was compiled since it was last asked.
func (c *slowCompiler) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.names
	c.names = nil
	return names
}

// preparedNode is the part of a node that a preparer needs, on a directory that may have been another's before. Modules are their
// functions' names.
func preparedNode(t *testing.T, dir string) (*preparer, *slowCompiler) {
	t.Helper()
	native, err := udf.NewRegistry()
	require.NoError(t, err)
	c := &slowCompiler{anyCompiler: anyCompiler{t}}
	life, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	modules := filepath.Join(dir, moduleDir)
	require.NoError(t, os.MkdirAll(modules, 0o700))
	f := &functions{
		native: native, compiler: c, cmap: &clustermap.Map{}, fs: vfs.OS(), dir: modules, life: life, end: end,
		fetch: func(_ context.Context, hash string) ([]byte, error) {
			for n := range 100 {
				if name := fmt.Sprint("f", n); hashOf([]byte(name)) == hash {
					return []byte(name), nil
				}
			}
			return nil, errNoModule
		},
	}
	return newPreparer(f, filepath.Join(dir, preparedFile), slog.New(slog.DiscardHandler)), c
}

// registered are functions f<n>, all active, each registered after the one before it in the list.
func registered(numbers ...int) (list []*locuspb.FunctionInfo) {
	for at, n := range numbers {
		name := fmt.Sprint("f", n)
		list = append(list, &locuspb.FunctionInfo{Name: name, Version: 1, Hash: hashOf([]byte(name)), Size: 100, Active: true, Registered: uint64(at)})
	}
	return list
}

// runs runs the preparer in a bubble until it has nothing to do.
func runs(t *testing.T, p *preparer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var wg sync.WaitGroup
	wg.Go(func() { p.run(ctx) })
	synctest.Wait()
	return func() {
		cancel()
		wg.Wait()
	}
}

func (p *preparer) hears(list []*locuspb.FunctionInfo) {
	p.heard(list)
	synctest.Wait()
}

// TestPreparesWhatBecomesActive: on a node that is there, not what was active before the node came, nor a version that isn't active.
func TestPreparesWhatBecomesActive(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, c := preparedNode(t, dir)
		stop := runs(t, p)
		p.hears(registered(1, 2))
		require.Empty(t, c.taken(), "they were active before")
		inactive := registered(1, 2, 3)
		inactive[2].Active = false
		p.hears(inactive)
		require.Empty(t, c.taken())
		p.hears(registered(1, 2, 3))
		require.Equal(t, []string{"f3"}, c.taken())
		p.hears(registered(1, 2, 3, 4, 5))
		require.Equal(t, []string{"f5", "f4"}, c.taken(), "the youngest first")
		p.hears(registered(1, 2, 3, 4, 5))
		require.Empty(t, c.taken())
		for _, i := range registered(3, 4, 5) {
			require.True(t, p.functions.isCompiled(i))
			require.True(t, p.functions.onDisk(i.Hash))
		}
		stop()
	})
}

// TestIdlesWithoutNews: lists that say nothing new wake nobody, and of lists that wait only the newest is looked at.
func TestIdlesWithoutNews(t *testing.T) {
	p, _ := preparedNode(t, t.TempDir())
	p.heard(nil)
	require.Empty(t, <-p.first)
	p.heard(nil)
	require.Empty(t, p.lists)
	for _, list := range [][]*locuspb.FunctionInfo{registered(1), registered(1, 2), {}} {
		p.heard(list)
		require.Len(t, <-p.lists, len(list))
		p.heard(list)
		require.Empty(t, p.lists)
	}
	p.heard(registered(1))
	p.heard(registered(1, 2))
	require.Len(t, <-p.lists, 2)
	inactive := registered(1, 2)
	inactive[0].Active = false
	p.heard(inactive)
	require.Len(t, p.lists, 1)
}

// TestTheFirstListIsSeen: what becomes active while a node is busy with its start is prepared all the same.
func TestTheFirstListIsSeen(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, c := preparedNode(t, dir)
		p.heard(registered(1))
		p.heard(registered(1, 2))
		runs(t, p)()
		require.Equal(t, []string{"f2"}, c.taken())
	})
}

// TestPreparesWhatWasReady: a node that starts makes ready what its last run had, the last used first, before it hears anything.
func TestPreparesWhatWasReady(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, _ := preparedNode(t, dir)
		stop := runs(t, p)
		p.hears(nil)
		p.hears(registered(1, 2, 3))
		called, ok := p.functions.cached(registered(2)[0])
		require.True(t, ok)
		called.release()
		stop()

		p, c := preparedNode(t, dir)
		let := c.hold(t)
		stop = runs(t, p)
		require.Equal(t, []string{"f2"}, c.taken(), "one at a time")
		require.NoFileExists(t, p.file, "if a module ended the process now, it would not do so again")
		let()
		synctest.Wait()
		require.ElementsMatch(t, []string{"f1", "f3"}, c.taken())
		require.FileExists(t, p.file)
		p.hears(registered(1, 3))
		require.Empty(t, c.taken())
		require.False(t, p.functions.isCompiled(registered(2)[0]), "it has been removed")
		stop()

		require.NoError(t, os.WriteFile(p.file, []byte("[{\"name\":"), 0o600))
		p, c = preparedNode(t, dir)
		runs(t, p)()
		require.Empty(t, c.taken(), "a damaged file is an empty one")
	})
}

// TestACallJoinsItsPreparation: a function that is called while it is being prepared is compiled once.
func TestACallJoinsItsPreparation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, c := preparedNode(t, dir)
		let := c.hold(t)
		stop := runs(t, p)
		p.hears(nil)
		list := registered(1, 2)
		p.functions.cmap.Apply(&locuspb.HeartbeatResponse{MapVersion: 1, Functions: list})
		p.hears(list)
		var wg sync.WaitGroup
		for _, name := range []string{"f1", "f2"} {
			wg.Go(func() {
				f, err := p.functions.resolve(context.Background(), name, 0)
				require.NoError(t, err)
				f.release()
			})
		}
		synctest.Wait()
		require.Equal(t, []string{"f2", "f1"}, c.taken(), "f2 by the preparer, and f1 by its call, which waits for nobody")
		let()
		wg.Wait()
		synctest.Wait()
		require.Empty(t, c.taken())
		stop()
	})
}

// TestPreparedIsBounded: what was prepared and never used gives way to what has become active since; what is used does not, and nothing is
// prepared in its place.
func TestPreparedIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, c := preparedNode(t, dir)
		stop := runs(t, p)
		p.hears(nil)
		var numbers []int
		for n := range 2 * maxPrepared {
			numbers = append(numbers, n)
			p.hears(registered(numbers...))
			if n == 0 {
				called, ok := p.functions.cached(registered(0)[0])
				require.True(t, ok)
				called.release()
			}
		}
		require.Len(t, c.taken(), 2*maxPrepared)
		require.Len(t, p.functions.mu.compiled, 1+maxPrepared, "and the one that was called")
		require.True(t, p.functions.isCompiled(registered(0)[0]))
		require.False(t, p.functions.isCompiled(registered(1)[0]))

		large := registered(numbers...)
		for _, i := range large {
			i.Size = maxPreparedBytes/2 + 1
		}
		require.Len(t, bounded(large), 1)

		p.functions.limit = 1 + maxPrepared
		p.hears(registered(append(numbers, 98)...))
		require.Equal(t, []string{"f98"}, c.taken(), "in the place of what gave way")
		for _, i := range p.wanted {
			called, _ := p.functions.cached(i)
			called.release()
		}
		p.hears(registered(append(numbers, 98, 99)...))
		require.Empty(t, c.taken(), "it would push out what is used")
		stop()
	})
}

// TestClosingWaitsForTheCompiler: a node that stops does not close the compiler under a module that is being compiled, gives up what it
// fetches, and begins nothing more.
func TestClosingWaitsForTheCompiler(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, c := preparedNode(t, dir)
		let := c.hold(t)
		stop := runs(t, p)
		p.hears(nil)
		p.hears(registered(1))
		require.Equal(t, []string{"f1"}, c.taken())
		stop() // does not wait for the module
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, p.functions.close()) })
		synctest.Wait()
		require.False(t, c.closed)
		let()
		wg.Wait()
		require.True(t, c.closed)
		_, err := p.functions.inspect(context.Background(), "f2", []byte("f2"))
		require.ErrorIs(t, err, errClosing)

		p, _ = preparedNode(t, dir)
		p.functions.fetch = func(ctx context.Context, _ string) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		began := time.Now()
		wg.Go(func() {
			_, err := p.functions.load(context.Background(), registered(50)[0])
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		require.NoError(t, p.functions.close())
		wg.Wait()
		require.Zero(t, time.Since(began))
	})
}

// TestACompilerThatPanics has refused the module, and the node goes on.
func TestACompilerThatPanics(t *testing.T) {
	p, c := preparedNode(t, t.TempDir())
	c.failure = func(string) error { panic("no such register") }
	_, err := p.functions.load(context.Background(), registered(1)[0])
	var invalid *api.InvalidArgumentError
	require.ErrorAs(t, err, &invalid)
	require.ErrorContains(t, err, "no such register")
	_, err = p.functions.inspect(context.Background(), "f1", []byte("f1"))
	require.ErrorAs(t, err, &invalid)
	c.failure = nil
	f, err := p.functions.load(context.Background(), registered(1)[0])
	require.NoError(t, err)
	f.release()
	require.NoError(t, p.functions.close())
}

// isReady says whether a node has the first version of vcall ready.
func isReady(n *Node) bool {
	return n.functions.isCompiled(&locuspb.FunctionInfo{Name: "vcall", Hash: hashOf(versionGuest('1'))})
}

// TestReadyWithoutACall: every node of a cluster has a function ready that was registered at one.
func TestReadyWithoutACall(t *testing.T) {
	c, db := threeNodes(t)
	for _, n := range c.nodes() {
		eventually(t, "it has heard of the functions", n.functions.trust.current)
	}
	registerVersions(t, db, 1, "vcall")
	for _, n := range c.nodes() {
		eventually(t, "the function is ready on each node", func() bool { return isReady(n) })
	}
}

// TestReadyAgain: a node that starts again has a function ready before anybody calls it.
func TestReadyAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n")
	n := startNode(t, testOptions(t, dir))
	eventually(t, "it has heard of the functions", n.functions.trust.current)
	registerVersions(t, openClient(t, []*Node{n}), 1, "vcall")
	eventually(t, "its module is on the disk", func() bool { return n.functions.onDisk(hashOf(versionGuest('1'))) })
	require.NoError(t, n.Stop(context.Background()))
	again := startNode(t, testOptions(t, dir))
	eventually(t, "the function is ready", func() bool { return isReady(again) })
}
