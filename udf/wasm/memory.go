package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
)

// boundMemory makes the instances that are made with the context grow no further than the function's own limit on
// memory. The node's is the engine's; a function without one of its own costs nothing.
func (f *Function) boundMemory(ctx context.Context) context.Context {
	limit := f.entry.Limits.Memory
	if limit == 0 {
		return ctx
	}
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		return &boundedMemory{limit: min(limit, most)}
	}))
}

// boundedMemory is the memory of one instance.
type boundedMemory struct {
	limit uint64
	bytes []byte
}

// Reallocate makes the memory longer; nil makes memory.grow answer -1.
func (m *boundedMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
	return m.bytes
}

// Free leaves the bytes to the collector.
func (m *boundedMemory) Free() { m.bytes = nil }

// checkOwnMemory refuses a limit on memory in which the module can't even begin.
func (f *Function) checkOwnMemory(ctx context.Context) error {
	limit := f.entry.Limits.Memory
	if begin := uint64(f.compiled.ExportedMemories()["memory"].Min()) << 16; begin > limit {
		return badModule("its memory begins with %d bytes, more than the limit of %d that its manifest sets for function %q", begin, limit, f.entry.Name)
	}
	i, err := f.instantiate(ctx)
	if err != nil {
		return fmt.Errorf("under the limit on memory of %d bytes that its manifest sets for function %q: %w", limit, f.entry.Name, err)
	}
	i.close()
	return nil
}
