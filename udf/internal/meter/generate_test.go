package meter

import (
	"slices"
)

// generator makes a valid module of bytes: whatever they are, it ends, traps or not, and imports nothing. It writes each function
// twice: as it is, and with an i64 global counting before each instruction what that instruction costs. The second is how
// tests know what metering must come to, without anything of the rewriter's.
type generator struct {
	src    []byte
	budget int // nodes left

	plain, counted []byte // the body at hand
	funcs          []generated
	locals         []byte // types of the locals of the function at hand
	labels         []target
	loops          int
}

type generated struct {
	params, results []byte
	locals          []byte // behind the parameters
	plain, counted  []byte
}

// target is what a branch can go to: it takes values of these types.
type target struct {
	types []byte
	loop  bool
}

const (
	// counter is the global of the counting module, behind the two of all modules.
	counterGlobal = 2
	// Each function has these locals behind its parameters.
	localsOfEach = "\x7f\x7f\x7e\x7e\x7f\x7f" // i32 i32 i64 i64, and i32 i32 for operands
)

var shapes = []generated{
	{params: []byte{typeI32}, results: []byte{typeI32}},
	{params: []byte{typeI32, typeI64}, results: []byte{typeI64}},
	{params: nil, results: nil},
	{params: []byte{typeI64}, results: []byte{typeI32, typeI64, typeI32}},
}

// blockTypes are added behind the types of shapes: a block that takes and leaves two values.
const swapType = 4

func (g *generator) byte() byte {
	if len(g.src) == 0 {
		return 0
	}
	b := g.src[0]
	g.src = g.src[1:]
	return b
}

func (g *generator) below(n int) int { return int(g.byte()) % n }

// raw writes to both bodies.
func (g *generator) raw(b ...byte) {
	g.plain = append(g.plain, b...)
	g.counted = append(g.counted, b...)
}

// op writes an instruction that costs 1.
func (g *generator) op(b ...byte) {
	g.count(opI64Const, 1)
	g.raw(b...)
}

// count adds what some code pushes to the counter.
func (g *generator) count(code ...byte) {
	g.counted = append(g.counted, opGlobalGet, counterGlobal)
	g.counted = append(g.counted, code...)
	g.counted = append(g.counted, opI64Add, opGlobalSet, counterGlobal)
}

func (g *generator) i32(v int32) { g.op(signedBytes([]byte{opI32Const}, int64(v))...) }
func (g *generator) i64(v int64) { g.op(signedBytes([]byte{opI64Const}, v)...) }

// local finds a local of a type.
func (g *generator) local(t byte) byte {
	for n := g.below(4); ; n++ {
		if i := n % (len(g.locals) - 2); g.locals[i] == t {
			return byte(i)
		}
	}
}

// expression writes code that leaves a value of type t.
func (g *generator) expression(t byte, depth int) {
	g.budget--
	if depth <= 0 || g.budget <= 0 {
		g.leaf(t)
		return
	}
	if t == typeI32 {
		g.expression32(depth - 1)
	} else {
		g.expression64(depth - 1)
	}
}

func (g *generator) leaf(t byte) {
	switch n := g.byte(); {
	case n%2 == 0:
		g.op(opLocalGet, g.local(t))
	case t == typeI32:
		g.i32(int32(int8(n)))
	default:
		g.i64(int64(int8(n)) << (n % 40))
	}
}

