package meter

import "math"

// function is the rewriting of one function: plan reads its body and finds what must be written where, write does it.
type function struct {
	m   *rewriter
	r   *reader
	out []byte

	frames  []int32 // the open labels
	labels  []label
	events  []event
	targets []int32 // the labels that tables and branches with values go to
	owed    int32   // what has run since fuel was last taken, the same on every path to here
	run     int32   // the most that may have run since the fuel was last looked at
	dead    bool    // what is being read can't be reached

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

// Bounds on one function.
const (
	// maxLocals is what other engines allow, too. The compiler allocates for each.
	maxLocals = 50_000
	// maxEvents bounds the memory of rewriting: 24 bytes each, and twice as much for a label.
	maxEvents = 1 << 20
)

// maxTail is how many instructions may run behind the last look when a function returns: else thousands of callers that return to
// each other would run to their ends one after the other.
const maxTail = 64

// label is a block, loop or if, or the function itself: a place where branches meet. Labels are indices of function.labels.
type label struct {
	op       byte
	dead     bool  // it was unreachable when it began
	table    bool  // a branch to it is in a table
	paid     bool  // nothing is owed where they meet, because one of them has no place to pay
	busy     bool  // there is a call of the module's inside
	depth    int32 // how many labels are around it
	parent   int32 // the one right around it
	values   int32 // how many a branch to it takes along
	branches int32 // that can be reached
	doubles  int32 // how many doubled loops are around it, with itself; known when all has been read
	// owed and run are what they were when it began; least and most are the least that is owed, and the most that has run, on a path to
	// where the branches meet.
	owed, run, least, most int32
	// meet is what is owed where its branches meet. Who owes more pays the difference before. It is final at the label's end.
	meet int32
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

// join notes that a path gets to where the branches of a label meet.
func (l *label) join(owed, run int32) {
	if owed != unreached {
		l.least, l.most = min(l.least, owed), max(l.most, run)
	}
}

// event is something to be written.
type event struct {
	at, end int32 // what it replaces in the body
	owed    int32 // here
	label   int32 // that it is about
	n       int32 // sub-opcode, or for a branch the label that it is in
	kind    eventKind
	look    bool // before a return
}

type eventKind uint8

const (
	eventLoop eventKind = iota
	eventElse
	eventEnd
	eventBranch
	eventBranchIf
	eventTargets   // br_if with values and br_table: label is the place of the first in function.targets
	eventUnreached // the same for a branch that can't be reached
	eventReturn
	eventCall
	eventBulk
	eventGrow
)

func (f *function) rewrite(m *rewriter, r *reader, s signature) {
	*f = function{m: m, r: r, out: f.out[:0], frames: f.frames[:0], labels: f.labels[:0], events: f.events[:0], targets: f.targets[:0],
		params: s.params, results: s.results}
	f.declarations()
	start := r.pos
	f.plan()
	if r.err != nil {
		return
	}
	for i := range f.labels {
		l := &f.labels[i]
		if i > 0 {
			l.doubles = f.labels[l.parent].doubles
		}
		if l.double() {
			l.doubles++
		}
	}
	f.write(start)
}

// declarations reads the locals.
func (f *function) declarations() {
	total := uint64(f.params)
	for n := f.r.u32(); n > 0 && f.r.err == nil; n-- {
		if total += uint64(f.r.u32()); total > maxLocals {
			f.r.fail(refuse("it has %d locals, more than the limit of %d", total, maxLocals))
		}
		f.r.valueType()
	}
	f.locals = int(total)
	f.limits = [...]byte{shortNumber: 0x80, shortLocal: byte(min(f.locals, 0x80)), shortGlobal: byte(min(f.m.globals, 0x80)), shortForms - 1: 0}
}

// plan reads the instructions.
func (f *function) plan() {
	f.begin(label{values: int32(len(f.results))})
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
	if len(f.frames) > 0 {
		l.parent = f.innermost()
	}
	l.depth, l.dead, l.owed, l.run, l.least = int32(len(f.frames)), f.dead, f.owed, f.run, math.MaxInt32
	f.frames = append(f.frames, int32(len(f.labels)))
	f.labels = append(f.labels, l)
	f.bounded(len(f.labels))
}

// innermost is the label that what is being read is in.
func (f *function) innermost() int32 { return f.frames[len(f.frames)-1] }

// event notes what has been read from a place on. What is written for it pays what is owed here.
func (f *function) event(at int, e event) {
	e.at, e.end, e.owed = int32(at), int32(f.r.pos), f.debt()
	f.events = append(f.events, e)
	f.bounded(len(f.events))
}

func (f *function) bounded(n int) {
	if n > maxEvents {
		f.r.fail(refuse("it has more than %d blocks, branches and calls", maxEvents))
	}
}

// debt is what is owed here.
func (f *function) debt() int32 {
	if f.dead {
		return unreached
	}
	return f.owed
}

// stretch reads instructions of which nothing but the cost matters here, as long as they come in their usual short forms.
func (f *function) stretch() {
	b, at, cost := f.r.b, f.r.pos, int32(0)
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
	f.owed, f.run = f.owed+cost, f.run+cost
}

func (f *function) instruction() {
	r := f.r
	at := r.pos
	op := r.byte()
	if !free(op) {
		f.owed, f.run = f.owed+1, f.run+1
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
		f.event(at, event{kind: eventReturn, n: f.innermost(), look: f.run > maxTail})
		f.dead = true
	case opCall:
		r.below(uint32(len(f.m.funcs)), "function")
		f.call(at, eventCall, 0)
	case opCallIndirect:
		r.below(uint32(len(f.m.types)), "type")
		r.u32()
		f.call(at, eventCall, 0)
	case opSelectTyped:
		if n := r.u32(); n != 1 && r.err == nil {
			r.fail(refuse("it has a select of %d types", n))
		}
		r.valueType()
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
	f.event(at, event{kind: kind, n: int32(n)})
	f.owed, f.run = 0, 0
	f.labels[f.innermost()].busy = true
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
	params, results := f.blockSignature()
	l := label{op: op, values: int32(results)}
	if op == opLoop {
		l.values = int32(params)
		f.event(at, event{kind: eventLoop, label: int32(len(f.labels))})
		f.owed = 0
		f.local = f.local || !f.dead
	}
	f.begin(l)
}

// blockSignature reads how many values a block takes and leaves.
func (f *function) blockSignature() (params, results int) {
	switch t := f.r.signed(5); {
	case f.r.err != nil || t == typeEmpty-0x80:
	case t >= int64(len(f.m.types)):
		f.r.fail(refuse("it uses type %d of %d", t, len(f.m.types)))
	case t >= 0:
		return f.m.types[t].params, len(f.m.types[t].results)
	case t < -0x40 || !knownType(byte(t+0x80)):
		f.r.fail(refuse("it has a block of type %d, which is not known here", t))
	default:
		return 0, 1
	}
	return 0, 0
}

func (f *function) otherwise(at int) {
	l := &f.labels[f.innermost()]
	if l.op != opIf {
		f.r.fail(Error("it has an else without an if"))
		return
	}
	l.op = opElse
	l.join(f.debt(), f.run)
	f.event(at, event{kind: eventElse, label: f.innermost()})
	f.dead, f.owed, f.run = l.dead, l.owed, l.run
}

// close ends a label.
func (f *function) close(at int) {
	last := len(f.frames) - 1
	l := &f.labels[f.frames[last]]
	f.event(at, event{kind: eventEnd, label: f.frames[last], look: last == 0 && f.run > maxTail})
	f.frames = f.frames[:last]
	if last == 0 {
		return
	}
	if l.op == opLoop {
		f.dead = f.dead || l.dead
	} else {
		l.join(f.debt(), f.run)
		f.dead = l.dead || l.least == math.MaxInt32 && l.op != opIf
		switch {
		case l.paid: // it is 0
		case l.op == opIf:
			l.meet = l.owed // without an else there is no place to pay
		case !f.dead:
			l.meet = l.least
		}
		f.owed, f.run = l.meet, max(l.run, l.most)
	}
	around := &f.labels[f.innermost()]
	around.busy = around.busy || l.busy
}

func (f *function) branch(at int, op byte) {
	r := f.r
	targets := uint32(1)
	if op == opBrTable {
		if targets += r.u32(); targets == 0 || int64(targets) > int64(len(r.b)-r.pos) {
			r.fail(errCutOff)
		}
	}
	first, values, out := int32(len(f.targets)), int32(0), false
	for ; targets > 0 && r.err == nil; targets-- {
		depth := r.u32()
		if r.err == nil && int64(depth) >= int64(len(f.frames)) {
			r.fail(refuse("it branches out of %d blocks of %d", depth, len(f.frames)))
			return
		}
		to := f.frames[len(f.frames)-1-int(depth)]
		f.targets = append(f.targets, to)
		out = out || to == 0
		if l := &f.labels[to]; !f.dead {
			values = l.values
			l.branches++
			l.table = l.table || op == opBrTable
			l.paid = l.paid || op == opBrTable || op == opBrIf && values > 0
			l.join(f.owed, f.run)
		}
	}
	if r.err != nil {
		return
	}
	e := event{label: f.targets[first], n: f.innermost(), look: out && f.run > maxTail}
	switch {
	case f.dead:
		e.kind, e.label = eventUnreached, first
	case op == opBrTable || op == opBrIf && values > 0:
		e.kind, e.label = eventTargets, first
	case op == opBr:
		e.kind = eventBranch
	default:
		e.kind = eventBranchIf
	}
	f.event(at, e)
	switch e.kind {
	case eventTargets:
		f.owed = 0
	case eventBranch, eventBranchIf:
		f.targets = f.targets[:first]
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
