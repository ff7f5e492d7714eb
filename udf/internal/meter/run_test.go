package meter

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

var ctx = context.Background()

func compiler() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(256)
}

func interpreter() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(256)
}

// engine makes a runtime with WASI, for modules that also import from locus what they don't call.
func engine(t testing.TB, config wazero.RuntimeConfig) wazero.Runtime {
	r := wazero.NewRuntimeWithConfig(ctx, config)
	t.Cleanup(func() { require.NoError(t, r.Close(ctx)) })
	_, err := wasi_snapshot_preview1.Instantiate(ctx, r)
	require.NoError(t, err)
	return r
}

// serve makes the module locus, whose functions answer 0.
func serve(t testing.TB, r wazero.Runtime, m wazero.CompiledModule) {
	if r.Module("locus") != nil {
		return
	}
	b := r.NewHostModuleBuilder("locus")
	for _, d := range m.ImportedFunctions() {
		if module, name, _ := d.Import(); module == "locus" {
			b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
				if len(d.ResultTypes()) > 0 {
					stack[0] = 0
				}
			}), d.ParamTypes(), d.ResultTypes()).Export(name)
		}
	}
	_, err := b.Instantiate(ctx)
	require.NoError(t, err)
}

func guestFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func wazeroConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions()
}
