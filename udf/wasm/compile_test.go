package wasm

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

var ctx = context.Background()

func newRuntime(t testing.TB, o Options) *Runtime {
	t.Helper()
	r, err := NewRuntime(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func moduleFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func TestCompilePlainGuest(t *testing.T) {
	r := newRuntime(t, Options{})
	f, err := r.Compile(ctx, "f", plainGuest().bytes())
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, "f", f.Name())
	require.Equal(t, udf.KindPure, f.Kind())
	require.Equal(t, udf.CodecRaw, f.Codec())
	out, err := f.CallPure(ctx, udf.CodecRaw, []byte("x"))
	require.NoError(t, err)
	require.Empty(t, out.Result)

	// A module of one function answers to any name.
	g, err := r.Compile(ctx, "other", plainGuest().bytes())
	require.NoError(t, err)
	require.Equal(t, "other", g.Name())
	g.Close()
	// Closing one function of a module leaves the other alone.
	_, err = f.CallPure(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	_, err = g.CallPure(ctx, udf.CodecRaw, nil)
	require.ErrorContains(t, err, `function "other": the function is closed`)
}

func TestCompileRefuses(t *testing.T) {
	spin := []byte{0x03, 0x40, 0x0c, 0x00, 0x0b} // loop br 0 end
	trap := []byte{0x00}
	r := newRuntime(t, Options{Fuel: 1_000_000})
	for name, c := range map[string]struct {
		module []byte
		want   string
	}{
		"empty":       {nil, "it is not a WebAssembly module of version 1"},
		"text":        {[]byte("(module)"), "it is not a WebAssembly module of version 1"},
		"preamble":    {preamble, "it does not export the function locus_abi_version () -> (i32)"},
		"cut off":     {plainGuest().bytes()[:40], "is cut off"},
		"garbage":     {append(append([]byte{}, preamble...), 1, 3, 0xff, 0xff, 0xff), "its section with id 1: it is cut off"},
		"wrong types": {plainGuest().change("locus_call", func(f *guestFunc) { f.body = i32Const(0) }).bytes(), "it is not valid WebAssembly"},
		"billions of data segments": {append(append([]byte{}, preamble...), 11, 5, 0xff, 0xff, 0xff, 0xff, 0x0f),
			"its section with id 11: it has 4294967295 items, more than the limit of 1048576"},
		"unknown instruction": {plainGuest().change("locus_call", func(f *guestFunc) { f.body = []byte{0xfe, 0} }).bytes(),
			"function 3: it has the instruction 0xfe, of the feature threads, which is not known here"},
		"own fuel": {plainGuest().change("locus_call", func(f *guestFunc) { f.name = "locus_meter_left" }).bytes(),
			`it exports "locus_meter_left"; names that begin with locus_meter_ are reserved`},
		"global of the meter": {plainGuest().change("locus_call", func(f *guestFunc) { f.body = append([]byte{0x23, 0, 0x1a}, i64Const(0)...) }).bytes(),
			"function 3: it uses global 0 of 0"},
		"no version": {plainGuest().without("locus_abi_version").bytes(),
			"it does not export the function locus_abi_version () -> (i32)"},
		"no alloc": {plainGuest().without("locus_alloc").bytes(), "it does not export the function locus_alloc (i32) -> (i32)"},
		"no call": {plainGuest().without("locus_call").bytes(),
			"it does not export the function locus_call (i32, i32, i32) -> (i64)"},
		"no init": {plainGuest().describe("locus 1\nfunction f range raw\n").bytes(),
			"it does not export the function locus_range_init (i32, i32, i32) -> ()"},
		"wrong signature": {plainGuest().change("locus_call", func(f *guestFunc) { f.params = "ii" }).bytes(),
			"it exports locus_call as (i32, i32) -> (i64), but it must be (i32, i32, i32) -> (i64)"},
		"wrong setup": {plainGuest().change("locus_call", func(f *guestFunc) { f.name = "_initialize" }).bytes(),
			"it exports _initialize as (i32, i32, i32) -> (i64), but it must be () -> ()"},
		"memory not exported": {func() []byte { g := plainGuest(); g.unshown = true; return g.bytes() }(),
			`it does not export its memory under the name "memory"`},
		"version 2": {plainGuest().change("locus_abi_version", func(f *guestFunc) { f.body = i32Const(2) }).bytes(),
			"it was built for version 2 of the ABI; this node has version 1"},
		"import of env": {withImport("env", "abort", "iiii", "").bytes(), `it imports the function "abort" of "env", which a guest is not given`},
		"import of files": {withImport("wasi_snapshot_preview1", "path_open", "iiiiilllii", "i").bytes(),
			`it imports the function "path_open" of "wasi_snapshot_preview1", which a guest is not given`},
		"import of sockets": {withImport("wasi_snapshot_preview1", "sock_accept", "iii", "i").bytes(),
			`it imports the function "sock_accept" of "wasi_snapshot_preview1"`},
		"unknown import": {withImport("locus", "fork", "", "").bytes(), `it imports the function "fork" of "locus", which a guest is not given`},
		"wrong import": {withImport("locus", "get", "ii", "i").bytes(),
			`it imports "get" of "locus" as (i32, i32) -> (i32), but it is (i32, i32, i32, i32) -> (i64)`},
		"start section": {func() []byte { g := plainGuest(); g.start = true; return g.bytes() }(), "it has a start section"},
		"large memory": {withMemory(1, 0, 0x81, 0x02).bytes(),
			"its memory begins with 257 pages, more than the limit of 256 pages (16384 KiB)"},
		"growing memory": {withMemory(1, 1, 1, 0x81, 0x02).bytes(), "its memory may grow to 257 pages, more than the limit of 256 pages"},
		"shared memory":  {withMemory(1, 3, 1, 2).bytes(), "its memory is of a form that is not supported (limits 0x3"},
		"two memories":   {withMemory(2, 0, 1, 0, 1).bytes(), "it has 2 memories; one is allowed"},
		"large table":    {withTables(1, refFunc, 0, 0x80, 0x80, 0x80, 0x08).bytes(), "its tables have 16777216 elements, more than the limit of 1048576"},
		"strange table":  {withTables(1, 0x64, 0, 1).bytes(), "a table of a form that is not supported"},
		"many locals": {plainGuest().change("locus_call", func(f *guestFunc) { f.locals = []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f} }).bytes(),
			"function 3: it has 4294967298 locals, more than the limit of 50000"},
		"no manifest":  {plainGuest().describe("").bytes(), `its manifest "" can't be read: line 1: it is not "locus 1"`},
		"bad manifest": {plainGuest().describe("locus 1\nfunction f fast raw\n").bytes(), `the kind of f is "fast", not pure, read-only, read-write, range or map`},
		"manifest outside": {plainGuest().change("locus_describe", func(f *guestFunc) { f.body = result(60000, 10000) }).bytes(),
			"it gave the host 10000 bytes at 0xea60, which is outside of its memory of 65536 bytes"},
		"endless manifest": {plainGuest().change("locus_describe", func(f *guestFunc) { f.body = result(16, 0xffffffff) }).bytes(),
			"manifest of function \"f\" is 4294967295, more than the limit of 4194304"},
		"other functions": {plainGuest().describe("locus 1\nfunction a pure raw\nfunction b pure raw\n").bytes(),
			`it declares the functions ["a" "b"], and none has that name`},
		"trapping setup": {func() []byte {
			g := plainGuest()
			g.funcs = append(g.funcs, guestFunc{name: "_initialize", body: trap})
			return g.bytes()
		}(), "its _initialize failed"},
		"trapping describe": {plainGuest().change("locus_describe", func(f *guestFunc) { f.body = trap }).bytes(), "unreachable"},
		"spinning version": {plainGuest().change("locus_abi_version", func(f *guestFunc) { f.body = append(append([]byte{}, spin...), i32Const(1)...) }).bytes(),
			"stopped when it had used up its fuel, 1000000 instructions"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := r.Compile(ctx, "f", c.module)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, `the module of function "f" was refused: `)
			var invalid *api.InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
			require.Nil(t, f)
		})
	}
}

