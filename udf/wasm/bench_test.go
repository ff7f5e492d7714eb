package wasm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/examples/flights"
)

// BenchmarkCompileAgain is what a node pays for a module that it has compiled before its restart: the compiled code lies on the disk.
func BenchmarkCompileAgain(b *testing.B) {
	dir := b.TempDir()
	compile := func() {
		r, err := NewRuntime(Options{CacheDir: dir})
		require.NoError(b, err)
		f, err := r.Compile(ctx, flights.FunctionName, flights.Module)
		require.NoError(b, err)
		b.StopTimer()
		f.Close()
		require.NoError(b, r.Close())
		b.StartTimer()
	}
	compile()
	b.SetBytes(int64(len(flights.Module)))
	b.ReportAllocs()
	for b.Loop() {
		compile()
	}
}
