package meter

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// outcome is all that can be seen of a run.
type outcome struct {
	results [3]uint64
	trap    string // what kind
	memory  [sha256.Size]byte
	pages   uint32
	global  uint64
}

// runner runs the functions of generated modules.
type runner struct {
	t       testing.TB
	runtime wazero.Runtime
}

func newRunner(t testing.TB, config wazero.RuntimeConfig) *runner {
	return &runner{t, engine(t, config)}
}

// run instantiates a module, prepares it, and calls an export.
func (r *runner) run(module []byte, name string, prepare func(api.Module)) (outcome, api.Module) {
	compiled, err := r.runtime.CompileModule(ctx, module)
	require.NoError(r.t, err)
	i, err := r.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	require.NoError(r.t, err)
	prepare(i)
	var o outcome
	f := i.ExportedFunction(name)
	args := []uint64{7, 1 << 40}[:len(f.Definition().ParamTypes())]
	results, err := f.Call(ctx, args...)
	copy(o.results[:], results)
	if err != nil {
		o.trap, _, _ = strings.Cut(err.Error(), "\n")
	}
	b, ok := i.Memory().Read(0, i.Memory().Size())
	require.True(r.t, ok)
	o.memory, o.pages = sha256.Sum256(b), i.Memory().Size()>>16
	o.global = i.ExportedGlobal("global").Get()
	require.NoError(r.t, i.Close(ctx))
	require.NoError(r.t, compiled.Close(ctx))
	return o, i
}

// checkMetering holds a generated module against its metered form, on both engines, and the fuel against the count.
func checkMetering(t testing.TB, fast, slow *runner, src []byte) {
	plain, counted, run := generate(src)
	name := "f" + string('0'+run)
	metered, err := Rewrite(plain)
	require.NoError(t, err)
	want, _ := fast.run(plain, name, func(api.Module) {})
	got, i := fast.run(metered, name, func(i api.Module) { setFuel(i, ample) })
	require.Equal(t, want, got, "original and metered")
	used := ample - remaining(i)
	interpreted, i := slow.run(metered, name, func(i api.Module) { setFuel(i, ample) })
	require.Equal(t, want, interpreted, "compiler and interpreter")
	require.Equal(t, used, ample-remaining(i), "compiler and interpreter")
	if want.trap != "" {
		return
	}
	same, i := fast.run(counted, name, func(api.Module) {})
	require.Equal(t, want, same, "the generator's own counting")
	require.Equal(t, int64(i.ExportedGlobal("counter").Get()), used, "the fuel is what was counted")

	exact, i := fast.run(metered, name, func(i api.Module) { sliced(i, used, src) })
	require.Equal(t, want, exact, "with exactly the fuel that it needs")
	require.Zero(t, remaining(i))
	if used > 0 {
		_, i = fast.run(metered, name, func(i api.Module) { sliced(i, used-1, src) })
		require.Negative(t, remaining(i), "with less than it needs")
	}
}

// sliced gives fuel of which a part is in the running slice.
func sliced(i api.Module, n int64, src []byte) {
	first := n
	if len(src) > 0 && n > 0 {
		first = int64(src[0]) % n
	}
	i.ExportedGlobal(Left).(api.MutableGlobal).Set(uint64(first))
	i.ExportedGlobal(Rest).(api.MutableGlobal).Set(uint64(n - first))
}

// TestGenerated runs modules from seeds; FuzzMetering has more time.
func TestGenerated(t *testing.T) {
	fast, slow := newRunner(t, compiler()), newRunner(t, interpreter())
	traps, most := 0, 0
	for seed := range uint64(60) {
		src := random(seed)
		plain, _, run := generate(src)
		o, _ := fast.run(plain, "f"+string('0'+run), func(api.Module) {})
		if o.trap != "" {
			traps++
		}
		most = max(most, len(plain))
		checkMetering(t, fast, slow, src)
	}
	require.Less(t, traps, 30, "most modules don't trap")
	require.Greater(t, most, 500)
}

func random(seed uint64) []byte {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	b := make([]byte, 600)
	_, _ = rand.NewChaCha8(s).Read(b) // never fails
	return b
}

func FuzzMetering(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(random(seed))
	}
	fast, slow := newRunner(f, compiler()), newRunner(f, interpreter())
	f.Fuzz(func(t *testing.T, src []byte) {
		checkMetering(t, fast.in(t), slow.in(t), src)
	})
}

func (r *runner) in(t testing.TB) *runner { return &runner{t, r.runtime} }

// FuzzRewrite: bytes that are no module don't bring the rewriter down, and what it returns is valid if what it was given was.
func FuzzRewrite(f *testing.F) {
	for seed := range uint64(4) {
		plain, _, _ := generate(random(seed))
		f.Add(plain)
	}
	f.Add(guestFile(f, "../../../examples/guests/c/fieldsum.wasm"))
	f.Add(guestFile(f, "../../wasm/testdata/hostile.wasm"))
	r := wazero.NewRuntimeWithConfig(ctx, interpreter().WithMemoryLimitPages(256))
	valid := func(module []byte) error {
		m, err := r.CompileModule(ctx, module)
		if err == nil {
			err = m.Close(ctx)
		}
		return err
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		metered, err := Rewrite(module)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		before, after := valid(withoutCustom(module)), valid(metered)
		require.Equal(t, before == nil, after == nil, "%v, metered %v", before, after)
	})
}

// withoutCustom drops custom sections, as Rewrite does.
func withoutCustom(module []byte) []byte {
	out := append([]byte(nil), module[:len(preamble)]...)
	for r := (&reader{b: module, pos: len(preamble)}); r.more(); {
		id, body := r.byte(), r.bytes(r.u32())
		if id != sectionCustom {
			out = append(append(out, id), sized(body)...)
		}
	}
	return out
}
