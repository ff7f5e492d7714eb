package meter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// tightLoops are loops as compilers make them of C, over 64 KiB of memory. Locals: 0 a pointer, 1 the end, 2 and 3 sums (i32, i64).
var tightLoops = []struct {
	name string
	body []byte // of loop ... end; it goes on by br 0
}{
	{"count", slices.Concat(local(opLocalGet, 2), number(3), add, local(opLocalSet, 2), step(1), again)},
	{"sum-i32", slices.Concat(local(opLocalGet, 2), local(opLocalGet, 0), load(0x28), add, local(opLocalSet, 2), step(4), again)},
	{"sum-i64-unrolled", slices.Concat(
		local(opLocalGet, 3), local(opLocalGet, 0), load(0x29), add64,
		local(opLocalGet, 0), []byte{0x29, 3, 8}, add64, local(opLocalGet, 0), []byte{0x29, 3, 16}, add64,
		local(opLocalGet, 0), []byte{0x29, 3, 24}, add64, local(opLocalSet, 3), step(32), again)},
	{"scan-bytes", slices.Concat( // two ways out: a byte of 255, a byte of 254
		local(opLocalGet, 0), load(0x2d), local(opLocalTee, 2), number(255), equal, []byte{opBrIf, 1},
		local(opLocalGet, 2), number(254), equal, []byte{opBrIf, 1}, step(1), again)},
	{"branchy", slices.Concat( // if (*p & 1) a += *p; else b ^= *p
		local(opLocalGet, 0), load(0x2d), local(opLocalTee, 2), number(1), []byte{0x71, opIf, typeEmpty},
		local(opLocalGet, 3), local(opLocalGet, 2), []byte{opI64ExtendU}, add64, local(opLocalSet, 3), []byte{opElse},
		local(opLocalGet, 3), local(opLocalGet, 2), []byte{opI64ExtendU, 0x85}, local(opLocalSet, 3), []byte{opEnd}, step(1), again)},
	{"calls", slices.Concat(local(opLocalGet, 2), []byte{opCall, 1}, local(opLocalSet, 2), step(1), again)},
}

var (
	add   = []byte{0x6a}
	add64 = []byte{opI64Add}
	equal = []byte{0x46}
	again = slices.Concat(local(opLocalGet, 0), local(opLocalGet, 1), []byte{0x49, opBrIf, 0}) // while pointer < end
)

func local(op, n byte) []byte { return []byte{op, n} }
func number(n int64) []byte   { return signedBytes([]byte{opI32Const}, n) }
func load(op byte) []byte     { return []byte{op, 0, 0} }
func step(n int64) []byte {
	return slices.Concat(local(opLocalGet, 0), number(n), add, local(opLocalSet, 0))
}

// loopModule exports run: (i32 start, i32 end) -> i64.
func loopModule(body []byte) []byte {
	run := slices.Concat([]byte{2, 1, typeI32, 1, typeI64, opBlock, typeEmpty, opLoop, typeEmpty}, body, []byte{opEnd, opEnd},
		local(opLocalGet, 3), local(opLocalGet, 2), []byte{opI64ExtendU}, add64, []byte{opEnd})
	leaf := slices.Concat([]byte{0}, local(opLocalGet, 0), number(5), add, []byte{opEnd})
	b := slices.Clone(preamble)
	section := func(id byte, body []byte) { b = append(append(b, id), sized(body)...) }
	section(sectionType, vectorOf([]byte{formFunc, 2, typeI32, typeI32, 1, typeI64}, []byte{formFunc, 1, typeI32, 1, typeI32}))
	section(sectionFunction, []byte{2, 0, 1})
	section(sectionMemory, []byte{1, 0, 2})
	section(sectionExport, vectorOf(append(sized([]byte("run")), 0, 0)))
	section(sectionCode, vectorOf(sized(run), sized(leaf)))
	return b
}

func tightLoop(body []byte) func(testing.TB, contender) (workload, api.Module) {
	return func(t testing.TB, c contender) (workload, api.Module) {
		module := loopModule(body)
		if c.metered {
			var err error
			module, err = Rewrite(module)
			require.NoError(t, err)
		}
		i, err := engine(t, c.config).InstantiateWithConfig(ctx, module, wazero.NewModuleConfig())
		require.NoError(t, err)
		f := i.ExportedFunction("run")
		stack := make([]uint64, 2)
		return func() error {
			stack[0], stack[1] = 0, 64<<10
			return f.CallWithStack(ctx, stack)
		}, i
	}
}
