package meter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/api"
)

// TestStretch: instructions cost the same whether their numbers are written in one byte, as stretch reads them, or in more.
func TestStretch(t *testing.T) {
	i := instantiated(t, slices.Concat(
		[]byte{opI32Const, 5, opLocalSet, 0}, []byte{opI32Const, 0x85, 0, opLocalSet, 0x80, 0},
		[]byte{opI32Const, 0, 0x28, 2, 8, opDrop}, []byte{opI32Const, 0, 0x28, 0x82, 0, 8, opDrop}, []byte{opI32Const, 0, 0x28, 2, 0x88, 0, opDrop},
		[]byte{opGlobalGet, 0, opDrop}, []byte{opGlobalGet, 0x80, 0, opDrop},
		[]byte{opI64Const, 0x7f, opDrop}, []byte{opI64Const, 0xff, 0x7f, opDrop},
		[]byte{opMemorySize, 0, opDrop, opNop, opNop},
	))
	setFuel(i, 100)
	_, err := i.ExportedFunction("run").Call(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(2+2+3+3+3+2+2+2+2+2), 100-remaining(i))
}

// TestPaths: what a path costs where it meets others.
func TestPaths(t *testing.T) {
	cheap, dear := []byte{opI32Const, 0, opDrop}, slices.Repeat([]byte{opI32Const, 0, opDrop}, 10)
	yes, no := []byte{opI32Const, 1}, []byte{opI32Const, 0}
	for name, c := range map[string]struct {
		body []byte
		cost int64
	}{
		"behind a branch":        {slices.Concat([]byte{opBlock, typeEmpty, opBr, 0}, dear, []byte{opEnd}), 1},
		"between two":            {slices.Concat([]byte{opBlock, typeEmpty, opBlock, typeEmpty, opBr, 1, opEnd}, dear, []byte{opEnd}, cheap), 3},
		"behind a return":        {slices.Concat(yes, []byte{opIf, typeEmpty, opReturn, opEnd}, dear), 3},
		"if, taken":              {slices.Concat(yes, []byte{opIf, typeEmpty}, cheap, []byte{opEnd}), 4},
		"if, not":                {slices.Concat(no, []byte{opIf, typeEmpty}, dear, []byte{opEnd}), 2},
		"else, not":              {slices.Concat(yes, []byte{opIf, typeEmpty}, cheap, []byte{opElse}, dear, []byte{opEnd}), 4},
		"else, taken":            {slices.Concat(no, []byte{opIf, typeEmpty}, dear, []byte{opElse}, cheap, []byte{opEnd}), 4},
		"a table, taken":         {slices.Concat(yes, []byte{opIf, typeEmpty}, no, []byte{opBrTable, 0, 0, opEnd}), 4},
		"a table in an if, not":  {slices.Concat(no, []byte{opIf, typeEmpty}, no, []byte{opBrTable, 0, 0, opEnd}), 2},
		"out of an if, a call":   {slices.Concat(dear, yes, []byte{opIf, typeEmpty}, yes, []byte{opMemoryGrow, 0, opDrop, opEnd}), 20 + 2 + 3 + PageFuel},
		"out of a block, by if":  {slices.Concat([]byte{opBlock, typeEmpty}, cheap, yes, []byte{opBrIf, 0}, dear, []byte{opEnd}, cheap), 6},
		"out of a block, at end": {slices.Concat([]byte{opBlock, typeEmpty}, cheap, no, []byte{opBrIf, 0}, dear, []byte{opEnd}, cheap), 26},
	} {
		t.Run(name, func(t *testing.T) {
			i := instantiated(t, c.body)
			setFuel(i, ample)
			_, err := i.ExportedFunction("run").Call(ctx)
			require.NoError(t, err)
			require.Equal(t, c.cost, ample-remaining(i))
		})
	}
}

