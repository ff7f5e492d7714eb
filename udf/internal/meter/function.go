package meter

import "math"

// function is the rewriting of one function: plan reads its body and finds what must be written where, write does it.
type function struct {
	m   *rewriter
	r   *reader
	out []byte

	frames []int // the open labels, as indices of labels
	labels []label
	events []event
	owed   int  // what has run since fuel was last taken, the same on every path to here
	dead   bool // what is being read can't be reached

	params  int
	locals  int // parameters and locals of the function itself
	results []byte
	// local says that the fuel is kept in a local: worth it in functions with a loop (2026-11: a Go guest ran 2.0 times as long as
	// unmetered with all its fuel in the global, 1.35 times with locals, and 1.39 times with locals in every function).
	local   bool
	operand bool // locals for the operands of bulk instructions are needed
	// limits are above the numbers in each short form.
	limits [shortForms]byte
	// doubled are the open labels that are doubled loops, outermost first, while the body is written.
	doubled []int
}

// label is a block, loop or if, or the function itself: a place where branches meet.
type label struct {
	op       byte
	depth    int  // how many labels are around it
	dead     bool // it was unreachable when it began
	values   int  // how many a branch to it takes along
	branches int  // that can be reached
	table    bool // one of them is in a table
	paid     bool // nothing is owed where they meet, because one of them has no place to pay
	busy     bool // there is a call of the module's inside
	// owed is what was owed when it began, least the least that is owed on a path to where the branches meet.
	owed, least int
	// meet is what is owed where its branches meet. Who owes more pays the difference before. It is final at the label's end.
	meet int
}

// unreached stands for what is owed where nothing gets to.
const unreached = -1

// looks says that the fuel is looked at in each round of a loop.
func (l *label) looks() bool { return l.op == opLoop && l.branches > 0 }

// double says that a loop is written twice, one in the other, so that refill is called outside of the inner one: if there is a call in
// a loop, compilers store each value that the loop changes to the stack in each round. (2026-11: a loop that counts took 2.7 times as
// long with its metering as without, and 1.0 times since.)
func (l *label) double() bool { return l.looks() && !l.busy && l.values == 0 }

// late says that the fuel is looked at before the only branch to a loop, instead of at its head.
func (l *label) late() bool { return l.double() && l.branches == 1 && !l.table }

// event is something to be written.
type event struct {
	at, end int // what it replaces in the body
	kind    eventKind
	owed    int // here
	label   int // that it is about
	n       int // sub-opcode, or how many labels a branch has around it
}

type eventKind uint8

const (
	eventLoop eventKind = iota
	eventElse
	eventEnd
	eventBranch
	eventBranchIf
	eventBranchWith // br_if with values
	eventTable
	eventUnreached // a branch that can't be reached
	eventReturn
	eventCall
	eventBulk
	eventGrow
)

