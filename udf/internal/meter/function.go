package meter

import "math"

// function is the rewriting of one function: plan reads its body and finds what must be written where, write does it.
type function struct {
	m   *rewriter
	r   *reader
	out []byte

	frames   []frame
	segments []segment
	events   []event
	seg      int  // the segment that is being read
	dead     bool // what is being read can't be reached

	params  int
	locals  int // parameters and locals of the function itself
	results []byte
	// local says that the fuel is kept in a local: worth it in functions with a loop (2026-11: a Go guest ran 2.0 times as long as
	// unmetered with all its fuel in the global, 1.35 times with locals, and 1.39 times with locals in every function).
	local   bool
	operand bool // locals for the operands of bulk instructions are needed
	// limits are above the numbers in each short form.
	limits [shortForms]byte
}

// segment is instructions that run together or not at all, and are paid for before the first.
type segment struct {
	cost int
	// check: it begins the function or a loop, and so runs again and again; the fuel is looked at.
	check bool
}

// frame is a block, loop or if that is open, or the function itself.
type frame struct {
	op   byte
	dead bool // it was unreachable when it began
	seg  int  // that was read when it began
	// outermost is the index of the outermost frame that a branch inside goes to.
	outermost int
}

// event is something to be written.
type event struct {
	at, end int // what it replaces or follows in the body
	kind    eventKind
	n       int // segment, depth, or sub-opcode
}

type eventKind uint8

const (
	eventCharge eventKind = iota
	eventCall
	eventReturn
	eventBulk
	eventGrow
)

func (f *function) rewrite(m *rewriter, r *reader, s signature) {
	*f = function{m: m, r: r, out: f.out[:0], frames: f.frames[:0], segments: f.segments[:0], events: f.events[:0],
		params: s.params, results: s.results}
	f.declarations()
	start := r.pos
	f.plan()
	if r.err != nil {
		return
	}
	f.write(start)
}

// declarations reads the locals.
func (f *function) declarations() {
	total := uint64(f.params)
	for n := f.r.u32(); n > 0 && f.r.err == nil; n-- {
		total += uint64(f.r.u32())
		f.r.byte()
	}
	if total > math.MaxInt32 {
		f.r.fail(refuse("it has %d locals", total))
	}
	f.locals = int(total)
	f.limits = [...]byte{shortNumber: 0x80, shortLocal: byte(min(f.locals, 0x80)), shortGlobal: byte(min(f.m.globals, 0x80)), shortForms - 1: 0}
}

// plan reads the instructions.
func (f *function) plan() {
	f.frames = append(f.frames, frame{})
	f.begin(true)
	for len(f.frames) > 0 && f.r.err == nil {
		f.stretch()
		f.instruction()
	}
	if f.r.err == nil && f.r.pos != len(f.r.b) {
		f.r.fail(Error("it has code behind its end"))
	}
}

// begin starts a segment here.
func (f *function) begin(check bool) {
	f.segments = append(f.segments, segment{check: check})
	f.seg = len(f.segments) - 1
	f.event(f.r.pos, eventCharge, f.seg)
}

func (f *function) event(at int, kind eventKind, n int) {
	if !f.dead {
		f.events = append(f.events, event{at: at, end: f.r.pos, kind: kind, n: n})
	}
}

// stretch reads instructions of which nothing but the cost matters here, as long as they come in their usual short forms.
func (f *function) stretch() {
	b, at, cost := f.r.b, f.r.pos, 0
reading:
	for at+2 < len(b) {
		switch form := shortFormOf[b[at]]; form {
		case notShort:
			break reading
		case shortBare:
			at++
		case shortAccess:
			if b[at+1]|b[at+2] >= 0x80 {
				break reading
			}
			at += 3
		default:
			if b[at+1] >= f.limits[form] {
				break reading
			}
			at += 2
		}
		cost++
	}
	f.r.pos = at
	if !f.dead {
		f.segments[f.seg].cost += cost
	}
}

func (f *function) instruction() {
	r := f.r
	at := r.pos
	op := r.byte()
	if !f.dead && !free(op) {
		f.segments[f.seg].cost++
	}
	switch immediates[op] {
	case special:
		f.special(at, op)
	default:
		f.plain(immediates[op], op, -1)
	}
	if op == opUnreachable {
		f.dead = true
	}
}

// free instructions only structure others; the compiler makes nothing of them.
func free(op byte) bool {
	switch op {
	case opNop, opBlock, opLoop, opElse, opEnd:
		return true
	}
	return false
}

// plain skips what follows an opcode that means nothing to metering.
func (f *function) plain(i immediate, op byte, sub int) {
	r := f.r
	switch i {
	case none:
	case one:
		r.byte()
	case two:
		r.bytes(2)
	case sixteen:
		r.bytes(16)
	case index:
		r.u32()
	case indexes:
		r.u32()
		r.u32()
	case memory:
		r.u32()
		r.u32()
	case lane:
		r.u32()
		r.u32()
		r.byte()
	case signed32:
		r.signed(5)
	case signed64:
		r.signed(10)
	case four:
		r.bytes(4)
	case eight:
		r.bytes(8)
	default:
		if sub >= 0 {
			r.fail(refuse("it has the instruction %#x %d, which is not known here", op, sub))
		} else {
			r.fail(refuse("it has the instruction %#x,%s which is not known here", op, feature(op)))
		}
	}
}

