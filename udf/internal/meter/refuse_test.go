package meter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// sections are the parts of a small module that a test may replace: one type, one function with two locals, one global.
type parts struct {
	types, imports, global, export, element, locals, body []byte
}

func (p parts) module() []byte {
	or := func(b []byte, otherwise ...byte) []byte {
		if b == nil {
			return otherwise
		}
		return b
	}
	b := slices.Clone(preamble)
	section := func(id byte, body []byte) {
		if body != nil {
			b = append(append(b, id), sized(body)...)
		}
	}
	section(sectionType, or(p.types, 1, formFunc, 0, 0))
	section(sectionImport, p.imports)
	section(sectionFunction, []byte{1, 0})
	section(4, []byte{1, refFunc, 0, 1})
	section(sectionMemory, []byte{1, 0, 1})
	section(sectionGlobal, or(p.global, 1, typeI32, 1, opI32Const, 0, opEnd))
	section(sectionExport, or(p.export, 0))
	section(sectionElement, or(p.element, 0))
	body := slices.Concat(or(p.locals, 1, 2, typeI32), p.body, []byte{opEnd})
	section(sectionCode, append([]byte{1}, sized(body)...))
	return b
}

// TestRefuses: the rewriter says what it does not know, and lets nothing of the module reach what it adds: the added function is 1,
// type 1, globals 1 to 3, locals from 2.
func TestRefuses(t *testing.T) {
	_, err := Rewrite(parts{}.module())
	require.NoError(t, err)
	for want, p := range map[string]parts{
		"function 0: it uses local 2 of 2":                                   {body: []byte{opLocalGet, 2, opDrop}},
		"function 0: it uses local 3 of 2":                                   {body: []byte{opLocalGet, 0, opLocalSet, 3}},
		"function 0: it uses global 1 of 1":                                  {body: []byte{opGlobalGet, 1, opDrop}},
		"function 0: it uses global 2 of 1":                                  {body: []byte{opI64Const, 0, opGlobalSet, 2}},
		"function 0: it uses function 1 of 1":                                {body: []byte{opCall, 1}},
		"function 0: it uses function 2 of 1":                                {body: []byte{opRefFunc, 2, opDrop}},
		"function 0: it uses type 1 of 1":                                    {body: []byte{opBlock, 1, opEnd}},
		"function 0: it uses type 2 of 1":                                    {body: []byte{opI32Const, 0, opCallIndirect, 2, 0}},
		"section with id 9: it uses function 1 of 1":                         {element: []byte{1, 0, opI32Const, 0, opEnd, 1, 1}},
		"section with id 9: it uses function 2 of 1":                         {element: []byte{1, 5, refFunc, 1, opRefFunc, 2, opEnd}},
		"section with id 7: it uses function 1 of 1":                         {export: []byte{1, 1, 'a', 0, 1}},
		"section with id 7: it uses global 1 of 1":                           {export: []byte{1, 1, 'a', kindGlobal, 1}},
		`it exports "locus_meter_x"; names that begin with locus_meter_ are`: {export: slices.Concat([]byte{1}, sized([]byte("locus_meter_x")), []byte{0, 0})},
		"section with id 6: it uses function 1 of 1":                         {global: []byte{1, refFunc, 0, opRefFunc, 1, opEnd}},
		"section with id 6: it uses global 1 of 1":                           {global: []byte{1, typeI32, 0, opGlobalGet, 1, opEnd}},
		`it imports "g" of "m", which is not a function`:                     {imports: []byte{1, 1, 'm', 1, 'g', kindGlobal, typeI32, 0}},
		"type 0 is not of a function":                                        {types: []byte{1, 0x5f, 0}},
		"has the instruction 0x12,":                                          {body: []byte{0x12, 0}}, // return_call
		"has the instruction 0x6,":                                           {body: []byte{0x06, typeEmpty, opEnd}},
		"has the instruction 0xfe,":                                          {body: []byte{0xfe, 0, 2, 0}}, // atomics
		"has the instruction 0xd3,":                                          {body: []byte{0xd3}},
		"has the instruction 0xfc 18,":                                       {body: []byte{opBulk, 18}},
		"has the instruction 0xfd 256,":                                      {body: []byte{opVector, 0x80, 2}}, // relaxed
		"has the instruction 0xfd 12,":                                       {body: append([]byte{opVector, 0x8c, 0}, make([]byte, 16)...)},
		"a reference of type 0x6e":                                           {body: []byte{opRefNull, 0x6e, opDrop}},
		"function 0: it has a block of type -29,":                            {body: []byte{opBlock, 0x63, 0x80, 0, opEnd}}, // what follows would be read as instructions
		"function 0: it has a block of type -28,":                            {body: []byte{opBlock, 0xe4, 0xff, 0xff, 0xff, 0x7f, 0, opEnd}},
		"function 0: it has a block of type -2147483647,":                    {body: []byte{opBlock, 0x81, 0x80, 0x80, 0x80, 0x78, opEnd}},
		"function 0: it has a block of type -23,":                            {body: []byte{opBlock, 0x69, opEnd}},
		"function 0: it has a value of type 0x63,":                           {body: []byte{opRefNull, refFunc, opRefNull, refFunc, opI32Const, 0, opSelectTyped, 1, 0x63, 0x70, opDrop}},
		"it has a select of 2 types":                                         {body: []byte{opSelectTyped, 2, typeI32, typeI32}},
		"section with id 1: it has a value of type 0x64,":                    {types: []byte{1, formFunc, 1, 0x64, 0}},
		"section with id 6: it has a value of type 0x63,":                    {global: []byte{1, 0x63, 0x70, 0, opRefNull, refFunc, opEnd}},
		"section with id 9: it has a reference of type 0x63,":                {element: []byte{1, 5, 0x63, 0x70, 1, opRefFunc, 0, opEnd}},
		"function 0: it is cut off":                                          {body: []byte{opI32Const, 0, opBrTable, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		"it branches out of 1 blocks of 1":                                   {body: []byte{opBr, 1}},
		"an else without an if":                                              {body: []byte{opBlock, typeEmpty, opElse, opEnd}},
		"it has code behind its end":                                         {body: []byte{opEnd}},
		"a number that is too long":                                          {body: []byte{opBr, 0x80, 0x80, 0x80, 0x80, 0x80, 0}},
	} {
		_, err := Rewrite(p.module())
		require.ErrorContains(t, err, want)
		require.IsType(t, Error(""), err)
	}
	for _, b := range []string{"", "\x00asm", "(module)", "\x00asm\x02\x00\x00\x00"} {
		_, err := Rewrite([]byte(b))
		require.ErrorContains(t, err, "not a WebAssembly module of version 1")
	}
	_, err = Rewrite(parts{locals: []byte{1, 1, 0x63, 0x70}}.module())
	require.ErrorContains(t, err, "function 0: it has a value of type 0x63,")
	_, err = Rewrite(parts{locals: append(append([]byte{2, 1, typeI32}, appendU32(nil, maxLocals)...), typeI32)}.module())
	require.ErrorContains(t, err, "function 0: it has 50001 locals, more than the limit of 50000")
	_, err = Rewrite(append(slices.Clone(preamble), 5, 1, 0, 5, 1, 0))
	require.ErrorContains(t, err, "it has a section with id 5 where none belongs")
}

// TestCountsAreBounded: a section that says it has billions of items must not get to the compiler, which would make room for them.
func TestCountsAreBounded(t *testing.T) {
	for id := byte(sectionType); id <= sectionDataCount; id++ {
		if id == sectionStart || id == sectionDataCount {
			continue // they are one number
		}
		for _, n := range []int{1, 1000, 1<<32 - 1} {
			body := appendU32(nil, n)
			_, err := Rewrite(append(append(slices.Clone(preamble), id), sized(body)...))
			require.Error(t, err, "%d items in section %d", n, id)
		}
	}
	_, err := Rewrite(parts{types: append(appendU32(nil, maxTypes+1), slices.Repeat([]byte{formFunc, 0, 0}, maxTypes+1)...)}.module())
	require.ErrorContains(t, err, "it has 65537 items, more than the limit of 65536")
	_, err = Rewrite(parts{body: slices.Repeat([]byte{opCall, 0}, maxEvents+1)}.module())
	require.ErrorContains(t, err, "function 0: it has more than 1048576 blocks, branches and calls")
	_, err = Rewrite(parts{body: slices.Repeat([]byte{opBlock, typeEmpty}, maxEvents)}.module())
	require.ErrorContains(t, err, "function 0: it has more than 1048576 blocks, branches and calls")
}

// TestSizeIsBounded: what is added can't be a multiple of what was there.
func TestSizeIsBounded(t *testing.T) {
	_, err := Rewrite(parts{body: slices.Repeat([]byte{opLoop, typeEmpty, opI32Const, 0, opBrIf, 0, opEnd}, 100_000)}.module())
	require.ErrorContains(t, err, "more than 4 times as many bytes with its metering as without")
}

// TestRefill: an entry goes on over many slices, with all the fuel that it was given and no more.
func TestRefill(t *testing.T) {
	r := newRunner(t, compiler())
	metered, err := Rewrite(loopModule(tightLoops[0].body))
	require.NoError(t, err)
	i, err := r.runtime.InstantiateWithConfig(ctx, metered, wazeroConfig())
	require.NoError(t, err)
	run := func(fuel int64) error {
		setFuel(i, fuel)
		_, err := i.ExportedFunction("run").Call(ctx, 0, 3_000_000)
		return err
	}
	const used = 3_000_000*12 + 4 // as the benchmark counts
	require.NoError(t, run(ample))
	require.Equal(t, int64(used), ample-remaining(i))
	require.NoError(t, run(used))
	require.Zero(t, remaining(i))
	require.ErrorContains(t, run(used-20), "unreachable")
	require.Negative(t, remaining(i))
}
