package meter

// write makes the function's new body. In a function that keeps its fuel in a local it is
//
//	local.get, from Left
//	block
//	  the body: fuel is stored to Left before each call and loaded after; return is a branch out of the block
//	end
//	global.set, to Left
//
// and else the body alone, with its charges on Left itself.
func (f *function) write(start int) {
	f.writeLocals(start)
	if f.local {
		f.global(opGlobalGet, left)
		f.variable(opLocalSet, localFuel)
		f.op(opBlock)
		f.blockType()
	}
	b := f.r.b
	at := start
	for _, e := range f.events {
		f.out = append(f.out, b[at:e.at]...)
		at = e.end
		f.writeEvent(e)
	}
	f.out = append(f.out, b[at:]...)
	if f.local {
		f.variable(opLocalGet, localFuel)
		f.global(opGlobalSet, left)
		f.op(opEnd)
	}
}

// Globals and locals that are added, by their place behind those of the module and the function.
const (
	left = iota
	rest
	stop
)

const (
	localFuel    = iota // i64
	localOperand        // i32
	localAnswer         // i32
)

// writeLocals writes the declarations, with those that are added at the end.
func (f *function) writeLocals(start int) {
	r := reader{b: f.r.b[:start]}
	n := r.u32()
	added := 0
	if f.local || f.operand {
		added = 1
	}
	if f.operand {
		added = 2
	}
	f.out = appendU32(f.out, int(n)+added)
	f.out = append(f.out, f.r.b[r.pos:start]...)
	if added > 0 {
		f.out = append(f.out, 1, typeI64)
	}
	if f.operand {
		f.out = append(f.out, 2, typeI32)
	}
}

func (f *function) writeEvent(e event) {
	code := f.r.b[e.at:e.end]
	switch e.kind {
	case eventCharge:
		if s := f.segments[e.n]; s.cost > 0 {
			f.charge(s.check, func() { f.constant(int64(s.cost)) })
		} else if s.check && e.n > 0 {
			f.check() // a loop may have all its instructions in other segments
		}
	case eventCall:
		f.spill()
		f.out = append(f.out, code...)
		f.reload()
	case eventReturn:
		if !f.local {
			f.out = append(f.out, code...)
			break
		}
		f.op(opBr)
		f.out = appendU32(f.out, e.n)
	case eventBulk:
		f.variable(opLocalTee, localOperand)
		f.charge(true, func() { f.price(e.n) })
		f.out = append(f.out, code...)
	case eventGrow:
		f.writeGrow(e.n, code)
	}
}

// price pushes the cost of a bulk instruction.
func (f *function) price(sub int) {
	f.variable(opLocalGet, localOperand)
	f.op(opI64ExtendU)
	switch sub {
	case subMemoryInit, subMemoryCopy, subMemoryFill:
		f.constant(3) // BytesPerFuel
		f.op(opI64ShrU)
	}
}

// writeGrow writes memory.grow or table.grow. It is paid for after it succeeded: what it is asked for says nothing.
func (f *function) writeGrow(which int, code []byte) {
	f.variable(opLocalTee, localOperand)
	f.out = append(f.out, code...)
	f.variable(opLocalTee, localAnswer)
	f.charge(true, func() {
		f.variable(opLocalGet, localOperand)
		f.op(opI64ExtendU)
		if which == opMemoryGrow {
			f.constant(PageFuel)
			f.op(opI64Mul)
		}
		f.constant(FailedGrowFuel)
		f.variable(opLocalGet, localAnswer)
		f.op(opI32Const)
		f.out = signedBytes(f.out, -1)
		f.op(opI32Ne)
		f.op(opSelect)
	})
}

// charge takes from the fuel what cost pushes.
func (f *function) charge(check bool, cost func()) {
	f.fuel()
	cost()
	f.op(opI64Sub)
	switch {
	case !f.local:
		f.global(opGlobalSet, left)
	case !check:
		f.variable(opLocalSet, localFuel)
	default:
		f.variable(opLocalTee, localFuel)
		f.below()
		return
	}
	if check {
		f.check()
	}
}

func (f *function) fuel() {
	if f.local {
		f.variable(opLocalGet, localFuel)
	} else {
		f.global(opGlobalGet, left)
	}
}

func (f *function) check() {
	f.fuel()
	f.below()
}

// below asks for more if the fuel on the stack is below zero.
func (f *function) below() {
	f.constant(0)
	f.op(opI64LtS)
	f.op(opIf)
	f.op(typeEmpty)
	f.spill()
	f.op(opCall)
	f.out = appendU32(f.out, len(f.m.funcs))
	f.reload()
	f.op(opEnd)
}

// spill makes Left true before someone else looks at it, and reload follows what they did to it.
func (f *function) spill() {
	if f.local {
		f.variable(opLocalGet, localFuel)
		f.global(opGlobalSet, left)
	}
}

func (f *function) reload() {
	if f.local {
		f.global(opGlobalGet, left)
		f.variable(opLocalSet, localFuel)
	}
}

func (f *function) op(op byte) { f.out = append(f.out, op) }

func (f *function) constant(v int64) {
	if 0 <= v && v < 0x40 {
		f.out = append(f.out, opI64Const, byte(v))
	} else {
		f.out = signedBytes(append(f.out, opI64Const), v)
	}
}

func (f *function) variable(op byte, which int) { f.numbered(op, f.locals+which) }

func (f *function) global(op byte, which int) { f.numbered(op, int(f.m.globals)+which) }

// numbered writes an instruction with an index, in one step where it is short, as most are.
func (f *function) numbered(op byte, index int) {
	if index < 0x80 {
		f.out = append(f.out, op, byte(index))
	} else {
		f.out = appendU32(append(f.out, op), index)
	}
}

// blockType is that of a block with the function's results.
func (f *function) blockType() {
	switch len(f.results) {
	case 0:
		f.op(typeEmpty)
	case 1:
		f.op(f.results[0])
	default:
		f.out = signedBytes(f.out, int64(f.m.results[string(f.results)]))
	}
}

// refill is the function that continues an entry whose slice is used up, or ends it:
//
//	loop
//	  memory.grow 0                  Go's scheduler gets its turn
//	  if Stop: trap
//	  if Rest == 0: trap
//	  grant = min(Rest, Slice); Rest -= grant; Left += grant
//	  if Left < 0: continue
func (m *rewriter) refill() []byte {
	f := &function{m: m}
	const grant = 0 // the local
	f.out = append(f.out, 1, 1, typeI64, opLoop, typeEmpty)
	if m.memory {
		f.out = append(f.out, opI32Const, 0, opMemoryGrow, 0, opDrop)
	}
	f.global(opGlobalGet, stop)
	f.out = append(f.out, opIf, typeEmpty, opUnreachable, opEnd)
	f.global(opGlobalGet, rest)
	f.out = append(f.out, opI64Eqz, opIf, typeEmpty, opUnreachable, opEnd)
	f.global(opGlobalGet, rest)
	f.constant(Slice)
	f.global(opGlobalGet, rest)
	f.constant(Slice)
	f.out = append(f.out, opI64LtU, opSelect, opLocalSet, grant)
	f.global(opGlobalGet, rest)
	f.out = append(f.out, opLocalGet, grant, opI64Sub)
	f.global(opGlobalSet, rest)
	f.global(opGlobalGet, left)
	f.out = append(f.out, opLocalGet, grant, opI64Add)
	f.global(opGlobalSet, left)
	f.global(opGlobalGet, left)
	f.constant(0)
	f.out = append(f.out, opI64LtS, opBrIf, 0, opEnd, opEnd)
	return f.out
}