func (f *function) special(at int, op byte) {
	r := f.r
	switch op {
	case opBlock, opLoop, opIf:
		f.open(op)
	case opElse:
		f.otherwise()
	case opEnd:
		f.close()
	case opBr, opBrIf, opBrTable:
		f.branch(op)
	case opReturn:
		f.event(at, eventReturn, len(f.frames)-1)
		f.escape(0)
		f.dead = true
	case opCall:
		r.below(uint32(len(f.m.funcs)), "function")
		f.event(at, eventCall, 0)
	case opCallIndirect:
		r.below(uint32(len(f.m.types)), "type")
		r.u32()
		f.event(at, eventCall, 0)
	case opSelectTyped:
		r.bytes(r.u32())
	case opLocalGet, opLocalSet, opLocalTee:
		r.below(uint32(f.locals), "local")
	case opGlobalGet, opGlobalSet:
		r.below(f.m.globals, "global")
	case opMemoryGrow:
		r.byte()
		f.bulk(at, eventGrow, opMemoryGrow)
	case opRefNull:
		f.m.refType(r)
	case opRefFunc:
		r.below(uint32(len(f.m.funcs)), "function")
	case opBulk:
		f.prefixed(at)
	case opVector:
		f.vector()
	}
}

func (f *function) bulk(at int, kind eventKind, n int) {
	f.operand = true
	f.event(at, kind, n)
}

func (f *function) prefixed(at int) {
	r := f.r
	sub := r.u32()
	if sub > subTableFill {
		r.fail(refuse("it has the instruction 0xfc %d, which is not known here", sub))
		return
	}
	if i := bulkImmediates[sub]; i != special {
		f.plain(i, opBulk, int(sub))
		return
	}
	r.u32()
	switch sub {
	case subMemoryInit, subMemoryCopy, subTableInit, subTableCopy:
		r.u32()
	}
	if sub == subTableGrow {
		f.bulk(at, eventGrow, subTableGrow)
	} else {
		f.bulk(at, eventBulk, int(sub))
	}
}

// vector reads the number behind the prefix. The compiler takes one byte for it whatever that is, and then, of numbers above 127,
// the rest for a nop: so it has to be in its shortest form.
func (f *function) vector() {
	at := f.r.pos
	sub := f.r.u32()
	if f.r.err == nil && (sub > 255 || f.r.pos-at != 1+int(sub>>7)) {
		f.r.fail(refuse("it has the instruction 0xfd %d, which is not known here", sub))
		return
	}
	f.plain(vectorImmediates[sub], opVector, int(sub))
}

func (f *function) open(op byte) {
	r := f.r
	if t := r.signed(5); t >= 0 {
		if t >= int64(len(f.m.types)) {
			r.fail(refuse("it uses type %d of %d", t, len(f.m.types)))
		}
	}
	f.frames = append(f.frames, frame{op: op, dead: f.dead, seg: f.seg, outermost: len(f.frames)})
	if !f.dead && op != opBlock {
		f.begin(op == opLoop)
		f.local = f.local || op == opLoop
	}
}

func (f *function) otherwise() {
	top := &f.frames[len(f.frames)-1]
	if top.op != opIf {
		f.r.fail(Error("it has an else without an if"))
		return
	}
	top.op = opElse
	f.dead = top.dead
	f.seg = top.seg
	if !f.dead {
		f.begin(false)
	}
}

// close ends a frame. What follows is paid for with what was before the frame, unless a branch may have gone past it.
func (f *function) close() {
	i := len(f.frames) - 1
	top := f.frames[i]
	f.frames = f.frames[:i]
	if i == 0 {
		return
	}
	f.dead, f.seg = top.dead, top.seg
	if top.outermost < i {
		f.frames[i-1].outermost = min(f.frames[i-1].outermost, top.outermost)
		if !f.dead {
			f.begin(false)
		}
	}
}

func (f *function) branch(op byte) {
	r := f.r
	targets := uint32(1)
	if op == opBrTable {
		targets += r.u32()
	}
	for ; targets > 0 && r.err == nil; targets-- {
		depth := r.u32()
		if r.err == nil && int64(depth) >= int64(len(f.frames)) {
			r.fail(refuse("it branches out of %d blocks of %d", depth, len(f.frames)))
			return
		}
		f.escape(len(f.frames) - 1 - int(depth))
	}
	if op != opBrIf {
		f.dead = true
	} else if !f.dead {
		f.begin(false)
	}
}

// escape notes a branch to the end of a frame, or to its beginning if it is a loop.
func (f *function) escape(target int) {
	if !f.dead {
		top := &f.frames[len(f.frames)-1]
		top.outermost = min(top.outermost, target)
	}
}

// feature names what an instruction belongs to that modules may not use, so that their authors know which switch of
// their compiler to look for.
func feature(op byte) string {
	switch {
	case op == 0x12 || op == 0x13:
		return " of the feature tail calls,"
	case op >= 0x06 && op <= 0x0a || op == 0x18 || op == 0x19 || op == 0x1f:
		return " of the feature exceptions,"
	case op == 0x14 || op == 0x15 || op == 0xd3 || op == 0xd4 || op == 0xfb:
		return " of the feature garbage collection,"
	case op == 0xfe:
		return " of the feature threads,"
	}
	return ""
}
