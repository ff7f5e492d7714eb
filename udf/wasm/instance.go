package wasm

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	wasm "github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

// instanceKey finds the running instance in the context of a host function.
type instanceKey struct{}

// instance is one guest: a memory of its own, used by one goroutine at a time.
type instance struct {
	f       *Function
	module  wasm.Module
	exports map[string]wasm.Function
	// stack is reused for arguments and results.
	stack [4]uint64
	env   env
	tank
	// broken: the guest was stopped in the middle, and its memory can't be trusted.
	broken bool
	// bytes is its memory as its keeper counted it, and kept its place among the idle ones.
	bytes  int64
	kept   *list.Element
	stderr tail
	nanos  int64 // the guest's monotonic clock
}

// instantiate makes an instance and lets its runtime set itself up.
func (f *Function) instantiate(outer context.Context) (*instance, error) {
	release, err := f.runtime.work(outer)
	if err != nil {
		return nil, err
	}
	defer release()
	i := &instance{f: f, exports: make(map[string]wasm.Function)}
	i.reset(env{})
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithStdout(io.Discard).WithStderr(&i.stderr).
		WithRandSource(i).WithWalltime(i.walltime, sys.ClockResolution(time.Millisecond)).
		WithNanotime(i.nanotime, 1).WithNanosleep(func(ns int64) { i.nanos += max(0, ns) })
	ctx := f.withMemory(context.WithValue(outer, instanceKey{}, i))
	if i.module, err = f.runtime.wazero.InstantiateModule(ctx, f.compiled, config); err != nil {
		return nil, fmt.Errorf("it can't be instantiated: %w", err)
	}
	i.renew()
	i.find(i.module)
	if setup := i.exports[exportSetup.name]; setup != nil {
		i.fill(bound{initFuel, initTimeout})
		unwatch := i.watch(outer)
		_, err := setup.Call(ctx)
		unwatch()
		if err != nil {
			err = i.stopped(outer, err)
		} else {
			err = i.out(f.name)
		}
		if err != nil {
			i.close()
			return nil, fmt.Errorf("its _initialize failed: %w", err)
		}
	}
	return i, nil
}

func (i *instance) close() {
	// The context is only for what closing might wait for, which is nothing.
	_ = i.module.Close(context.Background())
}

// reset gives the instance the environment of its next entry.
func (i *instance) reset(e env) {
	e.bind(i.f)
	i.env = e
	i.stderr.reset()
}

