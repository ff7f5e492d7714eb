package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/meter"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Runtime compiles and runs the modules of one node. It is safe for concurrent use.
type Runtime struct {
	options Options
	wazero  wazero.Runtime
	cache   wazero.CompilationCache // nil without a CacheDir
	// workers has a token for each guest that runs; patient for each in optimistic mode, which may run for seconds and must
	// not keep others from their turn.
	workers, patient chan struct{}
	keep             *keeper
}

// NewRuntime makes a runtime with wazero's compiler, or its interpreter on a machine that the compiler
// does not know. Close it.
func NewRuntime(o Options) (*Runtime, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	config := o.engine(wazero.NewRuntimeConfig())
	r := &Runtime{options: o, workers: make(chan struct{}, o.Workers), patient: make(chan struct{}, o.Workers), keep: &keeper{limit: o.PoolBytes}}
	if o.CacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(o.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("wasm: open the cache of compiled modules: %w", err)
		}
		r.cache = cache
		config = config.WithCompilationCache(cache)
	}
	ctx := context.Background()
	r.wazero = wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(experimental.WithFunctionListenerFactory(ctx, tolls{}), r.wazero); err != nil {
		return nil, fmt.Errorf("wasm: make the module %s: %w", moduleWASI, err)
	}
	if err := instantiateHost(ctx, r.wazero); err != nil {
		return nil, fmt.Errorf("wasm: make the module %s: %w", moduleLocus, err)
	}
	return r, nil
}

// Close ends every instance. REQUIRES: no call is under way, and no accumulator is open.
func (r *Runtime) Close() error {
	ctx := context.Background()
	err := r.wazero.Close(ctx)
	if r.cache != nil {
		if cerr := r.cache.Close(ctx); err == nil {
			err = cerr
		}
	}
	return err
}

// work takes a worker, and returns how to give it back.
func (r *Runtime) work(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	workers := r.workers
	if udf.IsOptimistic(ctx) {
		workers = r.patient
	}
	select {
	case workers <- struct{}{}:
		return func() { <-workers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Compile checks a module and makes a function of it: the one that its manifest declares under name, or
// the only one that it declares. What is wrong with a module is an *api.InvalidArgumentError, or an
// *api.LimitError if it is too large. Compiling a Go guest takes about a second. Close the function.
func (r *Runtime) Compile(ctx context.Context, name string, module []byte) (*Function, error) {
	if reason := shape.CheckName(name); reason != "" {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("the function name %q %s", name, reason)}
	}
	if len(module) > r.options.MaxModuleBytes {
		return nil, &api.LimitError{What: fmt.Sprintf("size of the module of function %q", name), Limit: int64(r.options.MaxModuleBytes), Got: int64(len(module))}
	}
	f, err := r.compile(ctx, name, module)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("the module of function %q was refused: %v", name, err)}
	}
	return f, nil
}

func (r *Runtime) compile(ctx context.Context, name string, module []byte) (*Function, error) {
	module, err := restrict(module, r.options.MemoryLimitPages)
	if err != nil {
		return nil, err
	}
	if module, err = meter.Rewrite(module); err != nil {
		return nil, err
	}
	compiled, err := r.translate(ctx, module)
	if err != nil {
		return nil, fmt.Errorf("it is not valid WebAssembly: %w", err)
	}
	f := &Function{runtime: r, name: name, compiled: compiled}
	f.pool = newPool(f, r.keep, r.options.MaxInstances)
	if err := f.inspect(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// inspect checks the ABI of a compiled module and reads its manifest, on the pool's first instance.
func (f *Function) inspect(ctx context.Context) error {
	if err := checkSignatures(f.compiled); err != nil {
		return err
	}
	if err := checkExports(f.compiled, exportsOfAll); err != nil {
		return err
	}
	if err := checkMemoryExport(f.compiled); err != nil {
		return err
	}
	if d, ok := f.compiled.ExportedFunctions()[exportSetup.name]; ok && !exportSetup.of(d) {
		return checkExports(f.compiled, []exportSpec{exportSetup})
	}
	i, err := f.pool.get(ctx)
	if err != nil {
		return err
	}
	defer f.pool.put(i)
	entries, err := i.describe(ctx)
	if err != nil {
		return err
	}
	if f.index, err = choose(entries, f.name); err != nil {
		return err
	}
	f.entry = entries[f.index]
	if f.entry.Limits.Memory > 0 {
		i.broken = true // it was made before the limit on its memory was known
		if err := f.checkOwnMemory(ctx); err != nil {
			return err
		}
	}
	switch f.entry.Kind {
	case udf.KindRange:
		return checkExports(f.compiled, exportsOfRange)
	case udf.KindMap:
		return checkExports(f.compiled, exportsOfMap)
	}
	return checkExports(f.compiled, exportsOfCalls)
}

// describe asks the guest for its ABI version and manifest.
func (i *instance) describe(ctx context.Context) (entries []shape.Entry, err error) {
	var text []byte
	_, err = i.enter(ctx, env{}, i.f.bounds(ctx, i.f.Kind()), func(ctx context.Context) error {
		version, err := i.call(ctx, &exportVersion)
		if err != nil {
			return err
		}
		if int32(version) != abiVersion {
			return badModule("it was built for version %d of the ABI; this node has version %d", int32(version), abiVersion)
		}
		at, err := i.call(ctx, &exportDescribe)
		if err != nil {
			return err
		}
		text, err = i.take(at, "manifest")
		return err
	})
	if err != nil {
		return nil, err
	}
	if entries, err = shape.ParseManifest(string(text)); err != nil {
		return nil, fmt.Errorf("its manifest %q can't be read: %w", clip(text), err)
	}
	return entries, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 200)] }

// choose finds the function of a module that is meant by name.
func choose(entries []shape.Entry, name string) (int, error) {
	names := make([]string, len(entries))
	for i, e := range entries {
		if e.Name == name {
			return i, nil
		}
		names[i] = e.Name
	}
	if len(entries) == 1 {
		return 0, nil
	}
	return 0, badModule("it declares the functions %q, and none has that name", names)
}
