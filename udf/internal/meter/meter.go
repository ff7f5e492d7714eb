package meter

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// What a rewritten module exports besides its own. The host writes them before it enters the module, and reads them after.
const (
	// Left is the fuel of the running slice, an i64. It falls below zero between a charge and the next check.
	Left = reserved + "left"
	// Rest is the fuel that the entry has beyond its slice, an i64.
	Rest = reserved + "rest"
	// Stop ends the entry at the end of its slice if it is not 0, an i32. It may be set while the module runs.
	Stop = reserved + "stop"

	reserved = "locus_meter_"
)

// Slice is how many instructions run at most before the module looks at Stop and lets Go's scheduler and garbage collector
// have their turn.
const Slice = 1 << 20

// Prices, in instructions.
const (
	// BytesPerFuel is how many bytes memory.copy, fill and init move for the price of an instruction.
	BytesPerFuel = 8
	// ElementFuel is the price of each element that table.copy, fill, init and grow touch.
	ElementFuel = 1
	// PageFuel is the price of each page that memory.grow adds.
	PageFuel = 64 << 10 / BytesPerFuel
	// FailedGrowFuel is the price of a memory.grow that answers -1.
	FailedGrowFuel = 64
)

// maxGrowth bounds a module's size after rewriting: this many times what it was, and 64 KiB.
const maxGrowth = 4

var preamble = []byte("\x00asm\x01\x00\x00\x00")

// Section ids.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
)

// order is the place of each section in a module, by id: the count of data segments stands before the code.
var order = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// Rewrite makes a module count its instructions: see the package comment. The error, an Error, says why that can't be done. What it
// returns is valid if the module was, and only then. It keeps nothing of module.
func Rewrite(module []byte) ([]byte, error) {
	m := &rewriter{r: reader{b: module}}
	if !bytes.HasPrefix(module, preamble) {
		return nil, Error("it is not a WebAssembly module of version 1")
	}
	m.r.pos = len(preamble)
	size := len(module) + len(module)/4 + 1024 // a module in Go grows by a fifth
	m.out = append(make([]byte, 0, size), preamble...)
	m.limit = maxGrowth*len(module) + 64<<10
	if err := m.sections(); err != nil {
		return nil, err
	}
	return m.out, nil
}

// rewriter holds what the sections so far say.
type rewriter struct {
	r     reader
	out   []byte
	limit int // of out, while functions are written

	types      []signature
	results    map[string]uint32 // the added types of blocks with several results, by their results
	refillType uint32
	imports    int      // imported functions
	funcs      []uint32 // the type of each function of the module, imported ones first
	memory     bool
	globals    uint32 // those of the module; Left, Rest and Stop follow

	code function // scratch
}

// signature is a function type.
type signature struct {
	params  int
	results []byte
}

func reservedName(name []byte) bool { return strings.HasPrefix(string(name), reserved) }

// maxLenU32 is how many bytes a number of 32 bits takes at most.
const maxLenU32 = 5

func appendU32(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }
