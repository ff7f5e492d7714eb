package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"

	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Function is a WebAssembly function, safe for concurrent use.
type Function struct {
	runtime  *Runtime
	name     string
	compiled wazero.CompiledModule
	entry    shape.Entry
	index    int // of the entry in the manifest
	pool     *pool
}

// Name is the name that the function was compiled under.
func (f *Function) Name() string { return f.name }

// Kind is what the module's manifest declares.
func (f *Function) Kind() udf.Kind { return f.entry.Kind }

// Codec is what the module's manifest declares.
func (f *Function) Codec() udf.Codec { return f.entry.Codec }

// Capabilities are what the module's manifest declares.
func (f *Function) Capabilities() udf.Capabilities { return f.entry.Capabilities }

// Close discards the function's instances and its code, once calls and accumulators under way have ended.
// Later ones fail.
func (f *Function) Close() { f.pool.close() }

// CallPure runs a pure function.
func (f *Function) CallPure(ctx context.Context, codec udf.Codec, arg []byte) (udf.Outcome, error) {
	return f.run(ctx, udf.KindPure, env{}, codec, arg)
}

// CallRead runs a pure or read-only function.
func (f *Function) CallRead(ctx context.Context, view udf.StoreView, info udf.Info, codec udf.Codec, arg []byte) (udf.Outcome, error) {
	return f.run(ctx, udf.KindReadOnly, env{view: view, info: info}, codec, arg)
}

// CallWrite runs a function of any kind but range.
func (f *Function) CallWrite(ctx context.Context, tx udf.StoreTx, info udf.Info, codec udf.Codec, arg []byte) (udf.Outcome, error) {
	return f.run(ctx, udf.KindReadWrite, env{view: tx, tx: tx, info: info}, codec, arg)
}

func (f *Function) run(ctx context.Context, as udf.Kind, e env, codec udf.Codec, arg []byte) (udf.Outcome, error) {
	if err := udf.CheckCall(f, as, codec); err != nil {
		return udf.Outcome{}, err
	}
	// A function sees what its own kind allows, however it is run: a pure one nothing.
	if f.Kind() == udf.KindPure {
		e = env{}
	} else if f.Kind() == udf.KindReadOnly {
		e.tx = nil
	}
	i, err := f.pool.get(ctx)
	if err != nil {
		return udf.Outcome{}, f.unready(ctx, err)
	}
	defer f.pool.put(i)
	var out udf.Outcome
	out.Fuel, err = i.enter(ctx, e, f.bounds(ctx, as), func(ctx context.Context) error {
		ptr, n, err := i.put(ctx, arg)
		if err != nil {
			return err
		}
		at, err := i.call(ctx, &exportCall, uint64(f.index), ptr, n)
		if err != nil {
			return err
		}
		out.Result, err = i.take(at, "result")
		return err
	})
	if err != nil {
		return udf.Outcome{Fuel: out.Fuel}, err
	}
	return out, nil
}

// unready is the error of a call that found no instance.
func (f *Function) unready(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("function %q: %w", f.name, err)
}

