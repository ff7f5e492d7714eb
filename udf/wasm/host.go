package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	wasm "github.com/tetratelabs/wazero/api"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

// What host functions answer instead of a length or 0.
const (
	answerAbsent = -1
	// answerFailed: the call has failed, whatever the guest does now. It should return at once.
	answerFailed = -2
)

// hostSpec is one function of the module "locus".
type hostSpec struct {
	name string
	signature
	run func(e *env, m memory, stack []uint64)
}

// hostFunctions is the whole of what a guest can ask for. A function finds its arguments on the stack and
// leaves its result there.
var hostFunctions = []hostSpec{
	{"get", sig([]wasm.ValueType{i32, i32, i32, i32}, i64), hostGet},
	{"get_many", sig([]wasm.ValueType{i32, i32, i32, i32}, i64), hostGetMany},
	{"scan_open", sig([]wasm.ValueType{i32, i32, i32, i32}, i32), hostScanOpen},
	{"scan_next", sig([]wasm.ValueType{i32, i32, i32}, i64), hostScanNext},
	{"scan_close", sig([]wasm.ValueType{i32}), hostScanClose},
	{"put", sig([]wasm.ValueType{i32, i32, i32, i32, i64}, i32), hostPut},
	{"delete", sig([]wasm.ValueType{i32, i32}, i32), hostDelete},
	{"emit", sig([]wasm.ValueType{i32, i32}, i32), hostEmit},
	{"error", sig([]wasm.ValueType{i64, i32, i32}), hostError},
	{"log", sig([]wasm.ValueType{i32, i32}), hostLog},
	{"timestamp", sig(nil, i64), hostTimestamp},
	{"call_id", sig([]wasm.ValueType{i32}), hostCallID},
	{"key", sig([]wasm.ValueType{i32, i32}, i64), hostKey},
	{"random", sig([]wasm.ValueType{i32, i32}), hostRandom},
}

func hostFunction(name string) *hostSpec {
	for i := range hostFunctions {
		if hostFunctions[i].name == name {
			return &hostFunctions[i]
		}
	}
	return nil
}