func (g *generator) expression32(depth int) {
	switch g.below(18) {
	case 0, 1:
		g.leaf(typeI32)
	case 2, 3: // arithmetic, comparison, division: it may trap
		g.expression(typeI32, depth)
		g.expression(typeI32, depth)
		g.op(0x46 + byte(g.below(10)))
	case 4:
		g.expression(typeI32, depth)
		g.expression(typeI32, depth)
		g.op(0x6a + byte(g.below(15)))
	case 5:
		g.expression(typeI64, depth)
		g.expression(typeI64, depth)
		g.op(0x51 + byte(g.below(10)))
	case 6:
		g.expression(typeI32, depth)
		g.op([]byte{0x45, 0x67, 0x68, 0x69, 0xc0, 0xc1}[g.below(6)])
	case 7:
		g.expression(typeI64, depth)
		g.op(0xa7) // wrap
	case 8:
		g.address(depth)
		g.op([]byte{0x28, 0x2c, 0x2d, 0x2e, 0x2f}[g.below(5)], 0, byte(g.below(100)))
	case 9:
		g.op(opMemorySize, 0)
	case 10:
		g.grow(depth)
	case 11:
		g.condition(typeI32, depth)
	case 12:
		g.block(typeI32, depth)
	case 13:
		g.call(typeI32, depth)
	case 14:
		g.expression(typeI32, depth)
		g.expression(typeI32, depth)
		g.expression(typeI32, depth)
		if g.byte()%2 == 0 {
			g.op(opSelect)
		} else {
			g.op(opSelectTyped, 1, typeI32)
		}
	case 15:
		g.vector(depth)
	case 16:
		g.expression(typeI64, depth)
		g.op(0xb9)                       // f64.convert_i64_s
		g.op(opBulk, 2+byte(g.below(2))) // i32.trunc_sat_f64
	case 17:
		if g.byte()%2 == 0 {
			g.op(opRefFunc, 0)
		} else {
			g.op(opRefNull, refFunc)
		}
		g.op(0xd1) // ref.is_null
	}
}

func (g *generator) expression64(depth int) {
	switch g.below(11) {
	case 0, 1:
		g.leaf(typeI64)
	case 2, 3:
		g.expression(typeI64, depth)
		g.expression(typeI64, depth)
		g.op(0x7c + byte(g.below(15)))
	case 4:
		g.expression(typeI32, depth)
		g.op(0xac + byte(g.below(2))) // extend
	case 5:
		g.address(depth)
		g.op(0x29, 0, byte(g.below(100)))
	case 6:
		g.condition(typeI64, depth)
	case 7:
		g.block(typeI64, depth)
	case 8:
		g.call(typeI64, depth)
	case 9:
		g.op(opGlobalGet, 1)
	case 10:
		g.expression(typeI64, depth)
		g.op(0xc2 + byte(g.below(3)))
	}
}

// address is most often inside of memory.
func (g *generator) address(depth int) {
	g.expression(typeI32, depth)
	if g.byte()%8 != 0 {
		g.i32(0x7fff)
		g.op(0x71) // and
	}
}

func (g *generator) grow(depth int) {
	const operand, answer = 4, 5
	base := len(g.locals) - len(localsOfEach)
	g.expression(typeI32, depth)
	if g.byte()%4 != 0 {
		g.i32(3)
		g.op(0x71)
	}
	operandLocal, answerLocal := byte(base+operand), byte(base+answer)
	g.counted = append(g.counted, opLocalTee, operandLocal)
	g.op(opMemoryGrow, 0)
	g.counted = append(g.counted, opLocalTee, answerLocal, opLocalGet, answerLocal, opI32Const)
	g.counted = append(signedBytes(g.counted, -1), 0x46, opIf, typeEmpty) // eq
	g.count(signedBytes([]byte{opI64Const}, FailedGrowFuel)...)
	g.counted = append(g.counted, opElse)
	g.count(append(signedBytes([]byte{opLocalGet, operandLocal, opI64ExtendU, opI64Const}, PageFuel), opI64Mul)...)
	g.counted = append(g.counted, opEnd)
}

// bulk writes a bulk instruction whose operands, the third a length, are on the stack.
func (g *generator) bulk(perFuel int64, code ...byte) {
	operand := byte(len(g.locals) - 2)
	g.counted = append(g.counted, opLocalTee, operand)
	g.count(append(signedBytes([]byte{opLocalGet, operand, opI64ExtendU, opI64Const}, perFuel), 0x80)...) // div_u
	g.op(code...)
}

func (g *generator) condition(t byte, depth int) {
	g.expression(typeI32, depth)
	g.op(opIf, t)
	g.inside(target{types: []byte{t}}, func() {
		g.statements(depth, 2)
		g.expression(t, depth)
	})
	g.raw(opElse)
	g.inside(target{types: []byte{t}}, func() { g.expression(t, depth) })
	g.raw(opEnd)
}

// block leaves a value, perhaps by a branch.
func (g *generator) block(t byte, depth int) {
	if t == typeI32 && g.byte()%3 == 0 {
		g.swap(depth)
		return
	}
	g.raw(opBlock, t)
	g.inside(target{types: []byte{t}}, func() {
		g.statements(depth, 2)
		g.expression(t, depth)
		if g.byte()%2 == 0 {
			g.expression(typeI32, depth)
			g.op(opBrIf, 0)
		}
	})
	g.raw(opEnd)
}

