package wasm

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
)

// forever is a loop around code that leaves nothing.
func forever(code ...[]byte) []byte {
	return slices.Concat([]byte{0x03, 0x40}, slices.Concat(code...), []byte{0x0c, 0x00, 0x0b}, i64Const(0))
}

// calling is a guest whose locus_call has a body of its own.
func calling(body []byte, imports ...guestImport) *guest {
	g := plainGuest().change("locus_call", func(f *guestFunc) { f.body = body })
	g.imports = imports
	return g
}

var (
	drop        = []byte{0x1a}
	callFirst   = []byte{0x10, 0} // the first function, which is the import
	bulkFill    = []byte{0xfc, 11, 0}
	bulkCopy    = []byte{0xfc, 10, 0, 0}
	memoryGrow  = []byte{0x40, 0}
	unreachable = []byte{0x00}
)

// callTree has no loop: each of its functions calls the one before twice, and the last one is called.
func callTree() *guest {
	g := calling(nil)
	g.funcs = append(g.funcs, guestFunc{name: "leaf"})
	for depth := range 60 {
		below := byte(len(g.funcs) - 1)
		g.funcs = append(g.funcs, guestFunc{name: "f" + string(rune('A'+depth)), body: []byte{0x10, below, 0x10, below}})
	}
	return g.change("locus_call", func(f *guestFunc) {
		f.body = append([]byte{0x10, byte(len(g.funcs) - 1)}, i64Const(0)...)
	})
}

// TestHostileGuests: each ends, says at what, loses its instance, and leaves the function fit to be called again.
func TestHostileGuests(t *testing.T) {
	const fuel = 20_000_000
	out := &api.FuelError{Function: "f", Limit: fuel}
	locus := func(name, params, results string) guestImport { return guestImport{"locus", name, params, results} }
	wasi := func(name, params string) guestImport { return guestImport{"wasi_snapshot_preview1", name, params, "i"} }
	for name, c := range map[string]struct {
		guest *guest
		want  error
	}{
		"spins":               {calling(forever()), out},
		"recurses":            {calling([]byte{0x20, 0, 0x20, 1, 0x20, 2, 0x10, 3}), crashed("f", "stack overflow")},
		"calls without loops": {callTree(), out},
		"grows without end":   {calling(forever(i32Const(1), memoryGrow, drop)), out},
		"asks for too much":   {calling(forever(i32Const(-1), memoryGrow, drop)), out},
		"fills":               {calling(forever(i32Const(0), i32Const(0), i32Const(1<<16), bulkFill)), out},
		"copies":              {calling(forever(i32Const(8), i32Const(0), i32Const(1<<16-8), bulkCopy)), out},
		"asks the host":       {calling(forever(callFirst, drop), locus("timestamp", "", "l")), out},
		"draws":               {calling(forever(i32Const(0), i32Const(1<<16), callFirst), locus("random", "ii", "")), out},
		"logs":                {calling(forever(i32Const(0), i32Const(1<<16), callFirst), locus("log", "ii", "")), out},
		"draws from WASI":     {calling(forever(i32Const(0), i32Const(1<<16), callFirst, drop), wasi("random_get", "ii")), out},
		"polls": {calling(forever(i32Const(0), i32Const(0), i32Const(1000), i32Const(60000), callFirst, drop),
			wasi("poll_oneoff", "iiii")), out},
		"writes to nowhere": {calling(forever(i32Const(1), i32Const(0), i32Const(8000), i32Const(65000), callFirst, drop),
			wasi("fd_write", "iiii")), out},
		"traps":                  {calling(unreachable), crashed("f", "wasm error: unreachable")},
		"returns a huge length":  {calling(result(0, 1<<32-1)), &api.LimitError{What: `result of function "f"`, Limit: 4 << 20, Got: 1<<32 - 1}},
		"returns what is not it": {calling(result(1<<31, 100)), crashed("f", "it gave the host 100 bytes at 0x80000000, which is outside of its memory of 65536 bytes")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t, Options{Fuel: fuel, MaxInstances: 1, CallTimeout: time.Hour})
			f := compile(t, r, "f", c.guest.bytes())
			for range 2 {
				used, err := f.CallPure(ctx, udf.CodecRaw, nil)
				require.Equal(t, c.want, err)
				if c.want == error(out) {
					require.Equal(t, uint64(fuel), used.Fuel)
				}
				if _, refused := c.want.(*api.LimitError); !refused {
					require.Empty(t, f.pool.idle, "the instance is discarded")
				}
			}
		})
	}
}

// TestMemoryEnds: memory grows to the limit, and the fuel that it costs is that of what was got.
func TestMemoryEnds(t *testing.T) {
	grow := calling(slices.Concat(i32Const(255), memoryGrow, drop, i32Const(1), memoryGrow, []byte{0xac})) // extend: -1 is a result of 4 GiB - 1
	f := compile(t, newRuntime(t, Options{}), "f", grow.bytes())
	out, err := f.CallPure(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, "is 4294967295, more than the limit", "memory.grow answered -1")
	require.Equal(t, uint64(6+255*8192+64), out.Fuel)
}

