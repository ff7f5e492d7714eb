package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	wasm "github.com/tetratelabs/wazero/api"

	"github.com/locuskv/locus/udf/codecache"
)

// engine is what every engine of a runtime is told. No V3 features: what a module may use is what restrict knows to bound.
func (o *Options) engine(c wazero.RuntimeConfig) wazero.RuntimeConfig {
	return c.WithCoreFeatures(wasm.CoreFeaturesV2).WithMemoryLimitPages(o.MemoryLimitPages)
}

// translate has wazero compile a module, or load what it compiled before. wazero's files have a checksum of the code in them, and one
// that is damaged fails each try with an error like that of a bad module. So if the module is a good one, what was compiled is thrown away.
func (r *Runtime) translate(ctx context.Context, module []byte) (wazero.CompiledModule, error) {
	m, err := translate(ctx, r.wazero, module)
	if err == nil || r.options.CacheDir == "" || !r.valid(ctx, module) {
		return m, err
	}
	codecache.Drop(r.options.CacheDir)
	return translate(ctx, r.wazero, module)
}

// translate is wazero's compilation. A panic of it, which a module must not bring about, is an error: it would end the node.
func translate(ctx context.Context, engine wazero.Runtime, module []byte) (m wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("the compiler fails: %v", p)
		}
	}()
	return engine.CompileModule(ctx, module)
}

// valid asks an engine that has no files.
func (r *Runtime) valid(ctx context.Context, module []byte) bool {
	judge := wazero.NewRuntimeWithConfig(ctx, r.options.engine(wazero.NewRuntimeConfigInterpreter()))
	defer func() { _ = judge.Close(context.Background()) }() // there are no instances that could fail
	_, err := translate(ctx, judge, module)
	return err == nil
}
