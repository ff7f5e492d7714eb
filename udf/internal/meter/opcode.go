package meter

// Opcodes that the rewriter looks at or writes. The numbers are those of the WebAssembly specification 2.0,
// chapter 5.4.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32Ne        = 0x47
	opI64LtS       = 0x53
	opI64Eqz       = 0x50
	opI64LtU       = 0x54
	opI64GeS       = 0x59
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opBulk         = 0xfc // and saturating truncation
	opVector       = 0xfd

	subMemoryInit = 8
	subMemoryCopy = 10
	subMemoryFill = 11
	subTableInit  = 12
	subTableCopy  = 14
	subTableGrow  = 15
	subTableFill  = 17

	typeI32    = 0x7f
	typeI64    = 0x7e
	typeF32    = 0x7d
	typeF64    = 0x7c
	typeV128   = 0x7b
	typeEmpty  = 0x40
	refFunc    = 0x70
	refExtern  = 0x6f
	formFunc   = 0x60
	kindGlobal = 3
)

// immediate is what follows an opcode.
type immediate uint8

const (
	unknown  immediate = iota // no such instruction
	none                      // nothing
	one                       // one byte that the compiler checks
	two                       // two of them
	sixteen                   // 16 bytes
	index                     // an index that the compiler checks
	indexes                   // two of them
	memory                    // alignment and offset
	lane                      // alignment, offset and one byte
	signed32                  // a signed number of at most 5 bytes
	signed64                  // a signed number of at most 10 bytes
	four                      // 4 bytes
	eight                     // 8 bytes
	special                   // the rewriter looks at it: structure, and every index of what it appends to
)

// immediates is indexed by opcode, bulkImmediates and vectorImmediates by what follows their prefix.
var (
	immediates       = table(opcodes)
	bulkImmediates   = table(bulkOpcodes)
	vectorImmediates = table(vectorOpcodes)
)

// shortForm is the usual form of an instruction that means nothing to metering but its cost: numbers below 128, in one byte.
type shortForm uint8

const (
	notShort    shortForm = iota // it may mean more, or have no such form
	shortNumber                  // one number that the compiler checks
	shortLocal
	shortGlobal
	shortBare   // nothing follows
	shortAccess // alignment and offset
	shortForms  // how many there are
)

// shortFormOf is indexed by opcode.
var shortFormOf = func() (t [256]shortForm) {
	byImmediate := map[immediate]shortForm{
		none: shortBare, one: shortNumber, index: shortNumber, signed32: shortNumber, signed64: shortNumber, memory: shortAccess,
	}
	for op, i := range immediates {
		t[op] = byImmediate[i]
	}
	t[opLocalGet], t[opLocalSet], t[opLocalTee] = shortLocal, shortLocal, shortLocal
	t[opGlobalGet], t[opGlobalSet] = shortGlobal, shortGlobal
	t[opUnreachable], t[opNop] = notShort, notShort
	return t
}()

// span is the opcodes first to last.
type span struct {
	first, last int
	immediate
}

var opcodes = []span{
	{0x00, 0x01, none},    // unreachable, nop
	{0x02, 0x05, special}, // block, loop, if, else
	{0x0b, 0x11, special}, // end, branches, return, calls
	{0x1a, 0x1b, none},    // drop, select
	{0x1c, 0x1c, special}, // select with types
	{0x20, 0x24, special}, // locals and globals
	{0x25, 0x26, index},   // table.get, table.set
	{0x28, 0x3e, memory},  // loads and stores
	{0x3f, 0x3f, one},     // memory.size
	{0x40, 0x40, special}, // memory.grow
	{0x41, 0x41, signed32},
	{0x42, 0x42, signed64},
	{0x43, 0x43, four},
	{0x44, 0x44, eight},
	{0x45, 0xc4, none},    // arithmetic and sign extension
	{0xd0, 0xd0, special}, // ref.null
	{0xd1, 0xd1, none},    // ref.is_null
	{0xd2, 0xd2, special}, // ref.func
	{0xfc, 0xfd, special}, // prefixes
}

var bulkOpcodes = []span{
	{0, 7, none},      // saturating truncation
	{8, 8, special},   // memory.init
	{9, 9, index},     // data.drop
	{10, 12, special}, // memory.copy, memory.fill, table.init
	{13, 13, index},   // elem.drop
	{14, 15, special}, // table.copy, table.grow
	{16, 16, index},   // table.size
	{17, 17, special}, // table.fill
}

var vectorOpcodes = []span{
	{0, 11, memory},   // loads and stores
	{12, 13, sixteen}, // v128.const, i8x16.shuffle
	{14, 20, none},    // swizzle, splats
	{21, 34, one},     // lanes
	{35, 83, none},
	{84, 91, lane},   // loads and stores of lanes
	{92, 93, memory}, // load32_zero, load64_zero
	{94, 255, none},  // the compiler knows which of them exist
}

func table(spans []span) (t [256]immediate) {
	for _, s := range spans {
		for op := s.first; op <= s.last; op++ {
			t[op] = s.immediate
		}
	}
	return t
}
