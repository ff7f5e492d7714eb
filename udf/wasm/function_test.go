package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
	"github.com/locuskv/locus/udf/internal/shape"
)

// hostile compiles one function of testdata/hostile.c.
func hostile(t testing.TB, r *Runtime, name string) *Function {
	t.Helper()
	f, err := r.Compile(ctx, name, moduleFile(t, "testdata/hostile.wasm"))
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

func crashed(name, message string) *api.FunctionError {
	return &api.FunctionError{Function: name, Code: udf.CodeCrashed, Message: message}
}

// visits is how many calls the instance has seen that serves the next one.
func visits(t *testing.T, f *Function) uint64 {
	t.Helper()
	out, err := f.CallPure(ctx, udf.CodecRaw, []byte("v"))
	require.NoError(t, err)
	return binary.LittleEndian.Uint64(out.Result)
}

// TestCrashes: each deed ends in an error that says what happened, discards the instance, and leaves the
// function fit to serve the next call.
func TestCrashes(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 1}), "pure")
	beyond := func(n int) string {
		return fmt.Sprintf("it gave the host %d bytes at 0x7ffffff0, which is outside of its memory of ", n)
	}
	for arg, want := range map[string]string{
		"t": "wasm error: unreachable",
		"d": "wasm error: ", // the guest's own stack ends below address 0
		"r": beyond(100),
		"R": "it gave the host 4194304 bytes at ",
		"k": beyond(16),
		"K": "it gave the host 4294967295 bytes at ",
		"b": beyond(16),
		"i": beyond(24),
		"n": beyond(1 << 30),
		"E": beyond(100),
	} {
		require.Equal(t, uint64(1), visits(t, f), "a new instance before %s", arg)
		require.Equal(t, uint64(2), visits(t, f), "an instance is kept")
		_, err := f.CallPure(ctx, udf.CodecRaw, []byte(arg))
		var got *api.FunctionError
		require.ErrorAs(t, err, &got, arg)
		require.Equal(t, int64(udf.CodeCrashed), got.Code, arg)
		require.Equal(t, "pure", got.Function)
		require.True(t, strings.HasPrefix(got.Message, want), "%s: %s", arg, got.Message)
		require.NotContains(t, got.Message, "\n")
	}
}

// TestRefusals: these end a call, and the instance lives on.
func TestRefusals(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 1}), "pure")
	call := func(arg string) error {
		_, err := f.CallPure(ctx, udf.CodecRaw, []byte(arg))
		return err
	}
	for i, c := range []struct {
		arg  string
		want error
	}{
		{"eno\x07\xff", &api.FunctionError{Function: "pure", Code: 42, Message: "no\uFFFD\uFFFD"}},
		{"e" + strings.Repeat("x", 5000), &api.FunctionError{Function: "pure", Code: 42, Message: strings.Repeat("x", maxErrorMessage)}},
		{"h", &api.LimitError{What: `result of function "pure"`, Limit: 4 << 20, Got: 1<<32 - 1}},
		{"gk", crashed("pure", "it is not of a kind that may read")},
		{"c", crashed("pure", "it is not of a kind that may read")},
		{"pk", crashed("pure", "it is not of a kind that may write")},
		{"Dk", crashed("pure", "it is not of a kind that may write")},
	} {
		require.Equal(t, c.want, call(c.arg), c.arg)
		require.Equal(t, uint64(2*(i+1)), visits(t, f))
	}
	require.ErrorContains(t, call(strings.Repeat("x", 1<<20+1)), "its locus_alloc has no room for 1048577 bytes")
}

func TestArgumentsCrossWhole(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{}), "pure")
	for _, n := range []int{0, 1, 65535, 1<<20 - 2} {
		arg := strings.Repeat("z", n)
		out, err := f.CallPure(ctx, udf.CodecRaw, []byte("="+arg))
		require.NoError(t, err)
		require.Equal(t, arg, string(out.Result))
		require.NotZero(t, out.Fuel)
	}
	_, err := f.CallPure(ctx, udf.CodecJSON, nil)
	require.ErrorContains(t, err, `function "pure" takes codec raw, not json`)
	_, err = f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, `function "pure" is pure and can't be run as range`)
}

