package rowcache

import (
	"encoding/binary"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/invariant"
)

// A record is a row in a ring: little endian, padded to 8 bytes, never wrapped around the ring's end.
//
//	u32 size and flags | u32 tag | u32 keyLen | u32 valueLen | u64 gen | u64 version | u64 timestamp | u64 expires | key | value
//
// size counts all of it; it is a multiple of 8, and the flags are in its three low bits. A value may have become shorter
// than the room it has.
type record []byte

const (
	align     = 8
	headerLen = 48
	// minRing is what a ring begins with.
	minRing = 4 << 10

	flagLive       = 1 // the index points here
	flagFound      = 2
	flagReferenced = 4 // read since it was written here
	flags          = align - 1
)

func recordLen(key, value int) int { return (headerLen + key + value + align - 1) / align * align }

func (r record) u32(at int) uint32 { return binary.LittleEndian.Uint32(r[at:]) }
func (r record) u64(at int) uint64 { return binary.LittleEndian.Uint64(r[at:]) }

func (r record) size() int           { return int(r.u32(0) &^ flags) }
func (r record) is(flag uint32) bool { return r.u32(0)&flag != 0 }
func (r record) tag() uint32         { return r.u32(4) }
func (r record) key() []byte         { return r[headerLen : headerLen+r.u32(8)] }
func (r record) gen() uint64         { return r.u64(16) }
func (r record) version() ids.Seq    { return ids.Seq(r.u64(24)) }

// need is the size of a record that has no room to spare.
func (r record) need() int { return recordLen(int(r.u32(8)), int(r.u32(12))) }

func (r record) set(flag uint32, on bool) {
	word := r.u32(0) &^ flag
	if on {
		word |= flag
	}
	binary.LittleEndian.PutUint32(r, word)
}

// write replaces the row; there is room for its value.
func (r record) write(gen uint64, version ids.Seq, row *Row) {
	r.set(flagFound, row.Found)
	value := row.Value
	if !row.Found {
		value = nil
	}
	binary.LittleEndian.PutUint32(r[12:], uint32(len(value)))
	binary.LittleEndian.PutUint64(r[16:], gen)
	binary.LittleEndian.PutUint64(r[24:], uint64(version))
	binary.LittleEndian.PutUint64(r[32:], uint64(row.Timestamp))
	binary.LittleEndian.PutUint64(r[40:], uint64(row.Expires))
	copy(r[headerLen+r.u32(8):], value)
}

// row is the row with its value appended to dst.
func (r record) row(dst []byte) Row {
	if !r.is(flagFound) {
		return Row{}
	}
	from := headerLen + r.u32(8)
	return Row{
		Found:     true,
		Value:     append(dst, r[from:from+r.u32(12)]...),
		Timestamp: hlc.Timestamp(r.u64(32)),
		Expires:   hlc.Timestamp(r.u64(40)),
	}
}

// ring is a queue of records in one slice. Positions rise for ever; their remainders are the offsets.
type ring struct {
	buf        []byte
	max        int
	head, tail uint64
}

// at is the record at an offset, to its last byte.
func (g *ring) at(offset int) record {
	r := record(g.buf[offset:])
	return r[:r.size()]
}

// reserve appends n bytes, if there is room for them in one piece, and returns their offset. What is left before the
// ring's end is marked by a size of 0.
func (g *ring) reserve(n int) (offset int, ok bool) {
	size := len(g.buf)
	if size == 0 {
		return 0, false
	}
	if g.head == g.tail {
		g.head, g.tail = 0, 0
	}
	offset = int(g.tail % uint64(size))
	free := size - int(g.tail-g.head)
	if rest := size - offset; rest < n {
		if rest+n > free {
			return 0, false
		}
		binary.LittleEndian.PutUint32(g.buf[offset:], 0)
		g.tail += uint64(rest)
		offset = 0
	} else if n > free {
		return 0, false
	}
	g.tail += uint64(n)
	return offset, true
}

// create writes the header of a record with an empty row.
func (g *ring) create(offset, n int, tag uint32, key []byte) record {
	r := record(g.buf[offset : offset+n])
	binary.LittleEndian.PutUint32(r, uint32(n)|flagLive)
	binary.LittleEndian.PutUint32(r[4:], tag)
	binary.LittleEndian.PutUint32(r[8:], uint32(len(key)))
	copy(r[headerLen:], key)
	return r
}

// pop removes the oldest record. It can be read until the next change of the ring.
//
// REQUIRES: there is one.
func (g *ring) pop() (r record, offset int) {
	if g.head == g.tail {
		invariant.Fail("row cache: the ring of %d bytes is empty", len(g.buf))
	}
	size := uint64(len(g.buf))
	offset = int(g.head % size)
	if record(g.buf[offset:]).size() == 0 {
		g.head += size - uint64(offset)
		offset = 0
	}
	r = g.at(offset)
	g.head += uint64(len(r))
	return r, offset
}

// move copies a popped record to a reservation of what it needs. The two may overlap.
func (g *ring) move(r record, offset int) record {
	n := r.need()
	to := record(g.buf[offset : offset+n])
	copy(to, r)
	binary.LittleEndian.PutUint32(to, uint32(n)|to.u32(0)&flags)
	return to
}

// grow replaces the slice by an empty one of twice the size, up to the bound.
func (g *ring) grow() bool {
	size := min(max(2*len(g.buf), minRing), g.max)
	if size <= len(g.buf) {
		return false
	}
	g.buf, g.head, g.tail = make([]byte, size), 0, 0
	return true
}
