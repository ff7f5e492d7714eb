package meter

// write makes the function's new body. In a function that keeps its fuel in a local it is
//
//	local.get, from Left
//	block
//	  look
//	  the body: fuel is stored to Left before each call and loaded after; return is a branch out of the block
//	end
//	global.set, to Left
//
// and else the body alone, after a look, with Left itself.
func (f *function) write(start int) {
	f.writeLocals(start)
	if f.local {
		f.global(opGlobalGet, left)
		f.variable(opLocalSet, localFuel)
		f.op(opBlock)
		f.blockType()
	}
	f.look()
	b := f.r.b
	at := int32(start)
	for i := range f.events {
		e := &f.events[i]
		f.out = append(f.out, b[at:e.at]...)
		at = e.end
		f.writeEvent(e)
		if len(f.m.out)+len(f.out) > f.m.limit {
			f.r.fail(refuse("it has more than %d times as many bytes with its metering as without", maxGrowth))
			return
		}
	}
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

func (f *function) writeEvent(e *event) {
	code := f.r.b[e.at:e.end]
	switch e.kind {
	case eventLoop:
		f.settle(e.owed, 0)
		f.writeLoop(&f.labels[e.label], code)
	case eventElse:
		f.settle(e.owed, f.labels[e.label].meet)
		f.op(opElse)
	case eventEnd:
		f.writeEnd(e)
	case eventBranch:
		f.branchTo(e, e.label, 0)
	case eventBranchIf: // as an if, so that what is owed is paid on the way
		f.op(opIf)
		f.op(typeEmpty)
		f.branchTo(e, e.label, 1)
		f.op(opEnd)
	case eventTargets:
		f.leave(e, 0)
		f.writeTargets(e, code)
	case eventUnreached:
		f.writeTargets(e, code)
	case eventReturn:
		if f.local {
			f.branchTo(e, 0, 0)
		} else {
			f.leave(e, 0)
			f.op(opReturn)
		}
	case eventCall:
		f.spill(e.owed)
		f.out = append(f.out, code...)
		f.reload()
	case eventBulk:
		f.variable(opLocalTee, localOperand)
		f.charge(func() { f.price(int(e.n)) })
		f.settle(e.owed, 0)
		f.look()
		f.out = append(f.out, code...)
	case eventGrow:
		f.settle(e.owed, 0)
		f.writeGrow(int(e.n), code)
		f.look()
	}
}

// writeLoop writes the head of a loop. A doubled one, whose outer loop makes sure that there is fuel, is
//
//	loop
//	  look
//	  loop
//	    the body: the outer loop is where branches to it go that find the fuel below zero, at the head if there are several
//	  end
//	end
func (f *function) writeLoop(l *label, code []byte) {
	f.out = append(f.out, code...)
	if l.looks() {
		f.look()
	}
	if !l.double() {
		return
	}
	f.out = append(f.out, code...)
	if !l.late() {
		f.turnBack(1)
	}
}

// turnBack branches out of that many labels if the fuel is below zero.
func (f *function) turnBack(depth int) {
	f.fuel()
	f.constant(0)
	f.out = append(f.out, opI64LtS, opIf, typeEmpty)
	f.writeBranch(depth + 1)
	f.op(opEnd)
}

func (f *function) writeEnd(e *event) {
	l := &f.labels[e.label]
	switch {
	case l.op == opLoop:
		if l.double() {
			f.op(opEnd)
		}
	case l.op == opIf && l.owed != l.meet && !l.dead:
		f.settle(e.owed, l.meet)
		f.op(opElse)
		f.settle(l.owed, l.meet)
	default:
		f.leave(e, l.meet)
	}
	f.op(opEnd)
}

// leave pays what is owed but for what stays owed, and looks if the function returns long after the last look.
func (f *function) leave(e *event, stays int32) {
	f.settle(e.owed, stays)
	if e.look && e.owed != unreached {
		f.look()
	}
}

// branchTo pays and branches to a label, out of so many labels more than there were.
func (f *function) branchTo(e *event, label int32, more int) {
	l := &f.labels[label]
	f.leave(e, l.meet)
	depth := f.depth(e.n, label) + more
	if l.late() {
		f.turnBack(depth + 1)
	}
	f.writeBranch(depth)
}

// depth is that of a label, from inside of another: doubled loops on the way count twice.
func (f *function) depth(from, to int32) int {
	a, b := &f.labels[from], &f.labels[to]
	return int(a.depth - b.depth + a.doubles - b.doubles)
}

func (f *function) writeBranch(depth int) { f.out = appendU32(append(f.out, opBr), depth) }

// writeTargets writes a branch, or a table of them, with the new depths.
func (f *function) writeTargets(e *event, code []byte) {
	if f.labels[e.n].doubles == 0 {
		f.out = append(f.out, code...)
		return
	}
	f.op(code[0])
	targets := 1
	if r := (reader{b: code, pos: 1}); code[0] == opBrTable {
		targets += int(r.u32())
		f.out = appendU32(f.out, targets-1)
	}
	for _, to := range f.targets[e.label:][:targets] {
		f.out = appendU32(f.out, f.depth(e.n, to))
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
	f.charge(func() {
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
func (f *function) charge(cost func()) {
	f.fuel()
	cost()
	f.op(opI64Sub)
	if f.local {
		f.variable(opLocalSet, localFuel)
	} else {
		f.global(opGlobalSet, left)
	}
}

// settle takes from the fuel what is owed, but for what stays owed.
func (f *function) settle(owed, stays int32) {
	if owed != unreached && owed != stays {
		f.charge(func() { f.constant(int64(owed - stays)) })
	}
}

func (f *function) fuel() {
	if f.local {
		f.variable(opLocalGet, localFuel)
	} else {
		f.global(opGlobalGet, left)
	}
}

// look asks for more if the fuel is below zero. That is the else part, because wazero has the values in registers behind an if that
// it had there at the end of the first part.
func (f *function) look() {
	f.fuel()
	f.constant(0)
	f.out = append(f.out, opI64GeS, opIf, typeEmpty, opElse)
	f.spill(0)
	f.op(opCall)
	f.out = appendU32(f.out, len(f.m.funcs))
	f.reload()
	f.op(opEnd)
}

// spill makes Left true before someone else looks at it, with what is owed taken, and reload follows what they did to it.
func (f *function) spill(owed int32) {
	if !f.local {
		f.settle(owed, 0)
		return
	}
	f.variable(opLocalGet, localFuel)
	if owed != 0 {
		f.constant(int64(owed))
		f.op(opI64Sub)
	}
	f.global(opGlobalSet, left)
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
