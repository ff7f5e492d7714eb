package wasm

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/guestcache"
)

// growing takes a page more in each call, and returns as many bytes as it has pages then, from the last one's end.
func growing() *guest {
	return plainGuest().change("locus_call", func(f *guestFunc) {
		// memory.grow(1) == -1: unreachable; the result is at size<<16 - size, and as long as size
		f.body = slices.Concat(i32Const(1), []byte{0x40, 0}, i32Const(-1), []byte{0x46, 0x04, 0x40, 0, 0x0b},
			[]byte{0x3f, 0}, i32Const(16), []byte{0x74, 0x3f, 0, 0x6b, 0xad}, i64Const(32), []byte{0x86, 0x3f, 0, 0xad, 0x84})
	})
}

// TestMemoryGrowsInPlace: a guest's memory is where it was after it has grown, so that growing copies nothing, and what is new is zero.
func TestMemoryGrowsInPlace(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("guests have their memory on Go's heap here")
	}
	r := newRuntime(t, Options{MemoryLimitPages: 16, MaxInstances: 1})
	f := compile(t, r, "f", growing().bytes())
	var first *byte
	for pages := 2; pages <= 16; pages++ {
		out, err := f.CallPure(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		require.Equal(t, make([]byte, pages), out.Result)
		require.Len(t, f.pool.idle, 1)
		b, ok := f.pool.idle[0].module.Memory().Read(0, uint32(pages<<16))
		require.True(t, ok)
		if first == nil {
			first = &b[0]
		}
		require.Same(t, first, &b[0])
	}
	_, err := f.CallPure(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, "unreachable", "it has all that it may have")
}

// TestMemoryIsGivenBack: what was reserved for instances is free again when they have ended.
func TestMemoryIsGivenBack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("guests have their memory on Go's heap here")
	}
	const pages, instances = 1 << 14, 200 // 1 GiB each
	r := newRuntime(t, Options{MemoryLimitPages: pages, MaxInstances: 1})
	f := compile(t, r, "f", growing().bytes())
	before, _ := process(t)
	for range instances {
		i, err := f.instantiate(ctx)
		require.NoError(t, err)
		during, _ := process(t)
		require.Greater(t, during, before+pages<<16/2, "it is reserved")
		i.close()
	}
	after, _ := process(t)
	require.Less(t, after, before+instances*pages<<16/4)
}

// process is the size of this process's address space, and what of it is in memory, in bytes.
func process(t *testing.T) (addresses, resident int) {
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	_, err = fmt.Sscan(string(statm), &addresses, &resident)
	require.NoError(t, err)
	return addresses * os.Getpagesize(), resident * os.Getpagesize()
}

// TestMemoryOnHeap: where no addresses can be reserved, a guest has its memory all the same, up to its limit.
func TestMemoryOnHeap(t *testing.T) {
	m := heapMemory{limit: 2 << 16}
	b := m.Reallocate(1 << 16)
	require.Len(t, b, 1<<16)
	b[1<<16-1] = 7
	b = m.Reallocate(2 << 16)
	require.Len(t, b, 2<<16)
	require.Equal(t, []byte{7, 0}, b[1<<16-1:1<<16+1])
	require.Nil(t, m.Reallocate(3<<16))
}

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
		resident := func() (n int) {
			if runtime.GOOS == "linux" {
				_, n = process(t)
			}
			return n
		}
		before, residentBefore := heap(), resident()
		for n := range held {
			var err error
			held[n], err = f.instantiate(ctx)
			require.NoError(t, err)
		}
		each := (heap() - before) / int64(len(held))
		size := int64(held[0].module.Memory().Size())
		t.Logf("%s: %d KiB, of which its memory is %d KiB", c.name, each>>10, size>>10)
		if runtime.GOOS == "linux" { // its memory is not on the heap
			require.Less(t, each, c.besides)
		} else {
			require.Less(t, each, size+c.besides)
		}
		require.Less(t, int64(resident()-residentBefore)/int64(len(held)), size+c.besides+1<<20)
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