// TestWriteBound: a call on a key, for which a range's writes wait, has a shorter bound than others.
func TestWriteBound(t *testing.T) {
	r := newRuntime(t, Options{Fuel: 1 << 60, WriteFuel: 20_000})
	_, err := hostile(t, r, "pure").CallWrite(ctx, memstore.New(nil), udf.Info{}, udf.CodecRaw, []byte("s"))
	require.ErrorIs(t, err, api.ErrFuelExhausted)
	require.Equal(t, &api.FuelError{Function: "pure", Limit: 20_000}, err)
}

// TestOptimisticCalls have a longer bound, and keep no worker from others while they use it.
func TestOptimisticCalls(t *testing.T) {
	r := newRuntime(t, Options{Workers: 1, WriteFuel: 10_000, OptimisticFuel: 1 << 60})
	spinning, stop := context.WithCancel(udf.Optimistic(ctx))
	ended := make(chan error)
	f := hostile(t, r, "pure")
	go func() {
		_, err := f.CallWrite(spinning, memstore.New(nil), udf.Info{}, udf.CodecRaw, []byte("s"))
		ended <- err
	}()
	for len(r.patient) == 0 {
		runtime.Gosched()
	}
	_, err := f.CallPure(ctx, udf.CodecRaw, []byte("=x"))
	require.NoError(t, err, "a pure call beside it")
	select {
	case err := <-ended:
		t.Fatal("ended before it was stopped:", err)
	default:
	}
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// TestFuelBound: a guest that spins is stopped, by the bound or by its caller, and the garbage collector
// does not wait for it.
func TestFuelBound(t *testing.T) {
	r := newRuntime(t, Options{Fuel: 100_000_000, MaxInstances: 1})
	f := hostile(t, r, "pure")
	_, err := f.CallPure(ctx, udf.CodecRaw, []byte("s"))
	require.ErrorIs(t, err, api.ErrFuelExhausted)
	require.ErrorContains(t, err, `function "pure" was stopped when it had used up its fuel, 100000000 instructions`)
	require.Equal(t, uint64(1), visits(t, f), "the instance was discarded")

	slow := hostile(t, newRuntime(t, Options{Fuel: 1 << 60}), "pure")
	bounded, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = slow.CallPure(bounded, udf.CodecRaw, []byte("s"))
	require.Equal(t, context.DeadlineExceeded, err)

	cancellable, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() {
		_, err := slow.CallPure(cancellable, udf.CodecRaw, []byte("s"))
		done <- err
	}()
	runtime.GC() // returns while the guest spins
	cancel()
	require.Equal(t, context.Canceled, <-done)
}

func TestMemoryIsBounded(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MemoryLimitPages: 40}), "pure")
	out, err := f.CallPure(ctx, udf.CodecRaw, []byte("m"))
	require.NoError(t, err)
	require.Equal(t, uint64(40), binary.LittleEndian.Uint64(out.Result))
}

