package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
)

// withMemory makes the instances that are made with the context have memories of ours, which grow no further than the function's own
// limit. The node's is the engine's.
func (f *Function) withMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		if own := f.entry.Limits.Memory; own > 0 {
			most = min(most, own)
		}
		if space, err := reserve(most); err == nil {
			return &mappedMemory{space: space}
		}
		return &heapMemory{limit: most}
	}))
}

// mappedMemory is the memory of one instance, outside of Go's heap. The addresses of all that it may become are reserved, so that it
// grows without being copied: a guest that takes its 16 MiB page by page would else cost forty milliseconds of copies, and a hundred
// megabytes of garbage. What it has not touched takes no memory.
type mappedMemory struct {
	space []byte // all of it
	size  uint64 // what the guest has
}

// Reallocate makes the memory longer; nil makes memory.grow answer -1.
func (m *mappedMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.space)) || commit(m.space[m.size:size]) != nil {
		return nil
	}
	m.size = size
	return m.space[:size:size]
}

// Free is called once, when the instance is closed.
func (m *mappedMemory) Free() { release(m.space) }

// heapMemory is the memory of one instance where addresses can't be reserved.
type heapMemory struct {
	limit uint64
	bytes []byte
}

func (m *heapMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
	return m.bytes
}

// Free leaves the bytes to the collector.
func (m *heapMemory) Free() { m.bytes = nil }

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
