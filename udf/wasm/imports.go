package wasm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Names of the modules that guests may import from.
const (
	moduleLocus = "locus"
	moduleWASI  = "wasi_snapshot_preview1"
)

// wasiAllowed is what the runtimes of Go (GOOS=wasip1) and of C libraries import before a program has
// asked for anything. wazero's implementation serves it with no file system, no arguments, no environment,
// the call's clock and the call's randomness; what would open a file or a socket is not in the list.
var wasiAllowed = []string{
	"args_get", "args_sizes_get", "environ_get", "environ_sizes_get",
	"clock_res_get", "clock_time_get", "random_get", "sched_yield", "poll_oneoff", "proc_exit",
	"fd_close", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_filestat_get", "fd_prestat_get", "fd_prestat_dir_name",
	"fd_read", "fd_seek", "fd_write",
}

func importAllowed(module, name string) bool {
	switch module {
	case moduleLocus:
		return hostFunction(name) != nil
	case moduleWASI:
		return slices.Contains(wasiAllowed, name)
	}
	return false
}

// signature is a function's parameters and results.
type signature struct{ params, results []api.ValueType }

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

func sig(params []api.ValueType, results ...api.ValueType) signature {
	return signature{params: params, results: results}
}

func (s signature) of(d api.FunctionDefinition) bool {
	return slices.Equal(s.params, d.ParamTypes()) && slices.Equal(s.results, d.ResultTypes())
}

func (s signature) String() string { return typeNames(s.params) + " -> " + typeNames(s.results) }

func typeNames(types []api.ValueType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = api.ValueTypeName(t)
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// exportSpec is one export of the ABI.
type exportSpec struct {
	name string
	signature
}

// The exports of a guest. Those of calls, range and map functions are needed by modules that declare such a
// function.
var (
	exportVersion  = exportSpec{"locus_abi_version", sig(nil, i32)}
	exportDescribe = exportSpec{"locus_describe", sig(nil, i64)}
	exportAlloc    = exportSpec{"locus_alloc", sig([]api.ValueType{i32}, i32)}
	exportCall     = exportSpec{"locus_call", sig([]api.ValueType{i32, i32, i32}, i64)}
	exportInit     = exportSpec{"locus_range_init", sig([]api.ValueType{i32, i32, i32})}
	exportAdd      = exportSpec{"locus_range_add", sig([]api.ValueType{i32, i32})}
	exportMerge    = exportSpec{"locus_range_merge", sig([]api.ValueType{i32, i32})}
	exportEncode   = exportSpec{"locus_range_encode", sig(nil, i64)}
	exportResult   = exportSpec{"locus_range_result", sig(nil, i64)}
	exportMap      = exportSpec{"locus_map", sig([]api.ValueType{i32, i32}, i64)}
	// exportSetup is called once per instance if it is there: Go's runtime, and C++ constructors.
	exportSetup = exportSpec{"_initialize", sig(nil)}

	exportsOfAll   = []exportSpec{exportVersion, exportDescribe, exportAlloc}
	exportsOfCalls = []exportSpec{exportCall}
	exportsOfRange = []exportSpec{exportInit, exportAdd, exportMerge, exportEncode, exportResult}
	exportsOfMap   = []exportSpec{exportInit, exportMap}

	exportsOfAnyKind = [][]exportSpec{{exportSetup}, exportsOfAll, exportsOfCalls, exportsOfRange, exportsOfMap}
)

const abiVersion = 1

// checkSignatures compares what a compiled module imports from locus with what the host has.
func checkSignatures(m wazero.CompiledModule) error {
	for _, d := range m.ImportedFunctions() {
		module, name, _ := d.Import()
		if module != moduleLocus {
			continue
		}
		if h := hostFunction(name); !h.of(d) {
			return badModule("it imports %q of %q as %s, but it is %s", name, module,
				sig(d.ParamTypes(), d.ResultTypes()...), h.signature)
		}
	}
	return nil
}

// checkExports requires exports of a compiled module.
func checkExports(m wazero.CompiledModule, specs []exportSpec) error {
	have := m.ExportedFunctions()
	for _, spec := range specs {
		d, ok := have[spec.name]
		if !ok {
			return badModule("it does not export the function %s %s", spec.name, spec.signature)
		}
		if !spec.of(d) {
			return badModule("it exports %s as %s, but it must be %s", spec.name, sig(d.ParamTypes(), d.ResultTypes()...), spec.signature)
		}
	}
	return nil
}

// checkMemoryExport requires the memory that pointers point into.
func checkMemoryExport(m wazero.CompiledModule) error {
	if _, ok := m.ExportedMemories()["memory"]; !ok {
		return fmt.Errorf("it does not export its memory under the name %q", "memory")
	}
	return nil
}