func TestReadWrite(t *testing.T) {
	r := newRuntime(t, Options{})
	reader, writer := hostile(t, r, "reader"), hostile(t, r, "writer")
	s := memstore.New(map[string]string{"short": "value", "long": "a value of more than 8 bytes", "empty": ""})
	info := udf.Info{ID: udf.CallID{9, 8, 7}, Timestamp: 1234567 << 16, Key: []byte("the key")}
	write := func(f *Function, arg string) ([]byte, error) {
		out, err := f.CallWrite(ctx, s, info, udf.CodecRaw, []byte(arg))
		return out.Result, err
	}
	number := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	for _, f := range []*Function{reader, writer} {
		for arg, want := range map[string][]byte{
			"gshort": []byte("value"), "gempty": {}, "gnone": number(-1), "glong": number(28), "c": number(3), "cm": number(1), "cz": number(0),
		} {
			got, err := write(f, arg)
			require.NoError(t, err, arg)
			require.Equal(t, want, got, arg)
		}
		got, err := write(f, "I")
		require.NoError(t, err)
		require.Equal(t, append(append(info.ID[:], number(int64(info.Timestamp))...), "the key"...), got)
	}

	_, err := write(reader, "pk")
	require.Equal(t, crashed("reader", "it is not of a kind that may write"), err, "a reader can't write, even in a transaction")
	_, err = reader.CallRead(ctx, s, info, udf.CodecRaw, []byte("pk"))
	require.Equal(t, crashed("reader", "it is not of a kind that may write"), err)
	_, err = writer.CallRead(ctx, s, info, udf.CodecRaw, nil)
	require.ErrorContains(t, err, `function "writer" is read-write and can't be run as read-only`)
	_, err = reader.CallPure(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, `function "reader" is read-only and can't be run as pure`)

	_, err = write(writer, "pnew")
	require.NoError(t, err)
	require.Equal(t, "new", s.Data["new"])
	_, err = write(writer, "Dnew")
	require.NoError(t, err)
	require.NotContains(t, s.Data, "new")

	for arg, want := range map[string]error{
		"wk": &api.LimitError{What: `bytes written by function "writer"`, Limit: 4 << 20, Got: 1024 * 4097},
		"o":  &api.LimitError{What: `open scans of function "writer"`, Limit: maxOpenScans, Got: maxOpenScans + 1},
		"x":  crashed("writer", "it used scan 7, which is not open"),
		"X":  crashed("writer", "it used scan 4294967295, which is not open"),
		"T":  &api.InvalidArgumentError{Reason: `function "writer": a time to live of -5 ms is out of range`},
	} {
		_, err = write(writer, arg)
		require.Equal(t, want, err, arg)
	}
	s.Err = api.ErrNotOneGroup
	for _, arg := range []string{"gk", "pk", "Dk", "c"} {
		_, err = write(writer, arg)
		require.Equal(t, api.ErrNotOneGroup, err, "%s: the store's error is the call's", arg)
	}
}

// TestPureSeesNothing: a pure function gets neither the call's identity nor its randomness, so that it
// gives the same result wherever it runs.
func TestPureSeesNothing(t *testing.T) {
	r := newRuntime(t, Options{})
	pure, reader := hostile(t, r, "pure"), hostile(t, r, "reader")
	s := memstore.New(nil)
	info := udf.Info{ID: udf.CallID{1}, Timestamp: 5, Key: []byte("k")}
	out, err := pure.CallWrite(ctx, s, info, udf.CodecRaw, []byte("I"))
	require.NoError(t, err)
	require.Equal(t, make([]byte, 32), out.Result)

	draw := func(f *Function, info udf.Info) string {
		out, err := f.CallRead(ctx, s, info, udf.CodecRaw, []byte("N"))
		require.NoError(t, err)
		return string(out.Result)
	}
	require.Equal(t, draw(pure, info), draw(pure, udf.Info{}))
	require.Equal(t, draw(reader, info), draw(reader, info), "a retry draws the same")
	require.NotEqual(t, draw(reader, info), draw(reader, udf.Info{ID: udf.CallID{2}}))
	want := make([]byte, 16)
	_, _ = shape.RandSource(info.ID).Read(want)
	require.Equal(t, string(want), draw(reader, info))
}

func TestLogIsBounded(t *testing.T) {
	var lines []string
	f := hostile(t, newRuntime(t, Options{Log: func(function, line string) {
		require.Equal(t, "pure", function)
		lines = append(lines, line)
	}}), "pure")
	_, err := f.CallPure(ctx, udf.CodecRaw, []byte("l"))
	require.NoError(t, err)
	require.Len(t, lines, maxLogLines)
	for _, l := range lines {
		require.LessOrEqual(t, len([]rune(l)), maxLogLine)
	}
}

