package wasm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	wasmapi "github.com/tetratelabs/wazero/api"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
)

// buffer says which parameters of an import are a pointer and a length.
type buffer struct {
	ptr, len int
	fixed    uint32 // the length if no parameter says it
}

// importBuffers are all buffers of all imports.
var importBuffers = map[string][]buffer{
	"get":        {{ptr: 0, len: 1}, {ptr: 2, len: 3}},
	"get_many":   {{ptr: 0, len: 1}, {ptr: 2, len: 3}},
	"scan_open":  {{ptr: 0, len: 1}, {ptr: 2, len: 3}},
	"scan_next":  {{ptr: 1, len: 2}},
	"scan_close": nil,
	"put":        {{ptr: 0, len: 1}, {ptr: 2, len: 3}},
	"delete":     {{ptr: 0, len: 1}},
	"emit":       {{ptr: 0, len: 1}},
	"error":      {{ptr: 1, len: 2}},
	"log":        {{ptr: 0, len: 1}},
	"timestamp":  nil,
	"call_id":    {{ptr: 0, fixed: 24}},
	"key":        {{ptr: 0, len: 1}},
	"random":     {{ptr: 0, len: 1}},
}

// callsImport is a guest that calls an import with constant arguments, once: a map function for emit, and a
// read-write function for the others.
func callsImport(h *hostSpec, args []uint64) *guest {
	g := plainGuest()
	letters := func(types []wasmapi.ValueType) string {
		var b strings.Builder
		for _, t := range types {
			b.WriteByte(map[wasmapi.ValueType]byte{i32: 'i', i64: 'l'}[t])
		}
		return b.String()
	}
	g.imports = []guestImport{{moduleLocus, h.name, letters(h.params), letters(h.results)}}
	var body []byte
	for i, a := range args {
		if h.params[i] == i64 {
			body = append(body, i64Const(int64(a))...)
		} else {
			body = append(body, i32Const(int32(uint32(a)))...)
		}
	}
	body = append(body, 0x10, 0) // call the import
	body = append(body, slices.Repeat([]byte{0x1a}, len(h.results))...)
	body = append(body, i64Const(0)...)
	if h.name == "emit" {
		g.describe("locus 1\nfunction f map raw\n")
		g.funcs = append(g.funcs, guestFunc{name: "locus_range_init", params: "iii"},
			guestFunc{name: "locus_map", params: "ii", results: "l", body: body})
		return g
	}
	g.describe("locus 1\nfunction f read-write raw\n")
	return g.change("locus_call", func(f *guestFunc) { f.body = body })
}

