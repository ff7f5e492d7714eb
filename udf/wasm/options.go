package wasm

import (
	"fmt"
	"runtime"
	"time"
)

// Options configure a Runtime. The zero value is the documented default.
type Options struct {
	// MemoryLimitPages bounds an instance's memory, in pages of 64 KiB. Default 256, which is 16 MiB; a Go
	// guest needs about 4 MiB before it does anything.
	MemoryLimitPages uint32
	// MaxModuleBytes bounds a module's file. Default 8 MiB.
	MaxModuleBytes int
	// CacheDir keeps compiled modules over restarts; they can be deleted at any time. Default: none are kept.
	CacheDir string
	// Fuel bounds one entry into a guest: a call, or one batch of a range function. It is a number of instructions, with the
	// prices of doc.go for the rest. Default 500,000,000, which is 0.05 to 0.5 s.
	Fuel int64
	// WriteFuel bounds a call on a key (CallWrite): for those of read-write functions every other write of the range waits. Default
	// 30,000,000, which is 3 to 30 ms, or Fuel if that is less.
	WriteFuel int64
	// OptimisticFuel bounds a call on a key in optimistic mode, for which nobody waits. Default 10,000,000,000,
	// which is 1 to 10 s.
	OptimisticFuel int64
	// CallTimeout bounds the time of an entry with the host's work for it: a guest that reads and writes is ended at its first
	// access after that. Computing is bounded by fuel alone. Default 1 s. It is wall time, so it must be well above what a busy
	// machine makes of an honest call.
	CallTimeout time.Duration
	// WriteTimeout is that of a call on a key. Default 200 ms, or CallTimeout if that is less.
	WriteTimeout time.Duration
	// OptimisticTimeout is that of a call on a key in optimistic mode. Default 10 s.
	OptimisticTimeout time.Duration
	// PoolBytes bounds the memory of all instances together: idle ones are discarded, the longest unused first, as long as
	// there is more. Those in use are never discarded, so it can be exceeded by MaxInstances of each module. Default 256 MiB.
	PoolBytes int64
	// MaxInstances bounds the instances of one module, and so how many of its calls and accumulators can be
	// under way. Others wait. Default 4.
	MaxInstances int
	// Workers bounds how many guests of all modules run at once. Others wait. Default: one less than the
	// processors, at least 1.
	Workers int
	// MaxResultBytes bounds a result and an encoded accumulator. Default 4 MiB.
	MaxResultBytes int
	// MaxReadBytes bounds the keys and values that one call reads. Default 256 MiB.
	MaxReadBytes int
	// MaxWriteBytes bounds the keys and values that one call writes. Default 4 MiB.
	MaxWriteBytes int
	// Log takes the lines that guests write: at most 32 a call, cut at 1 KiB. Default: they are dropped.
	Log func(function, line string)
}

// Validate refuses negative numbers and a memory limit above WebAssembly's own.
func (o Options) Validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxModuleBytes", int64(o.MaxModuleBytes)}, {"Fuel", o.Fuel}, {"WriteFuel", o.WriteFuel}, {"OptimisticFuel", o.OptimisticFuel}, {"PoolBytes", o.PoolBytes},
		{"CallTimeout", int64(o.CallTimeout)}, {"WriteTimeout", int64(o.WriteTimeout)}, {"OptimisticTimeout", int64(o.OptimisticTimeout)}, {"MaxInstances", int64(o.MaxInstances)},
		{"Workers", int64(o.Workers)}, {"MaxResultBytes", int64(o.MaxResultBytes)}, {"MaxReadBytes", int64(o.MaxReadBytes)}, {"MaxWriteBytes", int64(o.MaxWriteBytes)},
	} {
		if f.value < 0 {
			return fmt.Errorf("wasm: Options.%s is negative", f.name)
		}
	}
	if o.MemoryLimitPages > 1<<16 {
		return fmt.Errorf("wasm: Options.MemoryLimitPages is %d, more than the 65536 pages that WebAssembly has", o.MemoryLimitPages)
	}
	return nil
}

func (o Options) withDefaults() Options {
	set(&o.MemoryLimitPages, 256)
	set(&o.MaxModuleBytes, 8<<20)
	set(&o.Fuel, 500_000_000)
	set(&o.WriteFuel, min(o.Fuel, 30_000_000))
	set(&o.OptimisticFuel, 10_000_000_000)
	set(&o.PoolBytes, 256<<20)
	set(&o.CallTimeout, time.Second)
	set(&o.OptimisticTimeout, 10*time.Second)
	set(&o.WriteTimeout, min(o.CallTimeout, 200*time.Millisecond))
	set(&o.MaxInstances, 4)
	set(&o.Workers, max(1, runtime.NumCPU()-1))
	set(&o.MaxResultBytes, 4<<20)
	set(&o.MaxReadBytes, 256<<20)
	set(&o.MaxWriteBytes, 4<<20)
	if o.Log == nil {
		o.Log = func(string, string) {}
	}
	return o
}

func set[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}
