package wasm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
)

// Where the guests of these tests have their argument, and a buffer.
const bufferAt, bufferLen = 8192, 4096

func local(n byte) []byte { return []byte{0x20, n} }

// reaches is a guest whose call does one thing with its argument, and whose range and map functions only take their
// batch. lines follow its function in the manifest.
func reaches(kind, lines string, with ...string) *guest {
	g := plainGuest().describe("locus 1\nfunction f " + kind + " raw\n" + lines)
	g.memory = []byte{1, 0, 2}
	buf := slices.Concat(i32Const(bufferAt), i32Const(bufferLen))
	arg := slices.Concat(local(1), local(2))
	g.imports = []guestImport{
		{moduleLocus, "get", "iiii", "l"}, {moduleLocus, "get_many", "iiii", "l"}, {moduleLocus, "scan_open", "iiii", "i"},
		{moduleLocus, "scan_next", "iii", "l"}, {moduleLocus, "put", "iiiil", "i"}, {moduleLocus, "delete", "ii", "i"},
	}
	drop, call := []byte{0x1a}, func(n byte) []byte { return []byte{0x10, n} }
	deeds := map[string][]byte{
		"get":      slices.Concat(arg, buf, call(0), drop),
		"get_many": slices.Concat(arg, buf, call(1), drop),
		// From the argument without its last byte to the argument.
		"scan":   slices.Concat(local(1), local(2), i32Const(1), []byte{0x6b}, local(1), local(2), call(2), buf, call(3), drop),
		"put":    slices.Concat(arg, arg, i64Const(0), call(4), drop),
		"delete": slices.Concat(arg, call(5), drop),
	}
	var body []byte
	for _, what := range with {
		body = append(body, deeds[what]...)
	}
	g.change("locus_call", func(f *guestFunc) { f.body = append(body, i64Const(0)...) })
	g.funcs = append(g.funcs, []guestFunc{
		{name: "locus_range_init", params: "iii"}, {name: "locus_range_add", params: "ii"}, {name: "locus_range_merge", params: "ii"},
		{name: "locus_range_encode", results: "l", body: i64Const(0)}, {name: "locus_range_result", results: "l", body: i64Const(0)},
		{name: "locus_map", params: "ii", results: "l", body: i64Const(0)},
	}...)
	return g
}

// memories is what the function's instances have in their memories.
func memories(f *Function) [][]byte {
	f.pool.keep.mu.Lock()
	defer f.pool.keep.mu.Unlock()
	var all [][]byte
	for _, i := range f.pool.idle {
		b, _ := i.module.Memory().Read(0, i.module.Memory().Size())
		all = append(all, bytes.Clone(b))
	}
	return all
}

// TestI13DeniedReadsReachNoMemory: what a function may not read is refused, by an error that names it, and is in no
// byte of the guest's memory afterwards; what it may read is there.
func TestI13DeniedReadsReachNoMemory(t *testing.T) {
	const secret = "the secret value"
	s := memstore.New(map[string]string{"open/a": "an open value", "hidden/a": secret, "opel": secret, "open0": secret})
	r := newRuntime(t, Options{MaxInstances: 1})
	may := [][]byte{[]byte("open/"), []byte("mine/")}
	denied := func(key string) error {
		return &api.PermissionError{Function: "f", Action: "read", Key: []byte(key), Prefixes: may}
	}
	for _, c := range []struct {
		deed, arg, key string // key: that the denial names
	}{
		{"get", "hidden/a", "hidden/a"},
		{"get", "open", "open"},
		{"get", "open0", "open0"},
		{"get", "hidden/nothing", "hidden/nothing"}, // whether it exists is not told either
		{"get_many", string(packKeys("hidden/a")), "hidden/a"},
		{"get_many", string(packKeys("open/a", "opel")), "opel"}, // nor what came before it
		{"scan", "hidden/;", "hidden/"},
		{"scan", "open;", "open"},   // begins before the prefix: from "open" to "open;"
		{"scan", "open/~", "open/"}, // "open/" to "open/~" is inside: see below
	} {
		t.Run(c.deed+" "+c.key, func(t *testing.T) {
			f := compile(t, r, "f", reaches("read-only", "reads open/\nreads mine/\n", c.deed).bytes())
			_, err := f.CallRead(ctx, s, udf.Info{Key: []byte("open/a")}, udf.CodecRaw, []byte(c.arg))
			if c.arg == "open/~" {
				require.NoError(t, err)
				require.Len(t, memories(f), 1)
				require.Contains(t, string(memories(f)[0]), "an open value")
				return
			}
			require.Equal(t, denied(c.key), err)
			require.ErrorIs(t, err, api.ErrPermission)
			require.Len(t, memories(f), 1, "the instance lives on")
			require.NotContains(t, string(memories(f)[0]), secret)
			require.NotContains(t, string(memories(f)[0]), "an open value")
		})
	}
	for _, kind := range []string{"range", "map"} {
		t.Run(kind, func(t *testing.T) {
			f := compile(t, r, "f", reaches(kind, "reads open/\nreads mine/\n").bytes())
			feed := func(batch []byte) error {
				if kind == "map" {
					m, err := f.NewMapping(ctx, udf.CodecRaw, nil)
					require.NoError(t, err)
					defer m.Close()
					_, err = m.Map(ctx, batch)
					return err
				}
				a, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
				require.NoError(t, err)
				defer a.Close()
				return a.Add(ctx, batch)
			}
			mixed := packed.Append(packed.Append(nil, []byte("open/a"), []byte("an open value"), 1, 0), []byte("open0"), []byte(secret), 1, 0)
			require.Equal(t, denied("open0"), feed(mixed))
			require.Len(t, memories(f), 1)
			require.NotContains(t, string(memories(f)[0]), secret)
			require.NotContains(t, string(memories(f)[0]), "an open value", "no record of a batch that is refused")

			require.NoError(t, feed(packed.Append(nil, []byte("open/a"), []byte("an open value"), 1, 0)))
			require.Contains(t, string(memories(f)[0]), "an open value")
		})
	}
}

