package meter

import "slices"

// sections rewrites all sections, and adds those that are missing at their places.
func (m *rewriter) sections() error {
	last := 0
	for m.r.more() {
		id := m.r.byte()
		body := reader{b: m.r.bytes(m.r.u32())}
		if m.r.err != nil {
			return m.r.err
		}
		if id == sectionCustom {
			continue
		}
		if int(id) >= len(order) || order[id] <= last {
			return refuse("it has a section with id %d where none belongs", id)
		}
		m.missing(last, order[id])
		last = order[id]
		m.write(id, &body)
		if body.err == nil && body.pos != len(body.b) {
			return refuse("its section with id %d has %d bytes too many", id, len(body.b)-body.pos)
		}
		if body.err != nil {
			return refuse("its section with id %d: %v", id, body.err)
		}
	}
	m.missing(last, len(order))
	return m.r.err
}

// missing makes the sections that the rewriter adds to, if the module has none between the places after and before.
func (m *rewriter) missing(after, before int) {
	for _, id := range []byte{sectionType, sectionFunction, sectionGlobal, sectionExport, sectionCode} {
		if p := order[id]; after < p && p < before {
			m.write(id, &reader{b: []byte{0}})
		}
	}
}

// write writes a section. Its length, which stands in front, is known at its end: there is room for the longest, and what is too much
// of that is taken away again.
func (m *rewriter) write(id byte, r *reader) {
	m.out = append(m.out, id)
	at := len(m.out)
	m.out = append(m.out, make([]byte, maxLenU32)...)
	m.section(id, r)
	body := m.out[at+maxLenU32:]
	head := appendU32(m.out[:at], len(body))
	m.out = append(head, body...)
}

// section writes one section's body.
func (m *rewriter) section(id byte, r *reader) {
	switch id {
	case sectionType:
		m.typeSection(r)
	case sectionImport:
		m.importSection(r)
	case sectionFunction:
		m.functionSection(r)
	case sectionTable:
		m.copied(r, func() { m.refType(r); limits(r) })
	case sectionMemory:
		m.copied(r, func() { m.memory = true; limits(r) })
	case sectionGlobal:
		m.globalSection(r)
	case sectionExport:
		m.exportSection(r)
	case sectionStart:
		r.below(uint32(len(m.funcs)), "function")
		m.out = append(m.out, r.b[:r.pos]...)
	case sectionElement:
		m.elementSection(r)
	case sectionDataCount:
		r.u32()
		m.out = append(m.out, r.b[:r.pos]...)
	case sectionCode:
		m.codeSection(r)
	case sectionData:
		m.copied(r, func() { m.dataSegment(r) })
	}
}

// Bounds on what a module can declare in a few bytes. The compiler allocates for as many items as a section says it has before it
// looks for them, and about 200 bytes for a type.
const (
	maxTypes = 1 << 16
	maxItems = 1 << 20
)

// count reads how many items follow.
func (m *rewriter) count(r *reader, limit uint32) uint32 {
	n := r.u32()
	if r.err == nil && n > limit {
		r.fail(refuse("it has %d items, more than the limit of %d", n, limit))
	}
	return n
}

// vector writes how many items there are, then the items as read by each, which the caller follows with its own.
func (m *rewriter) vector(r *reader, added func(n uint32) int, each func(i uint32)) {
	n := m.count(r, maxItems)
	m.out = appendU32(m.out, int(n)+added(n))
	from := r.pos
	for i := uint32(0); i < n && r.err == nil; i++ {
		each(i)
	}
	m.out = append(m.out, r.b[from:r.pos]...)
}

// copied is a vector that stays as it is.
func (m *rewriter) copied(r *reader, each func()) {
	m.vector(r, func(uint32) int { return 0 }, func(uint32) { each() })
}

// limits reads the size of a table or memory.
func limits(r *reader) {
	switch flag := r.byte(); flag {
	case 0:
		r.u32()
	case 1:
		r.u32()
		r.u32()
	default:
		r.fail(refuse("it has limits of the form %#x", flag))
	}
}

func (m *rewriter) dataSegment(r *reader) {
	const passive, explicit = 1, 2
	switch form := r.u32(); form {
	case 0:
		m.constant(r)
	case passive:
	case explicit:
		r.u32() // memory
		m.constant(r)
	default:
		r.fail(refuse("it has a data segment of form %d", form))
	}
	r.bytes(r.u32())
}

// typeSection reads the types. It adds, for each list of several results that a function of the module may have, the type of a
// block with them, and then that of refill.
func (m *rewriter) typeSection(r *reader) {
	n := m.count(r, maxTypes)
	from := r.pos
	m.results = make(map[string]uint32)
	var added [][]byte
	for i := uint32(0); i < n && r.err == nil; i++ {
		if form := r.byte(); form != formFunc && r.err == nil {
			r.fail(refuse("type %d is not of a function", i))
		}
		params := r.valueTypes()
		results := r.valueTypes()
		m.types = append(m.types, signature{params: len(params), results: results})
		if _, have := m.results[string(results)]; len(results) > 1 && !have {
			m.results[string(results)] = n + uint32(len(added))
			added = append(added, results)
		}
	}
	m.refillType = n + uint32(len(added))
	m.out = appendU32(m.out, int(n)+len(added)+1)
	m.out = append(m.out, r.b[from:r.pos]...)
	for _, results := range added {
		m.out = append(m.out, formFunc, 0)
		m.out = appendU32(m.out, len(results))
		m.out = append(m.out, results...)
	}
	m.out = append(m.out, formFunc, 0, 0)
}

