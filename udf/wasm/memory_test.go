package wasm

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInstanceMemory: an instance takes what its memory has now, not what it may grow to, and little besides.
func TestInstanceMemory(t *testing.T) {
	r := newRuntime(t, Options{MaxInstances: 30})
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

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