// instantiateHost makes the module "locus" of a runtime.
func instantiateHost(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(moduleLocus)
	for _, h := range hostFunctions {
		f := wasm.GoModuleFunc(func(ctx context.Context, m wasm.Module, stack []uint64) {
			// An instance runs only inside enter, which puts it into the context.
			i := ctx.Value(instanceKey{}).(*instance)
			i.charge(hostFuel)
			i.await()
			h.run(&i.env, memory{m.Memory(), &i.tank}, stack)
		})
		b.NewFunctionBuilder().WithGoModuleFunction(f, h.params, h.results).Export(h.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// memory is a guest's memory as host functions use it. An access outside of it panics with outside, which
// ends the guest as a trap does.
type memory struct {
	wasm.Memory
	tank *tank
}

// outside is a pointer and a length that are not in the guest's memory.
type outside struct{ ptr, n, size uint32 }

func (o *outside) Error() string {
	return fmt.Sprintf("it gave the host %d bytes at %#x, which is outside of its memory of %d bytes", o.n, o.ptr, o.size)
}

// view is guest memory, not a copy: valid until the guest runs again.
func (m memory) view(ptr, n uint64) []byte {
	b, ok := m.Read(uint32(ptr), uint32(n))
	if !ok {
		panic(&outside{uint32(ptr), uint32(n), m.Size()})
	}
	return b
}

// read is a view that the guest pays for.
func (m memory) read(ptr, n uint64) []byte {
	b := m.view(ptr, n)
	m.tank.charge(uint64(len(b)) / bytesPerFuel)
	return b
}

// hand copies data into a buffer of the guest and returns its length; data that doesn't fit is not
// copied. The buffer is checked even then.
func (m memory) hand(ptr, n uint64, data []byte) uint64 {
	if buf := m.view(ptr, n); len(data) <= len(buf) {
		m.tank.charge(uint64(len(data)) / bytesPerFuel)
		copy(buf, data)
	}
	return uint64(len(data))
}

func failed() uint64 {
	code := int64(answerFailed)
	return uint64(code)
}

func failed32() uint64 { return uint64(uint32(failed())) }

func hostGet(e *env, m memory, stack []uint64) {
	key := m.read(stack[0], stack[1])
	m.view(stack[2], stack[3])
	if !e.canRead() {
		stack[0] = failed()
		return
	}
	value, found, err := e.guard.Get(key)
	switch {
	case err != nil:
		e.fail(err)
		stack[0] = failed()
	case !found:
		absent := int64(answerAbsent)
		stack[0] = uint64(absent)
	default:
		stack[0] = m.hand(stack[2], stack[3], value)
	}
}

// hostGetMany answers several gets in one crossing.
func hostGetMany(e *env, m memory, stack []uint64) {
	keys := m.read(stack[0], stack[1])
	m.view(stack[2], stack[3])
	values, ok := e.getMany(keys, func() { m.tank.charge(hostFuel); m.tank.await() })
	if !ok {
		stack[0] = failed()
		return
	}
	stack[0] = m.hand(stack[2], stack[3], values)
}

func hostScanOpen(e *env, m memory, stack []uint64) {
	start, end := m.read(stack[0], stack[1]), m.read(stack[2], stack[3])
	handle, ok := e.openScan(start, end)
	if !ok {
		stack[0] = failed32()
		return
	}
	stack[0] = uint64(handle)
}

func hostScanNext(e *env, m memory, stack []uint64) {
	m.view(stack[1], stack[2])
	batch, ok := e.scanBatch(uint32(stack[0]))
	if !ok {
		stack[0] = failed()
		return
	}
	size := stack[2]
	n := m.hand(stack[1], size, batch)
	if n <= uint64(uint32(size)) {
		e.scans[uint32(stack[0])].advance()
	}
	stack[0] = n
}

func hostScanClose(e *env, _ memory, stack []uint64) {
	if i := uint32(stack[0]); i < maxOpenScans {
		e.scans[i] = nil
	}
}

func hostPut(e *env, m memory, stack []uint64) {
	key, value, ttl := m.read(stack[0], stack[1]), m.read(stack[2], stack[3]), int64(stack[4])
	if !e.canWrite() {
		stack[0] = failed32()
		return
	}
	if ttl < 0 || ttl > int64(1<<63-1)/int64(time.Millisecond) {
		e.fail(&api.InvalidArgumentError{Reason: fmt.Sprintf("function %q: a time to live of %d ms is out of range", e.function, ttl)})
	} else {
		e.fail(e.guard.Put(key, value, time.Duration(ttl)*time.Millisecond))
	}
	stack[0] = e.answer()
}

func hostDelete(e *env, m memory, stack []uint64) {
	key := m.read(stack[0], stack[1])
	if !e.canWrite() {
		stack[0] = failed32()
		return
	}
	e.fail(e.guard.Delete(key))
	stack[0] = e.answer()
}

func hostEmit(e *env, m memory, stack []uint64) {
	e.emit(m.read(stack[0], stack[1]))
	stack[0] = e.answer()
}

// hostError is how a guest refuses. The last refusal counts.
func hostError(e *env, m memory, stack []uint64) {
	msg := m.view(stack[1], stack[2])
	if len(msg) > maxErrorMessage {
		msg = msg[:maxErrorMessage]
	}
	e.refusal = &api.FunctionError{Function: e.function, Code: int64(stack[0]), Message: printable(msg)}
}

func hostLog(e *env, m memory, stack []uint64) {
	line := m.view(stack[0], stack[1])
	if e.logged++; e.logged > maxLogLines {
		return
	}
	if len(line) > maxLogLine {
		line = line[:maxLogLine]
	}
	e.log(e.function, printable(line))
}

func hostTimestamp(e *env, _ memory, stack []uint64) { stack[0] = uint64(e.info.Timestamp) }

func hostCallID(e *env, m memory, stack []uint64) {
	copy(m.view(stack[0], uint64(len(e.info.ID))), e.info.ID[:])
}

func hostKey(e *env, m memory, stack []uint64) { stack[0] = m.hand(stack[0], stack[1], e.info.Key) }

func hostRandom(e *env, m memory, stack []uint64) {
	b := m.view(stack[0], stack[1])
	m.tank.charge(randomFuel * uint64(len(b)))
	_, _ = e.random().Read(b) // never fails
}

var _ udf.Runnable = (*Function)(nil)