func TestRange(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 2}), "range")
	s := memstore.New(nil)
	for i := range 100 {
		s.Data[fmt.Sprintf("k%02d", i)] = "v"
	}
	s.BatchBytes = 300
	var accs [][]byte
	for _, span := range []udf.Span{{End: []byte("k30")}, {Start: []byte("k30")}} {
		// Two at a time: each has an instance of its own.
		a, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		idle, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		for _, b := range s.Batches(span) {
			require.NoError(t, a.Add(ctx, b))
		}
		encoded, err := a.Encode(ctx)
		require.NoError(t, err)
		require.NotZero(t, a.Fuel())
		empty, err := idle.Encode(ctx)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 8), empty)
		accs = append(accs, encoded, empty)
		a.Close()
		a.Close()
		idle.Close()
		require.Error(t, a.Add(ctx, nil), "closed")
	}
	merged, err := f.Merge(ctx, udf.CodecRaw, nil, accs[:3])
	require.NoError(t, err)
	out, err := f.Result(ctx, udf.CodecRaw, nil, [][]byte{merged.Result, accs[3]})
	require.NoError(t, err)
	require.Equal(t, uint64(100), binary.LittleEndian.Uint64(out.Result))
	out, err = f.Result(ctx, udf.CodecRaw, nil, nil)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 8), out.Result, "a run begins with a fresh accumulator")
}

func TestRangeErrors(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 1, Fuel: 1_000_000}), "range")
	s := memstore.New(map[string]string{"k": "v"})
	batch := s.Batches(udf.Span{})[0]

	_, err := f.NewAccumulator(ctx, udf.CodecRaw, []byte("e"))
	require.Equal(t, &api.FunctionError{Function: "range", Code: 7, Message: "no"}, err)
	_, err = f.Result(ctx, udf.CodecRaw, nil, [][]byte{[]byte("short")})
	require.Equal(t, &api.FunctionError{Function: "range", Code: 1, Message: "an accumulator is not 8 bytes long"}, err)
	_, err = f.CallPure(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, `function "range" is range and can't be run as pure`)

	for mode, want := range map[string]string{
		"t": "wasm error: unreachable", "g": "it is not of a kind that may read", "s": "was stopped when it had used up its fuel, 1000000 instructions",
	} {
		a, err := f.NewAccumulator(ctx, udf.CodecRaw, []byte(mode))
		require.NoError(t, err)
		err = a.Add(ctx, batch)
		require.ErrorContains(t, err, want)
		require.Equal(t, err, a.Add(ctx, batch), "a failed accumulator stays failed")
		_, again := a.Encode(ctx)
		require.Equal(t, err, again)
		a.Close()
	}
	a, err := f.NewAccumulator(ctx, udf.CodecRaw, []byte("r"))
	require.NoError(t, err)
	_, err = a.Encode(ctx)
	require.ErrorContains(t, err, "it gave the host 8 bytes at 0x7ffffff0")
	a.Close()
}

// TestPoolBounds: a call waits for an instance no longer than its context allows, and goes on when one
// comes back.
func TestPoolBounds(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{MaxInstances: 1}), "range")
	a, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = f.NewAccumulator(short, udf.CodecRaw, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	done := make(chan error)
	go func() {
		b, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
		if err == nil {
			b.Close()
		}
		done <- err
	}()
	a.Close()
	require.NoError(t, <-done)

	// Closing the function while an accumulator is open lets that one end.
	a, err = f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	f.Close()
	_, err = a.Encode(ctx)
	require.NoError(t, err)
	a.Close()
	_, err = f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.ErrorIs(t, err, errClosed)
}

// TestWorkersBound runs more callers than workers, and counts how many are inside at once: the store's
// view is asked by running guests only.
func TestWorkersBound(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{Workers: 2, MaxInstances: 8}), "reader")
	v := &countingView{Store: memstore.New(map[string]string{"k": "v"})}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				_, err := f.CallRead(ctx, v, udf.Info{}, udf.CodecRaw, []byte("gk"))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, v.most.Load(), int64(2))
}

type countingView struct {
	*memstore.Store
	now, most atomic.Int64
}

func (v *countingView) Get(key []byte) ([]byte, bool, error) {
	n := v.now.Add(1)
	defer v.now.Add(-1)
	for m := v.most.Load(); n > m && !v.most.CompareAndSwap(m, n); m = v.most.Load() {
		continue
	}
	runtime.Gosched()
	return v.Store.Get(key)
}

type panickingView struct{ *memstore.Store }

func (panickingView) Get([]byte) ([]byte, bool, error) { panic(errors.New("view is broken")) }

