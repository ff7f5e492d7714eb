package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Section ids and other numbers of the WebAssembly binary format, chapter 5 of the specification.
const (
	sectionImport = 2
	sectionTable  = 4
	sectionMemory = 5
	sectionStart  = 8

	externFunc    = 0
	refFunc       = 0x70
	refExtern     = 0x6f
	limitsMin     = 0
	limitsMinMax  = 1
	preambleBytes = 8
)

var preamble = []byte("\x00asm\x01\x00\x00\x00")

// moduleError says what is wrong with a module's bytes.
type moduleError string

func (e moduleError) Error() string { return string(e) }

func badModule(format string, args ...any) error { return moduleError(fmt.Sprintf(format, args...)) }

// restrict reads the parts of a module that could make the compiler or an instance take more than is
// allowed, and that wazero does not bound: imports, tables, memory, the start section, locals. It returns
// the module with a maximum on every table, so that table.grow can't allocate. It does not validate the
// rest: the compiler does.
func restrict(module []byte, memoryLimitPages uint32) ([]byte, error) {
	if !bytes.HasPrefix(module, preamble) {
		return nil, moduleError("it is not a WebAssembly module of version 1")
	}
	out := append(make([]byte, 0, len(module)+64), preamble...)
	r := &reader{b: module[preambleBytes:]}
	for n := 0; len(r.b) > 0 && r.err == nil; n++ {
		if n == maxSections {
			return nil, badModule("it has more than %d sections", maxSections)
		}
		id := r.byte()
		body := r.bytes(r.u32())
		if r.err != nil {
			return nil, badModule("section %d (id %d) is cut off", n, id)
		}
		body, err := restrictSection(id, body, memoryLimitPages)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	return out, nil
}

func restrictSection(id byte, body []byte, memoryLimitPages uint32) ([]byte, error) {
	r := &reader{b: body}
	var err error
	switch id {
	case sectionImport:
		err = checkImports(r)
	case sectionTable:
		body, err = boundTables(r)
	case sectionMemory:
		err = checkMemory(r, memoryLimitPages)
	case sectionStart:
		err = moduleError("it has a start section; functions may do their work in calls only (export _initialize instead)")
	default:
		return body, nil
	}
	if err == nil && r.err != nil {
		err = badModule("the section with id %d is damaged", id)
	}
	return body, err
}

// checkImports allows the functions of imports.go.
func checkImports(r *reader) error {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		module, name, kind := string(r.bytes(r.u32())), string(r.bytes(r.u32())), r.byte()
		if r.err != nil {
			return nil
		}
		if kind != externFunc {
			return badModule("it imports %q of %q, which is not a function; nothing else can be imported", name, module)
		}
		r.u32() // type
		if !importAllowed(module, name) {
			return badModule("it imports the function %q of %q, which a guest is not given", name, module)
		}
	}
	return nil
}

// boundTables writes the table section again, each table with a maximum that is its minimum.
func boundTables(r *reader) ([]byte, error) {
	n := r.u32()
	out := binary.AppendUvarint(nil, uint64(n))
	total := uint64(0)
	for ; n > 0 && r.err == nil; n-- {
		kind, flag, low := r.byte(), r.byte(), r.u32()
		if r.err == nil && (kind != refFunc && kind != refExtern || flag != limitsMin && flag != limitsMinMax) {
			return nil, badModule("it has a table of a form that is not supported (type %#x, limits %#x)", kind, flag)
		}
		if flag == limitsMinMax {
			if high := r.u32(); high < low && r.err == nil {
				return nil, badModule("it has a table of at least %d and at most %d elements", low, high)
			}
		}
		if total += uint64(low); total > maxTableElements {
			return nil, badModule("its tables have %d elements, more than the limit of %d", total, maxTableElements)
		}
		out = append(out, kind, limitsMinMax)
		out = binary.AppendUvarint(out, uint64(low))
		out = binary.AppendUvarint(out, uint64(low))
	}
	return out, nil
}

func checkMemory(r *reader, limit uint32) error {
	if n := r.u32(); n > 1 {
		return badModule("it has %d memories; one is allowed", n)
	} else if n == 0 {
		return nil
	}
	flag, low := r.byte(), r.u32()
	if r.err == nil && flag != limitsMin && flag != limitsMinMax {
		return badModule("its memory is of a form that is not supported (limits %#x: shared or 64-bit)", flag)
	}
	if low > limit {
		return badModule("its memory begins with %d pages, more than the limit of %d pages (%d KiB)", low, limit, uint64(limit)*64)
	}
	if flag == limitsMinMax {
		if high := r.u32(); high > limit {
			return badModule("its memory may grow to %d pages, more than the limit of %d pages (%d KiB)", high, limit, uint64(limit)*64)
		}
	}
	return nil
}

// reader takes numbers and bytes off a slice; the first error sticks, and everything is 0 after it.
type reader struct {
	b   []byte
	err error
}

const errCutOff = moduleError("cut off")

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bytes(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.b)) {
		r.err = errCutOff
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// u32 reads an unsigned LEB128 number of at most five bytes.
func (r *reader) u32() uint32 {
	v := uint64(0)
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		} else if shift == 28 {
			r.err = errCutOff
		}
	}
	if v > 1<<32-1 {
		r.err = errCutOff
	}
	if r.err != nil {
		return 0
	}
	return uint32(v)
}
