package server

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// TestOneModuleUnderManyNames: functions of one module that are used for the first time at once fetch and write it once.
func TestOneModuleUnderManyNames(t *testing.T) {
	native, err := udf.NewRegistry()
	require.NoError(t, err)
	module := []byte("a module")
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	var list []*locuspb.FunctionInfo
	for _, n := range names {
		list = append(list, &locuspb.FunctionInfo{Name: n, Version: 1, Hash: hashOf(module), Active: true})
	}
	for range 50 {
		var mu sync.Mutex
		fetched := 0
		all := sync.WaitGroup{}
		all.Add(1)
		f := &functions{
			native: native, compiler: anyCompiler{t}, cmap: &clustermap.Map{}, fs: vfs.OS(), dir: t.TempDir(),
			list: func(context.Context) ([]*locuspb.FunctionInfo, error) { return list, nil },
			fetch: func(context.Context, string) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				fetched++
				return module, nil
			},
		}
		var done sync.WaitGroup
		errs := make([]error, len(names))
		for i, n := range names {
			done.Go(func() {
				all.Wait()
				_, errs[i] = f.resolve(context.Background(), n, 0)
			})
		}
		all.Done()
		done.Wait()
		require.NoError(t, errors.Join(errs...))
		require.GreaterOrEqual(t, fetched, 1)
		got, err := vfs.ReadFile(f.fs, filepath.Join(f.dir, hashOf(module)+".wasm"))
		require.NoError(t, err)
		require.Equal(t, module, got)
	}
}

// anyCompiler takes whatever it is given for a function.
type anyCompiler struct{ t *testing.T }

func (c anyCompiler) Compile(context.Context, string, []byte) (udf.Runnable, error) {
	f, _ := testFunctions(c.t).Lookup("square")
	return f, nil
}

func (anyCompiler) Close() error { return nil }
