package meter

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/locuskv/locus/udf/guestcache"
)

const examples = "../../../examples/"

// guest is a guest of the repository, and what to do with it.
type guest struct {
	path  string
	calls []call
}

// call calls an export with bytes, which stand behind args.
type call struct {
	export string
	args   []uint64
	data   string
}

func guests() []guest {
	batch := string(flightsBatch(16 << 10))
	aggregate := func(arg string) []call {
		return []call{
			{"locus_range_init", []uint64{0}, arg}, {"locus_range_add", nil, batch}, {"locus_range_add", nil, batch[:len(batch)/2]},
			{"locus_range_encode", nil, ""}, {"locus_range_result", nil, ""},
		}
	}
	return []guest{
		{examples + "guests/c/fieldsum.wasm", aggregate(`"delay"`)},
		{"../../wasm/testdata/hostile.wasm", append(aggregate("x"),
			call{"locus_call", []uint64{0}, "=an echo"}, call{"locus_call", []uint64{0}, "gkey"}, call{"locus_call", []uint64{0}, "m"},
			call{"locus_call", []uint64{0}, "l"}, call{"locus_call", []uint64{0}, "d"})},
		{examples + "flights/flights.wasm", aggregate("null")},
		{examples + "guests/go/square.wasm", []call{{"locus_call", []uint64{0}, "12"}, {"locus_call", []uint64{0}, "no number"}}},
		{examples + "guests/go/counter.wasm", []call{{"locus_call", []uint64{0}, "3"}}},
		{examples + "guests/go/find.wasm", []call{{"locus_range_init", []uint64{0}, `"PHX"`}, {"locus_map", nil, batch}}},
	}
}

// state is what can be seen of a guest after a call.
type state struct {
	result uint64
	trap   string
	memory [sha256.Size]byte
}

// play makes the calls on a new instance. It returns what was to be seen after each, and the fuel that is left in the end.
func (g guest) play(t *testing.T, config wazero.RuntimeConfig, module []byte, prepare func(api.Module)) (states []state, i api.Module) {
	r := engine(t, config)
	m, err := r.CompileModule(ctx, module)
	require.NoError(t, err)
	serve(t, r, m)
	i, err = r.InstantiateModule(ctx, m, wazero.NewModuleConfig().WithStartFunctions())
	require.NoError(t, err)
	prepare(i)
	enter := func(name string, args ...uint64) uint64 {
		results, err := i.ExportedFunction(name).Call(ctx, args...)
		b, ok := i.Memory().Read(0, i.Memory().Size())
		require.True(t, ok)
		s := state{memory: sha256.Sum256(b)}
		if err != nil {
			s.trap, _, _ = strings.Cut(err.Error(), "\n")
		}
		if len(results) > 0 {
			s.result = results[0]
		}
		states = append(states, s)
		return s.result
	}
	if i.ExportedFunction("_initialize") != nil {
		enter("_initialize")
	}
	for _, c := range g.calls {
		args := c.args
		if c.data != "" {
			ptr := enter("locus_alloc", uint64(len(c.data)))
			require.True(t, i.Memory().WriteString(uint32(ptr), c.data))
			args = append(args, ptr, uint64(len(c.data)))
		}
		enter(c.export, args...)
	}
	return states, i
}

// TestGuests: the guests of the repository do the same with metering as without, byte for byte, on both engines.
func TestGuests(t *testing.T) {
	compiler := compiler()
	if dir := guestcache.Dir(); dir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cache.Close(ctx)) })
		compiler = compiler.WithCompilationCache(cache)
	}
	for _, g := range guests() {
		t.Run(g.path[strings.LastIndexByte(g.path, '/')+1:], func(t *testing.T) {
			module := guestFile(t, g.path)
			if testing.Short() && len(module) > 1<<20 {
				t.Skip("short, and a guest in Go takes long to compile")
			}
			metered, err := Rewrite(module)
			require.NoError(t, err)
			require.Less(t, len(metered), len(module)*7/4)
			want, _ := g.play(t, compiler, module, func(api.Module) {})
			got, i := g.play(t, compiler, metered, func(i api.Module) { setFuel(i, ample) })
			require.Equal(t, want, got)
			used := ample - remaining(i)
			require.Greater(t, used, int64(100))
			if testing.Short() {
				return
			}
			slow, i := g.play(t, interpreter(), metered, func(i api.Module) { setFuel(i, ample) })
			require.Equal(t, want, slow, "the interpreter")
			require.Equal(t, used, ample-remaining(i), "the interpreter")
		})
	}
}
