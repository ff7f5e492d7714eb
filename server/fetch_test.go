package server

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOneFetch: names that share a module fetch it once, at the same time too.
func TestOneFetch(t *testing.T) {
	d, err := openDirectory(filepath.Join(t.TempDir(), "n"))
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	module := make([]byte, 1<<20)
	var fetched atomic.Int64
	f := &functions{fs: d.fs, dir: d.file(moduleDir), fetch: func(context.Context, string) ([]byte, error) {
		fetched.Add(1)
		return module, nil
	}}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			got, err := f.module(context.Background(), hashOf(module))
			require.NoError(t, err)
			require.Len(t, got, len(module))
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), fetched.Load())
}