func withImport(module, name, params, results string) *guest {
	g := plainGuest()
	g.imports = []guestImport{{module, name, params, results}}
	return g
}

func withMemory(body ...byte) *guest {
	g := plainGuest()
	g.memory = body
	return g
}

func withTables(body ...byte) *guest {
	g := plainGuest()
	g.tables = body
	return g
}

func TestCompileLimits(t *testing.T) {
	r := newRuntime(t, Options{MaxModuleBytes: 100})
	_, err := r.Compile(ctx, "f", make([]byte, 101))
	var limit *api.LimitError
	require.ErrorAs(t, err, &limit)
	require.Equal(t, api.LimitError{What: `size of the module of function "f"`, Limit: 100, Got: 101}, *limit)
	_, err = r.Compile(ctx, "no/slash", nil)
	require.ErrorContains(t, err, `the function name "no/slash" may hold`)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = newRuntime(t, Options{}).Compile(cancelled, "f", plainGuest().bytes())
	require.ErrorIs(t, err, context.Canceled)
}

func TestOptionsValidate(t *testing.T) {
	for _, o := range []Options{{MaxModuleBytes: -1}, {Fuel: -1}, {WriteFuel: -1}, {OptimisticFuel: -1}, {PoolBytes: -1}, {CallTimeout: -1}, {MaxInstances: -1}, {Workers: -1}, {MaxResultBytes: -1}, {MaxWriteBytes: -1}, {MemoryLimitPages: 1 << 17}} {
		_, err := NewRuntime(o)
		require.ErrorContains(t, err, "wasm: Options.")
	}
	blocked := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	_, err := NewRuntime(Options{CacheDir: blocked})
	require.ErrorContains(t, err, "wasm: open the cache of compiled modules")
}