func (f *function) rewrite(m *rewriter, r *reader, s signature) {
	*f = function{m: m, r: r, out: f.out[:0], frames: f.frames[:0], labels: f.labels[:0], events: f.events[:0], doubled: f.doubled[:0],
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
	f.begin(label{values: len(f.results)})
	for len(f.frames) > 0 && f.r.err == nil {
		f.stretch()
		f.instruction()
	}
	if f.r.err == nil && f.r.pos != len(f.r.b) {
		f.r.fail(Error("it has code behind its end"))
	}
}

// begin opens a label.
func (f *function) begin(l label) {
	l.depth, l.dead, l.owed, l.least = len(f.frames), f.dead, f.owed, math.MaxInt
	f.frames = append(f.frames, len(f.labels))
	f.labels = append(f.labels, l)
}

// event notes what has been read from a place on, which is about a label. What is written for it pays what is owed here.
func (f *function) event(at int, kind eventKind, label, n int) {
	f.events = append(f.events, event{at: at, end: f.r.pos, kind: kind, owed: f.debt(), label: label, n: n})
}

// debt is what is owed here.
func (f *function) debt() int {
	if f.dead {
		return unreached
	}
	return f.owed
}

// join notes that a path gets from here to where the branches of a label meet.
func (l *label) join(owed int) {
	if owed != unreached {
		l.least = min(l.least, owed)
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
	f.owed += cost
}

func (f *function) instruction() {
	r := f.r
	at := r.pos
	op := r.byte()
	if !free(op) {
		f.owed++
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
		f.open(at, op)
	case opElse:
		f.otherwise(at)
	case opEnd:
		f.close(at)
	case opBr, opBrIf, opBrTable:
		f.branch(at, op)
	case opReturn:
		f.event(at, eventReturn, 0, len(f.frames))
		f.dead = true
	case opCall:
		r.below(uint32(len(f.m.funcs)), "function")
		f.call(at, eventCall, 0)
	case opCallIndirect:
		r.below(uint32(len(f.m.types)), "type")
		r.u32()
		f.call(at, eventCall, 0)
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

// call is a place where what is owed is paid, because others look at the fuel or more of it is taken.
func (f *function) call(at int, kind eventKind, n int) {
	if f.dead {
		return
	}
	f.event(at, kind, 0, n)
	f.owed = 0
	f.labels[f.frames[len(f.frames)-1]].busy = true
}

func (f *function) bulk(at int, kind eventKind, n int) {
	f.operand = f.operand || !f.dead
	f.call(at, kind, n)
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

func (f *function) open(at int, op byte) {
	params, results := 0, 0
	switch t := f.r.signed(5); {
	case t >= int64(len(f.m.types)):
		f.r.fail(refuse("it uses type %d of %d", t, len(f.m.types)))
	case t >= 0:
		params, results = f.m.types[t].params, len(f.m.types[t].results)
	case byte(t&0x7f) != typeEmpty:
		results = 1
	}
	l := label{op: op, values: results}
	if op == opLoop {
		l.values = params
		f.event(at, eventLoop, len(f.labels), 0)
		f.owed = 0
		f.local = f.local || !f.dead
	}
	f.begin(l)
}

func (f *function) otherwise(at int) {
	l := &f.labels[f.frames[len(f.frames)-1]]
	if l.op != opIf {
		f.r.fail(Error("it has an else without an if"))
		return
	}
	l.op = opElse
	l.join(f.debt())
	f.event(at, eventElse, f.frames[len(f.frames)-1], 0)
	f.dead, f.owed = l.dead, l.owed
}

// close ends a label.
func (f *function) close(at int) {
	last := len(f.frames) - 1
	l := &f.labels[f.frames[last]]
	f.event(at, eventEnd, f.frames[last], 0)
	f.frames = f.frames[:last]
	if last == 0 {
		return
	}
	if l.op == opLoop {
		f.dead = f.dead || l.dead
	} else {
		l.join(f.debt())
		f.dead = l.dead || l.least == math.MaxInt && l.op != opIf
		switch {
		case l.paid: // it is 0
		case l.op == opIf:
			l.meet = l.owed // without an else there is no place to pay
		case !f.dead:
			l.meet = l.least
		}
		f.owed = l.meet
	}
	around := &f.labels[f.frames[last-1]]
	around.busy = around.busy || l.busy
}

func (f *function) branch(at int, op byte) {
	r := f.r
	targets := uint32(1)
	if op == opBrTable {
		targets += r.u32()
	}
	to := 0
	for ; targets > 0 && r.err == nil; targets-- {
		depth := r.u32()
		if r.err == nil && int64(depth) >= int64(len(f.frames)) {
			r.fail(refuse("it branches out of %d blocks of %d", depth, len(f.frames)))
			return
		}
		to = f.frames[len(f.frames)-1-int(depth)]
		if l := &f.labels[to]; !f.dead {
			l.branches++
			l.table = l.table || op == opBrTable
			l.paid = l.paid || op == opBrTable || op == opBrIf && l.values > 0
			l.join(f.owed)
		}
	}
	kind := eventUnreached
	switch {
	case f.dead:
	case op == opBr:
		kind = eventBranch
	case op == opBrTable:
		kind = eventTable
	case f.labels[to].values > 0:
		kind = eventBranchWith
	default:
		kind = eventBranchIf
	}
	f.event(at, kind, to, len(f.frames))
	if kind == eventBranchWith {
		f.owed = 0
	}
	f.dead = f.dead || op != opBrIf
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