// runImport is the error of the one call.
func runImport(t *testing.T, r *Runtime, h *hostSpec, args []uint64) error {
	t.Helper()
	f, err := r.Compile(ctx, "f", callsImport(h, args).bytes())
	require.NoError(t, err)
	defer f.Close()
	s := memstore.New(map[string]string{"k": "v"})
	if f.Kind() != udf.KindMap {
		_, err = f.CallWrite(ctx, s, udf.Info{Key: []byte("k")}, udf.CodecRaw, nil)
		return err
	}
	m, err := f.NewMapping(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	defer m.Close()
	_, err = m.Map(ctx, s.Batches(udf.Span{})[0])
	return err
}

// TestPointersAreChecked gives each import each of its buffers at, over and far behind the end of memory, and with
// lengths that wrap around. The buffer is refused even where nothing would be read from it or written to it.
func TestPointersAreChecked(t *testing.T) {
	const size, n = 1 << 16, 8
	r := newRuntime(t, Options{})
	require.Len(t, importBuffers, len(hostFunctions), "every import is in the table")
	for i := range hostFunctions {
		h := &hostFunctions[i]
		buffers, known := importBuffers[h.name]
		require.True(t, known, h.name)
		inside := func() []uint64 {
			args := make([]uint64, len(h.params))
			for _, b := range buffers {
				args[b.ptr] = 2048
				if b.fixed == 0 {
					args[b.len] = n
				}
			}
			return args // the buffers of one call overlap
		}
		t.Run(h.name, func(t *testing.T) {
			if err := runImport(t, r, h, inside()); err != nil {
				require.NotContains(t, err.Error(), "outside of its memory")
			}
			for k, b := range buffers {
				length := uint64(n)
				if b.fixed > 0 {
					length = uint64(b.fixed)
				}
				for _, c := range []struct {
					ptr, len uint64
					bad      bool
				}{
					{size - length, length, false},
					{size - length + 1, length, true},
					{size, 0, false},
					{size, 1, true},
					{size + 1, 0, true},
					{0, size + 1, true},
					{1, 1<<32 - 1, true},
					{1<<32 - 1, 1, true},
					{1<<32 - 1, 1<<32 - 1, true},
					{1<<31 - 1, 1 << 31, true},
				} {
					args := inside()
					args[b.ptr] = c.ptr
					switch {
					case b.fixed == 0:
						args[b.len] = c.len
					case c.len != length && c.ptr != size:
						continue // the length can't be chosen
					case c.ptr == size:
						c.len, c.bad = length, true
					}
					err := runImport(t, r, h, args)
					if !c.bad {
						if err != nil {
							require.NotContains(t, err.Error(), "outside of its memory")
						}
						continue
					}
					var crash *api.FunctionError
					require.ErrorAs(t, err, &crash, "buffer %d at %#x with %d bytes", k, c.ptr, c.len)
					require.Equal(t, crashed("f", fmt.Sprintf("it gave the host %d bytes at %#x, which is outside of its memory of %d bytes", c.len, c.ptr, size)), crash)
				}
			}
		})
	}
}

// packKeys is the argument of get_many.
func packKeys(keys ...string) []byte {
	var b []byte
	for _, k := range keys {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(k))), k...)
	}
	return b
}

// manyGuest calls get_many on its argument, with a buffer that begins offset bytes behind it, and returns what the
// host wrote there; with nothing behind it and no room, the length that is needed.
func manyGuest(offset int32, room int32) *guest {
	g := plainGuest().describe("locus 1\nfunction f read-only raw\n")
	g.imports = []guestImport{{moduleLocus, "get_many", "iiii", "l"}}
	at := slices.Concat([]byte{0x20, 1}, i32Const(offset), []byte{0x6a}) // ptr + offset
	return g.change("locus_call", func(f *guestFunc) {
		f.locals = []byte{1, 1, 0x7e} // one i64, local 3
		// n := get_many(ptr, len, ptr+offset, room); return (ptr+offset)<<32 | n
		f.body = slices.Concat([]byte{0x20, 1, 0x20, 2}, at, i32Const(room), []byte{0x10, 0, 0x21, 3},
			at, []byte{0xad}, i64Const(32), []byte{0x86, 0x20, 3, 0x84})
	})
}

func TestGetMany(t *testing.T) {
	r := newRuntime(t, Options{MaxResultBytes: 40_000})
	s := memstore.New(map[string]string{"a": "one", "empty": "", "long": strings.Repeat("x", 30_000)})
	want := "\x03\x00\x00\x00one\xff\xff\xff\xff\x00\x00\x00\x00\x03\x00\x00\x00one"
	for _, offset := range []int32{4096, 0, 3, -4} { // behind the keys, over them, and over the end and the start of them
		f := compile(t, r, "f", manyGuest(offset, 4096).bytes())
		out, err := f.CallRead(ctx, s, udf.Info{}, udf.CodecRaw, packKeys("a", "b", "empty", "a"))
		require.NoError(t, err)
		require.Equal(t, want, string(out.Result), offset)
		if offset == 4096 {
			out, err = f.CallRead(ctx, s, udf.Info{}, udf.CodecRaw, nil)
			require.NoError(t, err)
			require.Empty(t, out.Result)
			// What does not fit is not copied; the length is told (here it names what lay behind the keys).
			out, err = f.CallRead(ctx, s, udf.Info{}, udf.CodecRaw, packKeys("long"))
			require.NoError(t, err)
			require.Equal(t, make([]byte, 30_004)[:30_004-len(want)], out.Result[len(want):])
		}
	}
	f := compile(t, r, "f", manyGuest(4096, 4096).bytes())
	for name, c := range map[string]struct {
		arg  []byte
		want error
	}{
		"a length is cut off": {packKeys("a")[:3], crashed("f", "key 1 that it gave to get_many is cut off")},
		"a key is cut off":    {append(packKeys("a"), 2, 0, 0, 0, 'b'), crashed("f", "key 2 that it gave to get_many is cut off")},
		"a length wraps":      {[]byte{0xff, 0xff, 0xff, 0xff, 'a'}, crashed("f", "key 1 that it gave to get_many is cut off")},
		"too many keys": {packKeys(make([]string, maxGetMany+1)...),
			&api.LimitError{What: `number of keys in one get_many of function "f"`, Limit: maxGetMany, Got: maxGetMany + 1}},
		"too long an answer": {packKeys("long", "long"), &api.LimitError{What: `answer to one get_many of function "f"`, Limit: 40_000, Got: 60_008}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.CallRead(ctx, s, udf.Info{}, udf.CodecRaw, c.arg)
			require.Equal(t, c.want, err)
		})
	}
	_, err := f.CallRead(ctx, s, udf.Info{}, udf.CodecRaw, packKeys(make([]string, maxGetMany)...))
	require.NoError(t, err)
}