// TestTablesCantGrow: a table gets its minimum as its maximum, so that table.grow fails instead of taking
// the node's memory.
func TestTablesCantGrow(t *testing.T) {
	g := withTables(2, refFunc, limitsMin, 4, refExtern, limitsMinMax, 1, 0xff, 0xff, 0xff, 0xff, 0x0f)
	// ref.null func, i32.const 1000000000, table.grow 0, i64.extend_i32_s: -1 is a result of no bytes at 4 GiB.
	g.change("locus_call", func(f *guestFunc) {
		f.body = append(append([]byte{0xd0, refFunc}, i32Const(1_000_000_000)...), 0xfc, 15, 0, 0x41, 0x7f, 0x47, 0xad)
	})
	r := newRuntime(t, Options{})
	f, err := r.Compile(ctx, "f", g.bytes())
	require.NoError(t, err)
	out, err := f.CallPure(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	require.Empty(t, out.Result, "table.grow did not answer -1")
}

func TestCacheDir(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		r, err := NewRuntime(Options{CacheDir: dir})
		require.NoError(t, err)
		f, err := r.Compile(ctx, "f", plainGuest().bytes())
		require.NoError(t, err)
		_, err = f.CallPure(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		f.Close()
		require.NoError(t, r.Close())
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.NotEmpty(t, files)
}

// FuzzRestrict: whatever the bytes, the reader of modules neither panics nor allocates much, and what it
// lets through it lets through again, unchanged.
func FuzzRestrict(f *testing.F) {
	f.Add(plainGuest().bytes())
	f.Add(withTables(1, refFunc, 0, 4).bytes())
	f.Add(withImport("locus", "get", "iiii", "l").bytes())
	f.Add(moduleFile(f, "testdata/hostile.wasm"))
	f.Add(append(append([]byte{}, preamble...), 10, 5, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Fuzz(func(t *testing.T, module []byte) {
		out, err := restrict(module, 256)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		again, err := restrict(out, 256)
		require.NoError(t, err)
		require.Equal(t, out, again)
	})
}

// FuzzCompile: no module that passes restrict brings down the process. The compiler's own robustness is
// wazero's; this is about what it is fed.
func FuzzCompile(f *testing.F) {
	f.Add(plainGuest().bytes())
	f.Add(moduleFile(f, "testdata/hostile.wasm"))
	r, err := NewRuntime(Options{Fuel: 1_000_000, MaxInstances: 1})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, module []byte) {
		if fn, err := r.Compile(ctx, "f", module); err == nil {
			_, _ = fn.CallPure(ctx, fn.Codec(), []byte("x"))
			fn.Close()
		}
	})
}

func TestWasiListIsServed(t *testing.T) {
	// Each allowed import exists in wazero's implementation, or a module that uses it could never run.
	r := newRuntime(t, Options{})
	have := r.wazero.Module(moduleWASI).ExportedFunctionDefinitions()
	for _, name := range wasiAllowed {
		require.Contains(t, have, name)
	}
	require.Len(t, r.wazero.Module(moduleLocus).ExportedFunctionDefinitions(), len(hostFunctions))
}

func TestReaderU32(t *testing.T) {
	for _, v := range []uint32{0, 1, 127, 128, 1<<32 - 1} {
		r := reader{b: binary.AppendUvarint(nil, uint64(v))}
		require.Equal(t, v, r.u32())
		require.NoError(t, r.err)
		require.Empty(t, r.b)
	}
	for _, b := range []string{"", "\x80", "\x80\x80\x80\x80\x80", "\xff\xff\xff\xff\x1f", strings.Repeat("\x80", 10)} {
		r := reader{b: []byte(b)}
		require.Zero(t, r.u32(), "%q", b)
		require.Error(t, r.err, "%q", b)
	}
}

// TestTypesOfLaterVersions: wazero reads types of WebAssembly 3.0 that take two bytes even where the feature is off. A loop behind one was not
// counted, and a select of one brings the compiler down: both are refused, and a compiler that panics is an error.
func TestTypesOfLaterVersions(t *testing.T) {
	r := newRuntime(t, Options{})
	selects := plainGuest().change("locus_call", func(f *guestFunc) {
		f.body = append([]byte{0xd0, 0x70, 0xd0, 0x70, 0x41, 0, 0x1c, 1, 0x63, 0x70, 0x1a}, i64Const(0)...)
	}).bytes()
	_, err := r.translate(ctx, selects)
	require.ErrorContains(t, err, "the compiler fails")
	_, err = r.Compile(ctx, "f", selects)
	require.ErrorContains(t, err, "it has a value of type 0x63, which is not known here")
	spins := plainGuest().change("locus_call", func(f *guestFunc) {
		f.body = append([]byte{2, 0x63, 0x80, 0, 3, 0x40, 0x0c, 0, 0x0b, 0, 0x0b, 0x1a}, i64Const(0)...)
	}).bytes()
	_, err = r.Compile(ctx, "f", spins)
	require.ErrorContains(t, err, "it has a block of type -29, which is not known here")
	_, err = r.Compile(ctx, "f", plainGuest().bytes())
	require.NoError(t, err)
}