// TestHostPanic: a panic under a host function ends the call, not the node.
func TestHostPanic(t *testing.T) {
	f := hostile(t, newRuntime(t, Options{}), "reader")
	_, err := f.CallRead(ctx, panickingView{memstore.New(nil)}, udf.Info{}, udf.CodecRaw, []byte("gk"))
	require.ErrorContains(t, err, "view is broken")
	out, err := f.CallRead(ctx, memstore.New(nil), udf.Info{}, udf.CodecRaw, []byte("=ok"))
	require.NoError(t, err)
	require.Equal(t, "ok", string(out.Result))
}

// TestEcho is the guest in text of docs/abi.md.
func TestEcho(t *testing.T) {
	g := plainGuest().describe("locus 1\nfunction echo pure raw\n")
	require.Len(t, g.manifest, 0x1f)
	g.memory = []byte{1, 0, 17}
	g.change("locus_describe", func(f *guestFunc) { f.body = i64Const(0x000000100000001f) })
	g.change("locus_alloc", func(f *guestFunc) {
		// select of 64 KiB or 0 by n <= 1 MiB
		f.body = slices.Concat(i32Const(0x10000), i32Const(0), []byte{0x20, 0}, i32Const(0x100000), []byte{0x4d, 0x1b})
	})
	g.change("locus_call", func(f *guestFunc) {
		// ptr << 32 | len
		f.body = slices.Concat([]byte{0x20, 1, 0xad}, i64Const(32), []byte{0x86, 0x20, 2, 0xad, 0x84})
	})
	f, err := newRuntime(t, Options{}).Compile(ctx, "echo", g.bytes())
	require.NoError(t, err)
	for _, n := range []int{0, 5, 1 << 20} {
		out, err := f.CallPure(ctx, udf.CodecRaw, []byte(strings.Repeat("e", n)))
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("e", n), string(out.Result))
	}
	_, err = f.CallPure(ctx, udf.CodecRaw, make([]byte, 1<<20+1))
	require.ErrorContains(t, err, "its locus_alloc has no room for 1048577 bytes")
}

// TestPoolBytes: idle instances are kept while there is room for all, and the longest unused goes first.
func TestPoolBytes(t *testing.T) {
	module := moduleFile(t, "testdata/hostile.wasm")
	r := newRuntime(t, Options{})
	var functions []*Function
	for _, name := range []string{"pure", "reader", "writer"} {
		functions = append(functions, compile(t, r, name, module))
	}
	one := r.keep.mu.bytes / 3
	require.Positive(t, one)
	require.Equal(t, 3, r.keep.mu.idle.Len(), "each has the instance that was asked for its manifest")

	r.keep.limit = 2 * one
	seen := func(f *Function) uint64 {
		out, err := f.CallRead(ctx, memstore.New(nil), udf.Info{}, udf.CodecRaw, []byte("v"))
		require.NoError(t, err)
		return binary.LittleEndian.Uint64(out.Result)
	}
	pure, reader := functions[0], functions[1]
	require.Equal(t, uint64(1), seen(pure), "which ends the instance of reader")
	require.Equal(t, uint64(2), seen(pure))
	require.Equal(t, 2*one, r.keep.mu.bytes)
	require.Equal(t, uint64(1), seen(reader), "which ends that of writer")
	require.Equal(t, uint64(3), seen(pure))
	require.Equal(t, uint64(2), seen(reader))

	// What is in use is never ended, and counts.
	r.keep.limit = 1
	require.Equal(t, uint64(4), seen(pure))
	require.Zero(t, r.keep.mu.bytes, "none is kept")
	require.Equal(t, uint64(1), seen(pure))

	r.keep.limit = 100 * one
	_, err := pure.CallPure(ctx, udf.CodecRaw, []byte("m"))
	require.NoError(t, err)
	require.Equal(t, int64(256<<16), r.keep.mu.bytes, "the memory that a guest took is counted when it is put back")
	for _, f := range functions {
		f.Close()
	}
	require.Zero(t, r.keep.mu.bytes)
	require.Zero(t, r.keep.mu.idle.Len())
}