// swap uses a block with parameters and several results.
func (g *generator) swap(depth int) {
	g.expression(typeI32, depth)
	g.expression(typeI64, depth)
	g.raw(opBlock, swapType)
	g.inside(target{types: []byte{typeI32, typeI64}}, func() {
		if g.byte()%2 == 0 {
			g.expression(typeI32, depth)
			g.op(opBrIf, 0)
		}
		g.op(opLocalSet, g.local(typeI64))
		g.op(opLocalSet, g.local(typeI32))
		g.expression(typeI32, depth)
		g.expression(typeI64, depth)
		if g.byte()%2 == 0 {
			g.op(opBr, 0)
		}
	})
	g.raw(opEnd)
	g.op(opDrop)
}

func (g *generator) inside(l target, body func()) {
	g.labels = append(g.labels, l)
	body()
	g.labels = g.labels[:len(g.labels)-1]
}

// call calls a function that was made before, so there is no recursion, directly or through the table.
func (g *generator) call(t byte, depth int) {
	n := len(g.funcs)
	if n == 0 || g.loops > 1 {
		g.leaf(t)
		return
	}
	i := g.below(n)
	f := g.funcs[i]
	for _, p := range f.params {
		g.expression(p, depth)
	}
	if g.byte()%3 == 0 {
		// Sometimes the function before, perhaps of another type, or none. Never one that comes later: how deep recursion gets
		// depends on the engine, and on metering.
		g.i32([]int32{int32(i), int32(i), int32(i), int32(max(0, i-1)), 50}[g.below(5)])
		shape := slices.IndexFunc(shapes, func(s generated) bool {
			return slices.Equal(s.params, f.params) && slices.Equal(s.results, f.results)
		})
		g.op(opCallIndirect, byte(shape), 0)
	} else {
		g.op(opCall, byte(i))
	}
	for _, r := range slices.Backward(f.results) {
		g.op(opLocalSet, g.local(r))
	}
	g.leaf(t)
}

