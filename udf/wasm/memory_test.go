package wasm

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/udf"
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
	before := addressSpace(t)
	for range instances {
		i, err := f.instantiate(ctx)
		require.NoError(t, err)
		require.Greater(t, addressSpace(t), before+pages<<16/2, "it is reserved")
		i.close()
	}
	require.Less(t, addressSpace(t), before+instances*pages<<16/4)
}

// addressSpace is the size of this process's address space in bytes.
func addressSpace(t *testing.T) int {
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.Fields(string(statm))[0])
	require.NoError(t, err)
	return n * os.Getpagesize()
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