// emitter is a map function that emits the first n bytes of its batch, times times, and then returns the bytes that it
// holds at 2048.
func emitter(n, times int32, returned string) *guest {
	g := plainGuest().describe("locus 1\nfunction f map raw\n")
	g.imports = []guestImport{{moduleLocus, "emit", "ii", "i"}}
	var body []byte
	for range times {
		body = slices.Concat(body, []byte{0x20, 0}, i32Const(n), []byte{0x10, 0, 0x1a}) // emit(ptr, n), drop
	}
	for i := range len(returned) {
		body = slices.Concat(body, i32Const(int32(8192+i)), i32Const(int32(returned[i])), []byte{0x3a, 0, 0}) // i32.store8
	}
	body = append(body, i64Const(8192<<32|int64(len(returned)))...)
	g.funcs = append(g.funcs, guestFunc{name: "locus_range_init", params: "iii"},
		guestFunc{name: "locus_map", params: "ii", results: "l", body: body})
	return g
}

func TestEmit(t *testing.T) {
	r := newRuntime(t, Options{})
	batch := memstore.New(map[string]string{"k": strings.Repeat("v", 20_000)}).Batches(udf.Span{})[0]
	run := func(g *guest) ([][]byte, error) {
		m, err := compile(t, r, "f", g.bytes()).NewMapping(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		defer m.Close()
		for range 2 { // what one batch emitted is not the next one's
			if _, err := m.Map(ctx, batch); err != nil {
				return nil, err
			}
		}
		return m.Map(ctx, batch)
	}
	got, err := run(emitter(2, 2, "\x01\x00\x00\x00r"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{batch[:2], batch[:2], []byte("r")}, got, "what was emitted comes before what was returned")

	got, err = run(emitter(0, 3, ""))
	require.NoError(t, err)
	require.Equal(t, [][]byte{{}, {}, {}}, got)

	_, err = run(emitter(20_000, 210, ""))
	require.Equal(t, udf.TooManyOutputs("f", 210*(20_000+udf.OutputOverhead)), err, "the first that is too much")
	_, err = run(emitter(20_000, 209, "\x01\x00\x00\x00r"))
	require.NoError(t, err)

	// A function of another kind may not emit.
	g := plainGuest()
	g.imports = []guestImport{{moduleLocus, "emit", "ii", "i"}}
	g.describe("locus 1\nfunction f read-write raw\n").change("locus_call", func(f *guestFunc) {
		f.body = slices.Concat(i32Const(0), i32Const(0), []byte{0x10, 0, 0x1a}, i64Const(0))
	})
	_, err = compile(t, r, "f", g.bytes()).CallWrite(ctx, memstore.New(nil), udf.Info{}, udf.CodecRaw, nil)
	require.Equal(t, crashed("f", "it is not of a kind that may emit"), err)
}