// NewAccumulator begins a run over one range, on an instance of its own until it is closed.
func (f *Function) NewAccumulator(ctx context.Context, codec udf.Codec, arg []byte) (udf.Accumulator, error) {
	a, err := f.begin(ctx, udf.KindRange, codec, arg)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (f *Function) begin(ctx context.Context, as udf.Kind, codec udf.Codec, arg []byte) (*accumulator, error) {
	if err := udf.CheckCall(f, as, codec); err != nil {
		return nil, err
	}
	i, err := f.pool.get(ctx)
	if err != nil {
		return nil, f.unready(ctx, err)
	}
	a := &accumulator{instance: i}
	if _, err := a.feed(ctx, &exportInit, arg, uint64(f.index)); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// NewMapping begins a page of outputs, on an instance of its own until it is closed.
func (f *Function) NewMapping(ctx context.Context, codec udf.Codec, arg []byte) (udf.Mapping, error) {
	a, err := f.begin(ctx, udf.KindMap, codec, arg)
	if err != nil {
		return nil, err
	}
	return &mapping{a}, nil
}

// Merge makes one accumulator of several.
func (f *Function) Merge(ctx context.Context, codec udf.Codec, arg []byte, accs [][]byte) (udf.Outcome, error) {
	return f.reduce(ctx, codec, arg, accs, &exportEncode, "accumulator")
}

// Result merges the accumulators that are left and makes the run's result.
func (f *Function) Result(ctx context.Context, codec udf.Codec, arg []byte, accs [][]byte) (udf.Outcome, error) {
	return f.reduce(ctx, codec, arg, accs, &exportResult, "result")
}

func (f *Function) reduce(ctx context.Context, codec udf.Codec, arg []byte, accs [][]byte, last *exportSpec, what string) (udf.Outcome, error) {
	a, err := f.begin(ctx, udf.KindRange, codec, arg)
	if err != nil {
		return udf.Outcome{}, err
	}
	defer a.Close()
	for _, encoded := range accs {
		if _, err := a.feed(ctx, &exportMerge, encoded); err != nil {
			return udf.Outcome{}, err
		}
	}
	b, err := a.fetch(ctx, last, what)
	if err != nil {
		return udf.Outcome{}, err
	}
	return udf.Outcome{Result: b, Fuel: a.fuel}, nil
}

// accumulator is a run on one instance.
type accumulator struct {
	instance *instance // nil once closed
	fuel     uint64
	// failed: the guest's accumulator is no longer whole.
	failed error
}

func (a *accumulator) Add(ctx context.Context, batch []byte) error {
	if err := a.check(batch); err != nil {
		return err
	}
	_, err := a.feed(ctx, &exportAdd, batch)
	return err
}

// check refuses a batch before any of it is written to the guest's memory.
func (a *accumulator) check(batch []byte) error {
	if a.failed == nil && a.instance != nil {
		a.failed = udf.CheckBatch(a.instance.f.name, &a.instance.f.entry.Capabilities, batch)
	}
	return a.failed
}

func (a *accumulator) Encode(ctx context.Context) ([]byte, error) {
	return a.fetch(ctx, &exportEncode, "accumulator")
}

func (a *accumulator) Fuel() uint64 { return a.fuel }

func (a *accumulator) Close() {
	if a.instance != nil {
		a.instance.f.pool.put(a.instance)
		a.instance = nil
	}
}

// feed gives the guest bytes; args come before them. It returns the entry's result, 0 if it has none.
func (a *accumulator) feed(ctx context.Context, spec *exportSpec, data []byte, args ...uint64) (result uint64, err error) {
	err = a.enter(ctx, func(ctx context.Context) error {
		ptr, n, err := a.instance.put(ctx, data)
		if err != nil {
			return err
		}
		result, err = a.instance.call(ctx, spec, append(args, ptr, n)...)
		return err
	})
	return result, err
}

// fetch takes bytes from the guest.
func (a *accumulator) fetch(ctx context.Context, spec *exportSpec, what string) (b []byte, err error) {
	err = a.enter(ctx, func(ctx context.Context) error {
		at, err := a.instance.call(ctx, spec)
		if err != nil {
			return err
		}
		b, err = a.instance.take(at, what)
		return err
	})
	return b, err
}

func (a *accumulator) enter(ctx context.Context, use func(context.Context) error) error {
	return a.enterWith(ctx, env{}, use)
}

func (a *accumulator) enterWith(ctx context.Context, e env, use func(context.Context) error) error {
	if a.failed != nil {
		return a.failed
	}
	if a.instance == nil {
		return fmt.Errorf("wasm: the accumulator is closed")
	}
	fuel, err := a.instance.enter(ctx, e, a.instance.f.bounds(ctx, udf.KindRange), use)
	a.fuel += fuel
	a.failed = err
	return err
}
