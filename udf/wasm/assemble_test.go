package wasm

import (
	"encoding/binary"
)

// guest is a module in the making: enough of an assembler for modules that are wrong in one way.
type guest struct {
	imports  []guestImport
	funcs    []guestFunc
	manifest string // at address 16
	memory   []byte // the memory section's body; nil: one page
	tables   []byte // the table section's body; nil: none
	start    bool   // the first function is the start function
	unshown  bool   // the memory is not exported
}

type guestImport struct {
	module, name string
	params       string // one letter a parameter: i is i32, l is i64
	results      string
}

type guestFunc struct {
	name            string
	params, results string
	locals          []byte // the vector of locals; nil: none
	body            []byte // without its end
}

const manifestAt = 16

func i32Const(v int32) []byte { return append([]byte{0x41}, sleb(int64(v))...) }
func i64Const(v int64) []byte { return append([]byte{0x42}, sleb(v)...) }

func sleb(v int64) (b []byte) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func vector(items ...[]byte) []byte {
	b := uleb(len(items))
	for _, item := range items {
		b = append(b, item...)
	}
	return b
}

func text(s string) []byte { return append(uleb(len(s)), s...) }

func valueTypes(letters string) []byte {
	b := uleb(len(letters))
	for _, l := range letters {
		b = append(b, map[rune]byte{'i': 0x7f, 'l': 0x7e}[l])
	}
	return b
}

// plainGuest is a correct guest with one pure function that returns nothing.
func plainGuest() *guest {
	manifest := "locus 1\nfunction f pure raw\n"
	return &guest{
		manifest: manifest,
		funcs: []guestFunc{
			{name: "locus_abi_version", results: "i", body: i32Const(1)},
			{name: "locus_describe", results: "l", body: i64Const(manifestAt<<32 | int64(len(manifest)))},
			{name: "locus_alloc", params: "i", results: "i", body: i32Const(1024)},
			{name: "locus_call", params: "iii", results: "l", body: i64Const(0)},
		},
	}
}

// change edits the function of that name.
func (g *guest) change(name string, f func(*guestFunc)) *guest {
	for i := range g.funcs {
		if g.funcs[i].name == name {
			f(&g.funcs[i])
		}
	}
	return g
}

// without drops the function of that name.
func (g *guest) without(name string) *guest {
	return g.change(name, func(f *guestFunc) { f.name = "unused" })
}

func (g *guest) describe(manifest string) *guest {
	g.manifest = manifest
	return g.change("locus_describe", func(f *guestFunc) { f.body = i64Const(manifestAt<<32 | int64(len(manifest))) })
}

func (g *guest) bytes() []byte {
	var types, imports, funcs, exports, codes [][]byte
	kind := func(params, results string) []byte {
		types = append(types, append(append([]byte{0x60}, valueTypes(params)...), valueTypes(results)...))
		return uleb(len(types) - 1)
	}
	for _, i := range g.imports {
		imports = append(imports, append(append(append(text(i.module), text(i.name)...), 0), kind(i.params, i.results)...))
	}
	for i, f := range g.funcs {
		funcs = append(funcs, kind(f.params, f.results))
		exports = append(exports, append(append(text(f.name), 0), uleb(len(g.imports)+i)...))
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		code := append(append(append([]byte{}, locals...), f.body...), 0x0b)
		codes = append(codes, append(uleb(len(code)), code...))
	}
	if !g.unshown {
		exports = append(exports, append(text("memory"), 2, 0))
	}
	memory := g.memory
	if memory == nil {
		memory = []byte{1, 0, 1}
	}
	b := append([]byte{}, preamble...)
	section := func(id byte, body []byte) {
		b = append(append(append(b, id), uleb(len(body))...), body...)
	}
	section(1, vector(types...))
	if len(imports) > 0 {
		section(2, vector(imports...))
	}
	section(3, vector(funcs...))
	if g.tables != nil {
		section(4, g.tables)
	}
	section(5, memory)
	section(7, vector(exports...))
	if g.start {
		section(8, []byte{0})
	}
	section(10, vector(codes...))
	data := append(append([]byte{0}, i32Const(manifestAt)...), 0x0b)
	section(11, vector(append(data, text(g.manifest)...)))
	return b
}

// result is what an entry returns for n bytes at ptr.
func result(ptr, n uint32) []byte { return i64Const(int64(uint64(ptr)<<32 | uint64(n))) }