// TestRoundsOfLoops: fuel ends a loop within a round, whatever way its branches go back and wherever refill is called: one branch back,
// several, a table, with values, around a call, and around another loop.
func TestRoundsOfLoops(t *testing.T) {
	always := []byte{opI32Const, 1}
	for name, body := range map[string][]byte{
		"br":          {opLoop, typeEmpty, opBr, 0, opEnd},
		"br_if":       slices.Concat([]byte{opLoop, typeEmpty}, always, []byte{opBrIf, 0, opEnd}),
		"several":     slices.Concat([]byte{opLoop, typeEmpty, opLocalGet, 0, opBrIf, 0}, always, []byte{opBrIf, 0, opEnd}),
		"a table":     slices.Concat([]byte{opLoop, typeEmpty, opBlock, typeEmpty}, always, []byte{opBrTable, 1, 0, 1, opEnd, opEnd}),
		"with values": slices.Concat(always, []byte{opLoop, 1, opDrop}, always, always, []byte{opBrIf, 0, opEnd, opDrop}),
		"a call":      slices.Concat([]byte{opLoop, typeEmpty, opCall, 1}, always, []byte{opBrIf, 0, opEnd}),
		"the outer":   slices.Concat([]byte{opLoop, typeEmpty, opLoop, typeEmpty}, always, []byte{opBrIf, 1, opLocalGet, 0, opBrIf, 0, opEnd, opEnd}),
	} {
		t.Run(name, func(t *testing.T) {
			metered, err := Rewrite(endless(body))
			require.NoError(t, err)
			i, err := engine(t, compiler()).InstantiateWithConfig(ctx, metered, wazeroConfig())
			require.NoError(t, err)
			const fuel = 3*Slice + 5
			setFuel(i, fuel)
			_, err = i.ExportedFunction("run").Call(ctx)
			require.ErrorContains(t, err, "unreachable")
			require.Negative(t, remaining(i))
			require.Greater(t, remaining(i), int64(-30))
		})
	}
}

// TestReturnsAreBounded: callers that return to each other don't all run to their ends when the fuel is used up, nor when the guest is
// stopped, however they return.
func TestReturnsAreBounded(t *testing.T) {
	const depth, tail = 10_000, 1_000
	long := slices.Repeat([]byte{opI32Const, 0, opDrop}, tail)
	yes := []byte{opI32Const, 1}
	for name, end := range map[string][]byte{
		"at the end":   long,
		"return":       slices.Concat(long, []byte{opReturn}),
		"br":           slices.Concat(long, []byte{opBr, 0}),
		"br_if":        slices.Concat(long, yes, []byte{opBrIf, 0}),
		"br_table":     slices.Concat(long, yes, []byte{opBrTable, 0, 0}),
		"behind an if": slices.Concat(yes, []byte{opIf, typeEmpty}, long, []byte{opEnd}),
		"with a loop":  slices.Concat([]byte{opLoop, typeEmpty, opI32Const, 0, opBrIf, 0, opEnd}, long),
	} {
		t.Run(name, func(t *testing.T) {
			// if global < depth: global++, call itself. Then the end.
			body := slices.Concat([]byte{opGlobalGet, 0}, signedBytes([]byte{opI32Const}, depth), []byte{0x48, opIf, typeEmpty,
				opGlobalGet, 0, opI32Const, 1, 0x6a, opGlobalSet, 0, opCall, 0, opEnd}, end)
			metered, err := Rewrite(parts{
				global: []byte{1, typeI32, 1, opI32Const, 0, opEnd}, body: body, export: vectorOf(append(sized([]byte("run")), 0, 0)),
			}.module())
			require.NoError(t, err)
			i, err := engine(t, compiler()).InstantiateWithConfig(ctx, metered, wazeroConfig())
			require.NoError(t, err)
			setFuel(i, 9*depth+5)
			_, err = i.ExportedFunction("run").Call(ctx)
			require.ErrorContains(t, err, "unreachable")
			require.Negative(t, remaining(i))
			require.Greater(t, remaining(i), int64(-2*len(body)))
		})
	}
}

// endless exports a function with such a body as run, and has another that does nothing, and a type of blocks that take and leave a number.
func endless(body []byte) []byte {
	b := slices.Clone(preamble)
	section := func(id byte, body []byte) { b = append(append(b, id), sized(body)...) }
	section(sectionType, vectorOf([]byte{formFunc, 0, 0}, []byte{formFunc, 1, typeI32, 1, typeI32}))
	section(sectionFunction, []byte{2, 0, 0})
	section(sectionMemory, []byte{1, 0, 1})
	section(sectionExport, vectorOf(append(sized([]byte("run")), 0, 0)))
	section(sectionCode, vectorOf(sized(slices.Concat([]byte{1, 1, typeI32}, body, []byte{opEnd})), sized([]byte{0, opEnd})))
	return b
}

// instantiated is an instance of a metered module that exports a function with a body as run.
func instantiated(t *testing.T, body []byte) api.Module {
	t.Helper()
	metered, err := Rewrite(parts{body: body, export: vectorOf(append(sized([]byte("run")), 0, 0))}.module())
	require.NoError(t, err)
	i, err := engine(t, compiler()).InstantiateWithConfig(ctx, metered, wazeroConfig())
	require.NoError(t, err)
	return i
}