func (g *generator) vector(depth int) {
	g.expression(typeI32, depth)
	g.op(opVector, 17) // i32x4.splat
	switch g.below(4) {
	case 0:
		g.op(append([]byte{opVector, 12}, "0123456789abcdef"...)...)
		g.op(opVector, 0xae, 1) // i32x4.add
	case 1:
		g.op(opVector, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
		g.op(opVector, 13, 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31) // shuffle
	case 2:
		g.i32(16)
		g.op(opVector, 0, 4, 8) // v128.load
		g.op(opVector, 0x50)    // or
	case 3:
		g.op(opVector, 0x63) // i8x16.all_true
		g.op(opVector, 15)   // i8x16.splat
	}
	g.op(opVector, 27, byte(g.below(4))) // extract_lane
}

func (g *generator) statements(depth, n int) {
	for range g.below(n + 1) {
		g.statement(depth)
	}
}

func (g *generator) statement(depth int) {
	g.budget--
	if depth <= 0 || g.budget <= 0 {
		return
	}
	depth--
	switch g.below(18) {
	case 0, 1:
		t := []byte{typeI32, typeI64}[g.below(2)]
		g.expression(t, depth)
		g.op(opLocalSet, g.local(t))
	case 2:
		g.expression(typeI64, depth)
		g.op(opGlobalSet, 1)
	case 3, 4:
		g.address(depth)
		g.expression(typeI32, depth)
		g.op([]byte{0x36, 0x3a, 0x3b}[g.below(3)], 0, byte(g.below(100)))
	case 5:
		g.expression(typeI32, depth)
		g.op(opIf, typeEmpty)
		g.inside(target{}, func() { g.statements(depth, 3) })
		if g.byte()%2 == 0 {
			g.raw(opElse)
			g.inside(target{}, func() { g.statements(depth, 3) })
		}
		g.raw(opEnd)
	case 6:
		g.raw(opBlock, typeEmpty)
		g.inside(target{}, func() { g.statements(depth, 4) })
		g.raw(opEnd)
	case 7, 8, 9:
		g.loop(depth)
	case 10, 11:
		g.jump(depth, opBrIf)
	case 12:
		g.jump(depth, opBr)
	case 13:
		g.choose(depth)
	case 14:
		g.move(depth)
	case 15:
		g.expression(typeI64, depth)
		g.op(opDrop)
		g.raw(opNop)
	case 16:
		g.leave(depth)
	case 17:
		g.tables(depth)
	}
}

// loop runs up to seven times: a global counts, which nothing else writes, so that branches back can't make it endless.
func (g *generator) loop(depth int) {
	if g.loops >= 3 {
		return
	}
	g.loops++
	defer func() { g.loops-- }()
	local := byte(len(g.locals) + g.loops - 1)
	g.i32(int32(g.below(8)))
	g.op(opLocalSet, local)
	g.raw(opBlock, typeEmpty)
	g.labels = append(g.labels, target{})
	g.raw(opLoop, typeEmpty)
	g.inside(target{loop: true}, func() {
		g.op(opLocalGet, local)
		g.op(0x45) // eqz
		g.op(opBrIf, 1)
		g.op(opLocalGet, local)
		g.i32(1)
		g.op(0x6b)
		g.op(opLocalSet, local)
		g.statements(depth, 4)
		if g.byte()%8 != 0 {
			g.op(opBr, 0)
		}
	})
	g.raw(opEnd)
	g.labels = g.labels[:len(g.labels)-1]
	g.raw(opEnd)
}

// jump branches to any label around it; code that can't be reached may follow.
func (g *generator) jump(depth int, op byte) {
	n := g.below(len(g.labels))
	l := g.labels[len(g.labels)-1-n]
	for _, t := range l.operands() {
		g.expression(t, depth)
	}
	if op == opBrIf {
		g.expression(typeI32, depth)
	}
	g.op(op, byte(n))
	if op == opBr {
		g.statements(depth, 2)
		return
	}
	for range l.operands() {
		g.op(opDrop)
	}
}

func (l target) operands() []byte {
	if l.loop {
		return nil
	}
	return l.types
}

// choose is a switch by br_table.
func (g *generator) choose(depth int) {
	for range 3 {
		g.raw(opBlock, typeEmpty)
		g.labels = append(g.labels, target{})
	}
	g.expression(typeI32, depth)
	far := 2 // or any other label that takes no values, also a loop
	if n := g.below(len(g.labels)); len(g.labels[len(g.labels)-1-n].operands()) == 0 {
		far = n
	}
	g.op(opBrTable, 2, 0, 1, byte(far))
	for range 3 {
		g.labels = g.labels[:len(g.labels)-1]
		g.raw(opEnd)
		g.statements(depth, 2)
		if len(g.labels) > 1 && g.byte()%3 == 0 {
			g.jump(depth, opBr)
		}
	}
}

// move uses the bulk instructions of memory.
func (g *generator) move(depth int) {
	g.address(depth)
	g.expression(typeI32, depth)
	g.i32(0x3f)
	g.op(0x71)
	g.expression(typeI32, depth)
	if g.byte()%8 != 0 {
		g.i32(0x1f)
		g.op(0x71)
	}
	switch g.below(3) {
	case 0:
		g.bulk(BytesPerFuel, opBulk, subMemoryCopy, 0, 0)
	case 1:
		g.bulk(BytesPerFuel, opBulk, subMemoryFill, 0)
	case 2:
		g.bulk(BytesPerFuel, opBulk, subMemoryInit, 0, 0)
	}
}

// tables uses the bulk instructions of tables, on the second, which is not called through.
func (g *generator) tables(depth int) {
	g.expression(typeI32, depth)
	g.i32(3)
	g.op(0x71)
	switch g.below(4) {
	case 0:
		g.i32(int32(g.below(3)))
		g.i32(int32(g.below(4)))
		g.bulk(1, opBulk, subTableCopy, 1, 1)
	case 1:
		g.i32(0)
		g.i32(int32(g.below(3)))
		g.bulk(1, opBulk, subTableInit, 1, 1)
	case 2:
		g.op(opRefNull, refFunc)
		g.i32(int32(g.below(4)))
		g.bulk(1, opBulk, subTableFill, 1)
	case 3:
		g.op(opRefFunc, 0)
		g.op(0x26, 1) // table.set
		g.op(opBulk, 16, 1)
		g.op(opDrop)
	}
}

// leave returns or traps, now and then.
func (g *generator) leave(depth int) {
	g.expression(typeI32, depth)
	g.op(opIf, typeEmpty)
	g.labels = append(g.labels, target{})
	if g.byte()%4 == 0 {
		g.op(opUnreachable)
	} else {
		for _, t := range g.labels[0].types {
			g.expression(t, depth)
		}
		g.op(opReturn)
		g.statements(depth, 1)
	}
	g.labels = g.labels[:len(g.labels)-1]
	g.raw(opEnd)
}

func (g *generator) function(s generated) {
	g.plain, g.counted = nil, nil
	s.locals = append([]byte(localsOfEach), typeI32, typeI32, typeI32) // and three for loops
	g.locals = append(slices.Clone(s.params), localsOfEach...)
	g.labels = []target{{types: s.results}}
	g.statements(6, 6)
	for _, t := range s.results {
		g.expression(t, 3)
	}
	g.raw(opEnd)
	s.plain, s.counted = g.plain, g.counted
	g.funcs = append(g.funcs, s)
}

// generate makes a module, and the same with a counter, which it exports.
func generate(src []byte) (plain, counted []byte, run byte) {
	g := &generator{src: src}
	for range 1 + g.below(4) {
		g.budget = 150
		g.function(shapes[g.below(len(shapes))])
	}
	run = byte(g.below(len(g.funcs)))
	return g.module(false), g.module(true), run
}

func (g *generator) module(counted bool) []byte {
	var types, funcs, exports, codes [][]byte
	for _, s := range append(shapes[:swapType:swapType], generated{params: []byte{typeI32, typeI64}, results: []byte{typeI32, typeI64}}) {
		types = append(types, slices.Concat([]byte{formFunc}, sized(s.params), sized(s.results)))
	}
	for i, f := range g.funcs {
		funcs = append(funcs, []byte{byte(slices.IndexFunc(shapes, func(s generated) bool {
			return slices.Equal(s.params, f.params) && slices.Equal(s.results, f.results)
		}))})
		exports = append(exports, append(sized([]byte{'f', '0' + byte(i)}), 0, byte(i)))
		body := appendU32(nil, len(f.locals))
		for _, t := range f.locals {
			body = append(body, 1, t)
		}
		if counted {
			body = append(body, f.counted...)
		} else {
			body = append(body, f.plain...)
		}
		codes = append(codes, sized(body))
	}
	exports = append(exports, append(sized([]byte("memory")), 2, 0), append(sized([]byte("global")), kindGlobal, 1))
	globals := [][]byte{{typeI32, 0, opI32Const, 5, opEnd}, {typeI64, 1, opI64Const, 9, opEnd}}
	if counted {
		globals = append(globals, []byte{typeI64, 1, opI64Const, 0, opEnd})
		exports = append(exports, append(sized([]byte("counter")), kindGlobal, counterGlobal))
	}
	n := byte(len(g.funcs))
	elements := append([]byte{0, opI32Const, 0, opEnd, n}, sequence(n)...)
	b := slices.Clone(preamble)
	section := func(id byte, body []byte) { b = append(append(b, id), sized(body)...) }
	section(sectionType, vectorOf(types...))
	section(sectionFunction, vectorOf(funcs...))
	section(4, vectorOf([]byte{refFunc, 0, n + 1}, []byte{refFunc, 1, 4, 4}))
	section(sectionMemory, []byte{1, 1, 1, 3})
	section(sectionGlobal, vectorOf(globals...))
	section(sectionExport, vectorOf(exports...))
	section(sectionElement, vectorOf(elements, []byte{1, 0, 2, 0, 0}))
	section(12, []byte{2})
	section(sectionCode, vectorOf(codes...))
	data := []byte("what a passive segment holds: some bytes to move")
	section(11, vectorOf(slices.Concat([]byte{1}, sized(data)), slices.Concat([]byte{0, opI32Const, 0, opEnd}, sized(data))))
	return b
}

func sequence(n byte) (b []byte) {
	for i := range n {
		b = append(b, i)
	}
	return b
}

func sized(b []byte) []byte { return append(appendU32(nil, len(b)), b...) }

func vectorOf(items ...[]byte) []byte {
	return append(appendU32(nil, len(items)), slices.Concat(items...)...)
}