// TestDeniedWrites: what a function may not write stays as it is, and the call fails.
func TestDeniedWrites(t *testing.T) {
	r := newRuntime(t, Options{})
	for _, deed := range []string{"put", "delete"} {
		for lines, prefixes := range map[string][][]byte{"writes mine/\nwrites ours/\n": {[]byte("mine/"), []byte("ours/")}, "writes\n": nil} {
			f := compile(t, r, "f", reaches("read-write", lines, deed).bytes())
			s := memstore.New(map[string]string{"open/a": "kept", "mine/a": "old"})
			_, err := f.CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("open/a"))
			require.Equal(t, &api.PermissionError{Function: "f", Action: "write", Key: []byte("open/a"), Prefixes: prefixes}, err)
			require.Equal(t, map[string]string{"open/a": "kept", "mine/a": "old"}, s.Data)
			_, err = f.CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("mine/a"))
			require.Equal(t, prefixes == nil, err != nil)
			require.Equal(t, prefixes == nil, s.Data["mine/a"] == "old")
		}
	}
	// What may be written need not be readable.
	f := compile(t, r, "f", reaches("read-write", "reads\nwrites mine/\n", "put", "get").bytes())
	s := memstore.New(nil)
	_, err := f.CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("mine/a"))
	require.EqualError(t, err, `locus: permission denied: function "f" may not read the key "mine/a"; it may read nothing`)
	_, err = compile(t, r, "f", reaches("read-write", "writes mine/\nwrites ours/\n", "put").bytes()).CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("x"))
	require.EqualError(t, err, `locus: permission denied: function "f" may not write the key "x"; it may write keys that begin with "mine/" or "ours/" only`)
}

// TestOwnLimits: a manifest's limits are below the node's; one above changes nothing.
func TestOwnLimits(t *testing.T) {
	s := memstore.New(map[string]string{"k": strings.Repeat("v", 99)})
	for _, c := range []struct {
		lines, deed string
		want        error
	}{
		{"limit reads 100\n", "get", nil},
		{"limit reads 99\n", "get", &api.LimitError{What: `bytes read by function "f"`, Limit: 99, Got: 100}},
		{"limit reads 5000\n", "get", nil},
		{"limit reads 1\n", "scan", &api.LimitError{What: `bytes read by function "f"`, Limit: 1, Got: 116}},
		{"limit writes 2\n", "put", nil},
		{"limit writes 1\n", "put", &api.LimitError{What: `bytes written by function "f"`, Limit: 1, Got: 2}},
	} {
		f := compile(t, newRuntime(t, Options{MaxReadBytes: 200, MaxWriteBytes: 10}), "f", reaches("read-write", c.lines, c.deed).bytes())
		arg := "k"
		if c.deed == "scan" {
			arg = "k~"
		}
		_, err := f.CallWrite(ctx, s.Clone(), udf.Info{}, udf.CodecRaw, []byte(arg))
		require.Equal(t, c.want, err, c)
	}
	f := compile(t, newRuntime(t, Options{MaxReadBytes: 99}), "f", reaches("read-write", "limit reads 5000\n", "get").bytes())
	_, err := f.CallWrite(ctx, s, udf.Info{}, udf.CodecRaw, []byte("k"))
	require.Equal(t, &api.LimitError{What: `bytes read by function "f"`, Limit: 99, Got: 100}, err)

	for limit, want := range map[string]error{"limit result 10\n": nil, "limit result 9\n": &api.LimitError{What: `result of function "f"`, Limit: 9, Got: 10}} {
		g := plainGuest().describe("locus 1\nfunction f pure raw\n"+limit).change("locus_call", func(f *guestFunc) { f.body = result(16, 10) })
		_, err := compile(t, newRuntime(t, Options{}), "f", g.bytes()).CallPure(ctx, udf.CodecRaw, nil)
		require.Equal(t, want, err)
	}
}

