package wasm

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/guestcache"
)

// TestInstanceMemory: an instance takes what its memory has now, not what it may grow to, and little besides.
func TestInstanceMemory(t *testing.T) {
	r := newRuntime(t, Options{MaxInstances: 30, CacheDir: guestcache.Dir()})
	for _, c := range []struct {
		name    string
		module  []byte
		besides int64 // bytes above the guest's memory
	}{
		{"f", plainGuest().bytes(), 100 << 10},
		{"fieldsum", moduleFile(t, guests+"c/fieldsum.wasm"), 150 << 10},
		{"square", moduleFile(t, guests+"go/square.wasm"), 2 << 20},
	} {
		f := compile(t, r, c.name, c.module)
		held := make([]*instance, 20)
		before := heap()
		for n := range held {
			var err error
			held[n], err = f.instantiate(ctx)
			require.NoError(t, err)
		}
		each := (heap() - before) / int64(len(held))
		size := int64(held[0].module.Memory().Size())
		t.Logf("%s: %d KiB, of which its memory is %d KiB", c.name, each>>10, size>>10)
		require.Less(t, each, size+c.besides)
		for _, i := range held {
			i.close()
		}
	}
}

// TestUnusedExports: what a module exports besides the ABI costs an instance nothing.
func TestUnusedExports(t *testing.T) {
	g := plainGuest()
	for n := range 2000 {
		g.funcs = append(g.funcs, guestFunc{name: fmt.Sprint("unused", n)})
	}
	f := compile(t, newRuntime(t, Options{}), "f", g.bytes())
	before := heap()
	i, err := f.instantiate(ctx)
	require.NoError(t, err)
	require.Less(t, heap()-before, int64(2<<20))
	i.close()
}

// TestStacksAreGivenBack: a call that recurses deeply and returns leaves no stack of its depth in the pool.
func TestStacksAreGivenBack(t *testing.T) {
	g := calling(slices.Concat(i32Const(500_000), []byte{0x10, 4}, i64Const(0)))
	// if n != 0: itself with n - 1
	g.funcs = append(g.funcs, guestFunc{name: "dig", params: "i", body: slices.Concat(
		[]byte{0x20, 0, 0x04, 0x40, 0x20, 0}, i32Const(1), []byte{0x6b, 0x10, 4, 0x0b})})
	f := compile(t, newRuntime(t, Options{}), "f", g.bytes())
	before := heap()
	_, err := f.CallPure(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	require.Len(t, f.pool.idle, 1, "the instance is kept")
	require.Less(t, heap()-before, int64(2<<20))
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