// enter runs one part of the function: use calls exports. It takes a worker for as long, and bounds what the guest uses. The error
// is the store's, the guest's own, or how the guest was stopped.
func (i *instance) enter(ctx context.Context, e env, b bound, use func(ctx context.Context) error) (fuel uint64, err error) {
	release, err := i.f.runtime.work(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	i.reset(e)
	defer i.reset(env{})
	i.fill(b)
	unwatch := i.watch(ctx)
	err = use(context.WithValue(ctx, instanceKey{}, i))
	unwatch()
	fuel = i.used()
	if fuel > shallowFuel {
		i.renew()
	}
	switch {
	case i.broken:
		return fuel, i.stopped(ctx, err)
	case i.remaining() < 0:
		// It came to its end between two looks at its fuel.
		i.broken = true
		return fuel, i.out(i.f.name)
	case i.env.failed != nil:
		return fuel, i.env.failed
	case i.env.refusal != nil && i.env.refusal.Code == udf.CodeBadArgument:
		return fuel, &api.InvalidArgumentError{Reason: i.env.refusal.Message}
	case i.env.refusal != nil:
		return fuel, i.env.refusal
	}
	return fuel, err
}

// renew finds the exports of the ABI. Each has a stack of its own from 10 KiB on, which the engine never shrinks: those that entries have
// grown are given back, and what else a module exports gets none.
func (i *instance) renew() {
	for _, specs := range exportsOfAnyKind {
		for _, spec := range specs {
			if f := i.module.ExportedFunction(spec.name); f != nil {
				i.exports[spec.name] = f
			}
		}
	}
}

// call calls an export. It returns its result, 0 if it has none.
func (i *instance) call(ctx context.Context, spec *exportSpec, args ...uint64) (uint64, error) {
	i.stack[0] = 0
	copy(i.stack[:], args)
	if err := i.exports[spec.name].CallWithStack(ctx, i.stack[:]); err != nil {
		i.broken = true
		return 0, err
	}
	return i.stack[0], nil
}

// put copies data into a buffer of the guest's, and returns it as arguments.
func (i *instance) put(ctx context.Context, data []byte) (ptr, n uint64, err error) {
	if len(data) == 0 {
		return 0, 0, nil
	}
	ptr, err = i.call(ctx, &exportAlloc, uint64(len(data)))
	if err != nil {
		return 0, 0, err
	}
	if uint32(ptr) == 0 {
		return 0, 0, i.crash(fmt.Errorf("its locus_alloc has no room for %d bytes", len(data)))
	}
	if !i.module.Memory().Write(uint32(ptr), data) {
		return 0, 0, i.crash(&outside{uint32(ptr), uint32(len(data)), i.module.Memory().Size()})
	}
	return ptr, uint64(len(data)), nil
}

// take copies a result out of the guest's memory, if the entry that returned it did not fail.
func (i *instance) take(packed uint64, what string) ([]byte, error) {
	if i.env.failed != nil || i.env.refusal != nil {
		return nil, nil
	}
	ptr, n := uint32(packed>>32), uint32(packed)
	if limit := i.f.runtime.options.MaxResultBytes; uint64(n) > uint64(limit) {
		return nil, &api.LimitError{What: fmt.Sprintf("%s of function %q", what, i.f.name), Limit: int64(limit), Got: int64(n)}
	}
	if i.f.entry.Kind != udf.KindMap { // whose own limit is of each output
		if err := udf.CheckResult(i.f.name, what, &i.f.entry.Capabilities, int(n)); err != nil {
			return nil, err
		}
	}
	b, ok := i.module.Memory().Read(ptr, n)
	if !ok {
		return nil, i.crash(&outside{ptr, n, i.module.Memory().Size()})
	}
	return append(make([]byte, 0, n), b...), nil
}

// crash gives the instance up for what the guest did.
func (i *instance) crash(err error) error {
	i.broken = true
	return err
}

// stopped says why a guest was stopped.
func (i *instance) stopped(ctx context.Context, err error) error {
	if out := i.out(i.f.name); out != nil {
		return out
	}
	if cause := ctx.Err(); cause != nil && i.cancelled {
		return cause
	}
	crashed := &api.FunctionError{Function: i.f.name, Code: udf.CodeCrashed}
	var exit *sys.ExitError
	var beyond *outside
	switch {
	case errors.As(err, &beyond):
		crashed.Message = beyond.Error()
	case !errors.As(err, &exit):
		// The first line says what happened; a stack of addresses follows.
		crashed.Message, _, _ = strings.Cut(err.Error(), "\n")
	default:
		crashed.Message = fmt.Sprintf("it exited with status %d", exit.ExitCode())
	}
	if text := i.stderr.String(); text != "" && beyond == nil {
		crashed.Message += ": " + text
	}
	return crashed
}

// Read is the guest's randomness: the call's (wazero asks it for random_get).
func (i *instance) Read(b []byte) (int, error) {
	i.charge(randomFuel * uint64(len(b)))
	return i.env.random().Read(b)
}

// walltime is the guest's clock: the call's timestamp, which stands still.
func (i *instance) walltime() (sec int64, nsec int32) {
	ms := int64(i.env.info.Timestamp >> 16)
	return ms / 1000, int32(ms%1000) * 1e6
}

// nanotime only counts, so that a guest's runtime sees time pass and learns nothing of the machine.
func (i *instance) nanotime() int64 {
	i.nanos += int64(time.Microsecond)
	return i.nanos
}

// tail keeps the first bytes that a guest writes to its standard error: Go's runtime explains a panic
// there.
type tail struct{ b []byte }

func (t *tail) reset() { t.b = t.b[:0] }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), maxStderr-len(t.b))]...)
	return len(p), nil
}

// String is the text up to the stack trace of a Go panic.
func (t *tail) String() string {
	text, _, _ := strings.Cut(printable(t.b), "\ngoroutine ")
	return strings.TrimSpace(text)
}