// TestFuelIsExact: what a call has used is enough for the same call, and one instruction less is not.
func TestFuelIsExact(t *testing.T) {
	r := newRuntime(t, Options{MaxInstances: 1})
	f := hostile(t, r, "pure")
	call := func(fuel int64) (uint64, error) {
		r.options.Fuel = fuel
		out, err := f.CallPure(ctx, udf.CodecRaw, []byte("=some text"))
		return out.Fuel, err
	}
	used, err := call(1_000_000)
	require.NoError(t, err)
	again, err := call(int64(used))
	require.NoError(t, err)
	require.Equal(t, used, again)
	_, err = call(int64(used) - 1)
	require.Equal(t, &api.FuelError{Function: "pure", Limit: used - 1}, err)
	r.options.Fuel = 1_000_000
	require.Equal(t, uint64(1), visits(t, f), "a new instance")
}

// TestFuelAddsUp: an accumulator has used what its entries have, and each has fuel of its own.
func TestFuelAddsUp(t *testing.T) {
	r := newRuntime(t, Options{MaxInstances: 1, Fuel: 5_000})
	s := memstore.New(map[string]string{"a": "1", "b": "2"})
	batch := s.Batches(udf.Span{})[0]
	f := hostile(t, r, "range")
	a, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	defer a.Close()
	before := a.Fuel()
	require.NoError(t, a.Add(ctx, batch))
	each := a.Fuel() - before
	require.Positive(t, each)
	for n := range uint64(100) {
		require.NoError(t, a.Add(ctx, batch))
		require.Equal(t, before+(n+2)*each, a.Fuel())
	}
	require.Greater(t, a.Fuel(), uint64(5_000))
}

// TestTimeBound: the host's work for an entry is bounded by time, which is looked at whenever the guest asks for some.
func TestTimeBound(t *testing.T) {
	r := newRuntime(t, Options{MaxInstances: 1, WriteTimeout: time.Nanosecond})
	f := hostile(t, r, "writer")
	s := memstore.New(nil)
	_, err := f.CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("pk"))
	require.Equal(t, &api.FuelError{Function: "writer", Bound: time.Nanosecond}, err)
	require.ErrorIs(t, err, api.ErrFuelExhausted)
	require.Empty(t, s.Data)
	require.Empty(t, f.pool.idle)
}

// endingView ends the caller's context under a read.
type endingView struct {
	*memstore.Store
	end context.CancelFunc
}

func (v endingView) Get(key []byte) ([]byte, bool, error) {
	v.end()
	return v.Store.Get(key)
}

// TestCallerLeaves: a guest whose caller has gone is ended, and the next call on the function is not.
func TestCallerLeaves(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 1}), "reader")
	read := func(ctx context.Context, end context.CancelFunc) error {
		_, err := f.CallRead(ctx, endingView{memstore.New(nil), end}, udf.Info{}, udf.CodecRaw, []byte("gk"))
		return err
	}
	// A guest that reads for ever meets the end of the context at a read, and the next one does not.
	scanning, stop := context.WithCancel(ctx)
	forEver := calling(forever(i32Const(0), i32Const(0), i32Const(0), i32Const(0), callFirst, drop), guestImport{"locus", "get", "iiii", "l"}).
		describe("locus 1\nfunction f read-only raw\n")
	reading := compile(t, newRuntime(t, Options{Fuel: 1 << 60, CallTimeout: time.Hour}), "f", forEver.bytes())
	go stop()
	_, err := reading.CallRead(scanning, memstore.New(nil), udf.Info{}, udf.CodecRaw, nil)
	require.Equal(t, context.Canceled, err)
	for range 100 {
		ending, end := context.WithCancel(ctx)
		if err := read(ending, end); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		require.NoError(t, read(ctx, func() {}))
	}
}

// TestPrices: what the host does is paid for, besides the instructions that ask for it.
func TestPrices(t *testing.T) {
	r := newRuntime(t, Options{})
	for name, c := range map[string]struct {
		body         []byte
		importName   string
		params       string
		results      string
		instructions int
		price        uint64
	}{
		"timestamp": {slices.Concat(callFirst, drop), "timestamp", "", "l", 2, hostFuel},
		"random":    {slices.Concat(i32Const(0), i32Const(1000), callFirst), "random", "ii", "", 3, hostFuel + 1000*randomFuel},
		"key":       {slices.Concat(i32Const(0), i32Const(1000), callFirst, drop), "key", "ii", "l", 4, hostFuel},
		"put": {slices.Concat(i32Const(0), i32Const(80), i32Const(0), i32Const(800), i64Const(0), callFirst, drop),
			"put", "iiiil", "i", 7, hostFuel + 880/bytesPerFuel},
	} {
		g := calling(append(c.body, i64Const(0)...), guestImport{"locus", c.importName, c.params, c.results}).describe("locus 1\nfunction f read-write raw\n")
		f := compile(t, r, "f", g.bytes())
		out, err := f.CallWrite(ctx, memstore.New(nil), udf.Info{}, udf.CodecRaw, nil)
		require.NoError(t, err, name)
		require.Equal(t, uint64(c.instructions)+1+c.price, out.Fuel, name)
	}
}