// TestOwnResultOfAMap: a map function's limit is of each output, emitted or returned, and not of what a batch comes to.
func TestOwnResultOfAMap(t *testing.T) {
	r := newRuntime(t, Options{})
	batch := memstore.New(map[string]string{"k": strings.Repeat("v", 100)}).Batches(udf.Span{})[0]
	for _, c := range []struct {
		emitted  int32
		returned string
		got      int64 // that is too long; 0: none
	}{
		{3, "", 0}, {4, "", 4}, {1, "\x03\x00\x00\x00abc\x03\x00\x00\x00abc", 0}, {1, "\x01\x00\x00\x00a\x05\x00\x00\x00abcde", 5},
	} {
		g := emitter(c.emitted, 3, c.returned).describe("locus 1\nfunction f map raw\nlimit result 3\n")
		m, err := compile(t, r, "f", g.bytes()).NewMapping(ctx, udf.CodecRaw, nil)
		require.NoError(t, err)
		list, err := m.Map(ctx, batch)
		m.Close()
		if c.got == 0 {
			require.NoError(t, err, c)
			require.GreaterOrEqual(t, len(list), 3)
			continue
		}
		require.Equal(t, &api.LimitError{What: `output of function "f"`, Limit: 3, Got: c.got}, err, c)
	}
}

func TestOwnFuel(t *testing.T) {
	g := plainGuest().describe("locus 1\nfunction f pure raw\nlimit fuel 20000000\n").change("locus_call", func(f *guestFunc) {
		f.body = append([]byte{0x03, 0x40, 0x0c, 0x00, 0x0b}, i64Const(0)...)
	})
	f := compile(t, newRuntime(t, Options{CallTimeout: time.Hour}), "f", g.bytes())
	_, err := f.CallPure(ctx, udf.CodecRaw, nil)
	require.Equal(t, &api.FuelError{Function: "f", Limit: 20_000_000}, err)
}

// TestOwnMemory: a guest grows to its own limit, rounded down to pages, and no further.
func TestOwnMemory(t *testing.T) {
	grows := func(lines string) *guest {
		return plainGuest().describe("locus 1\nfunction f pure raw\n"+lines).change("locus_call", func(f *guestFunc) {
			// loop: if memory.grow(1) != -1 repeat; the result is as many bytes as there are pages
			f.body = slices.Concat([]byte{0x03, 0x40}, i32Const(1), []byte{0x40, 0}, i32Const(-1), []byte{0x47, 0x0d, 0, 0x0b},
				[]byte{0x3f, 0, 0xad})
		})
	}
	r := newRuntime(t, Options{MemoryLimitPages: 8, MaxInstances: 1})
	for lines, pages := range map[string]int{"": 8, "limit memory 65536\n": 1, "limit memory 200000\n": 3, "limit memory 10000000\n": 8} {
		f := compile(t, r, "f", grows(lines).bytes())
		for range 2 {
			out, err := f.CallPure(ctx, udf.CodecRaw, nil)
			require.NoError(t, err)
			require.Len(t, out.Result, pages, lines)
		}
	}
	g := grows("limit memory 65536\n")
	g.memory = []byte{1, 0, 2}
	_, err := r.Compile(ctx, "f", g.bytes())
	require.EqualError(t, err, `locus: the module of function "f" was refused: its memory begins with 131072 bytes, more than the limit of 65536 that its manifest sets for function "f"`)
	g = grows("limit memory 65536\n")
	g.funcs = append(g.funcs, guestFunc{name: "_initialize", body: slices.Concat(i32Const(1), []byte{0x40, 0}, i32Const(-1), []byte{0x46, 0x04, 0x40, 0, 0x0b})}) // if memory.grow(1) == -1 trap
	_, err = r.Compile(ctx, "f", g.bytes())
	require.ErrorContains(t, err, `under the limit on memory of 65536 bytes that its manifest sets for function "f": its _initialize failed`)
}