// importSection counts the functions and refuses what would move the indices of what is added, or make metering incomplete.
func (m *rewriter) importSection(r *reader) {
	for n := m.count(r, maxItems); n > 0 && r.err == nil; n-- {
		module, name := r.bytes(r.u32()), r.bytes(r.u32())
		if kind := r.byte(); kind != 0 && r.err == nil {
			r.fail(refuse("it imports %q of %q, which is not a function", name, module))
		}
		m.funcs = append(m.funcs, r.below(uint32(len(m.types)), "type"))
	}
	m.imports = len(m.funcs)
	m.out = append(m.out, r.b[:r.pos]...)
}

// functionSection adds refill at the end, so that no index changes.
func (m *rewriter) functionSection(r *reader) {
	m.vector(r, func(uint32) int { return 1 }, func(uint32) {
		m.funcs = append(m.funcs, r.below(uint32(len(m.types)), "type"))
	})
	m.out = appendU32(m.out, int(m.refillType))
}

// globalSection adds Left, Rest and Stop.
func (m *rewriter) globalSection(r *reader) {
	m.vector(r, func(n uint32) int { m.globals = n; return 3 }, func(uint32) {
		r.valueType()
		r.byte() // mutable or not
		m.constant(r)
	})
	m.out = append(m.out, typeI64, 1, opI64Const, 0, opEnd)
	m.out = append(m.out, typeI64, 1, opI64Const, 0, opEnd)
	m.out = append(m.out, typeI32, 1, opI32Const, 0, opEnd)
}

func (m *rewriter) exportSection(r *reader) {
	m.vector(r, func(uint32) int { return 3 }, func(uint32) {
		name, kind := r.bytes(r.u32()), r.byte()
		switch kind {
		case 0:
			r.below(uint32(len(m.funcs)), "function")
		case kindGlobal:
			r.below(m.globals, "global")
		default:
			r.u32()
		}
		if reservedName(name) {
			r.fail(refuse("it exports %q; names that begin with %s are reserved", name, reserved))
		}
	})
	for i, name := range []string{Left, Rest, Stop} {
		m.out = appendU32(m.out, len(name))
		m.out = append(append(m.out, name...), kindGlobal)
		m.out = appendU32(m.out, int(m.globals)+i)
	}
}

// elementSection looks for the index of refill, which must not be reachable.
func (m *rewriter) elementSection(r *reader) {
	m.copied(r, func() {
		const passive, explicit, expressions = 1, 2, 4
		form := r.u32()
		if form > 7 {
			r.fail(refuse("it has an element segment of form %d", form))
			return
		}
		if form&passive == 0 {
			if form&explicit != 0 {
				r.u32() // table
			}
			m.constant(r)
		}
		switch {
		case form&(passive|explicit) == 0:
		case form&expressions != 0:
			m.refType(r)
		default:
			r.byte() // kind
		}
		for n := r.u32(); n > 0 && r.err == nil; n-- {
			if form&expressions != 0 {
				m.constant(r)
			} else {
				r.below(uint32(len(m.funcs)), "function")
			}
		}
	})
}

// constant reads a constant expression.
func (m *rewriter) constant(r *reader) {
	for r.err == nil {
		switch op := r.byte(); op {
		case opEnd:
			return
		case opI32Const:
			r.signed(5)
		case opI64Const:
			r.signed(10)
		case opF32Const:
			r.bytes(4)
		case opF64Const:
			r.bytes(8)
		case opGlobalGet:
			r.below(m.globals, "global")
		case opRefNull:
			m.refType(r)
		case opRefFunc:
			r.below(uint32(len(m.funcs)), "function")
		case opVector:
			if sub := r.byte(); sub != 12 && r.err == nil {
				r.fail(refuse("it has the instruction 0xfd %#x in a constant", sub))
			}
			r.bytes(16)
		default:
			if r.err == nil {
				r.fail(refuse("it has the instruction %#x in a constant", op))
			}
		}
	}
}

func (m *rewriter) refType(r *reader) {
	if t := r.byte(); r.err == nil && !slices.Contains([]byte{refFunc, refExtern}, t) {
		r.fail(refuse("it has a reference of type %#x, which is not known here", t))
	}
}

// codeSection rewrites the functions and adds refill.
func (m *rewriter) codeSection(r *reader) {
	n := r.u32()
	if int(n) != len(m.funcs)-m.imports && r.err == nil {
		r.fail(refuse("it declares %d functions and has the code of %d", len(m.funcs)-m.imports, n))
	}
	m.out = appendU32(m.out, int(n)+1)
	for i := uint32(0); i < n && r.err == nil; i++ {
		body := reader{b: r.bytes(r.u32())}
		if r.err != nil {
			return
		}
		m.code.rewrite(m, &body, m.types[m.funcs[m.imports+int(i)]])
		if body.err != nil {
			r.fail(refuse("function %d: %v", m.imports+int(i), body.err))
			return
		}
		m.out = appendU32(m.out, len(m.code.out))
		m.out = append(m.out, m.code.out...)
	}
	refill := m.refill()
	m.out = appendU32(m.out, len(refill))
	m.out = append(m.out, refill...)
}
