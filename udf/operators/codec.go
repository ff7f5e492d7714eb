package operators

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/axiomhq/hyperloglog"

	"github.com/locuskv/locus/api"
)

// The encoding of an accumulator: version | records | matched | mistyped... | groups | group...
// A group is its key's length and bytes, its rows, and the cells of the plan's arguments; which parts a cell has is
// known by the plan. Counts are varints (package encoding/binary), floats eight bytes. Equal accumulators without
// sketches of distinct values have equal encodings.
const encodingVersion = 1

func (a *accumulator) encode() ([]byte, error) {
	dst := []byte{encodingVersion}
	dst = binary.AppendUvarint(dst, a.records)
	dst = binary.AppendUvarint(dst, a.matched)
	for _, n := range a.mistyped {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(a.groups)))
	sorted := slices.Clone(a.groups)
	slices.SortFunc(sorted, func(x, y *group) int { return strings.Compare(x.key, y.key) })
	for _, g := range sorted {
		dst = appendText(dst, g.key)
		dst = binary.AppendUvarint(dst, g.rows)
		for i := range g.cells {
			var err error
			if dst, err = g.cells[i].append(dst, a.plan.arguments[i].features); err != nil {
				return nil, &api.InternalError{Reason: "a sketch can't be encoded: " + err.Error()}
			}
		}
		if len(dst) > MaxEncoded {
			return nil, &api.LimitError{What: fmt.Sprintf("encoded size of the %d groups of a query", len(a.groups)), Limit: MaxEncoded, Got: int64(len(dst))}
		}
	}
	return dst, nil
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

func (c *cell) append(dst []byte, f features) ([]byte, error) {
	dst = binary.AppendUvarint(dst, c.values)
	if f&featNumbers != 0 {
		dst = c.numbers.append(dst)
	}
	if f&featSquares != 0 {
		dst = c.squares.append(dst)
	}
	if f&featExtremes != 0 {
		dst = appendValue(appendValue(dst, c.extremes.least), c.extremes.greatest)
	}
	if f&featQuantiles != 0 {
		dst = c.quantiles.append(dst)
	}
	if f&featFrequent != 0 {
		dst = c.frequent.append(dst)
	}
	if f&featDistinct != 0 {
		b, err := c.distinct.sketch.MarshalBinary()
		if err != nil {
			return nil, err
		}
		dst = appendText(binary.AppendUvarint(dst, uint64(c.distinct.charged)), b)
	}
	return dst, nil
}

func (n *numbers) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, n.ints)
	dst = binary.AppendUvarint(dst, n.lo<<1^uint64(int64(n.hi)>>63)) // small sums of either sign are short
	dst = binary.AppendUvarint(dst, n.lo>>63)
	dst = binary.AppendVarint(dst, int64(n.hi))
	dst = binary.AppendUvarint(dst, n.floats)
	if n.floats > 0 {
		dst = appendFloat(appendFloat(dst, n.sum), n.carry)
	}
	return dst
}

func (s *squares) append(dst []byte) []byte {
	for _, w := range []uint64{s.lo, s.mid, s.hi, s.n} {
		dst = binary.AppendUvarint(dst, w)
	}
	if s.n > 0 {
		dst = appendFloat(appendFloat(dst, s.mean), s.m2)
	}
	return dst
}

func (q *quantiles) append(dst []byte) []byte {
	flag := byte(0)
	if q.floats {
		flag = 1
	}
	dst = binary.AppendUvarint(append(dst, flag), q.zero)
	return q.positive.append(q.negative.append(dst))
}

// append writes how many bins are in use, and for each the distance from the one before, and its count.
func (b *bins) append(dst []byte) []byte {
	used, before := uint64(0), 0
	for _, c := range b.counts {
		if c > 0 {
			used++
		}
	}
	dst = binary.AppendUvarint(dst, used)
	for i, c := range b.counts {
		if c > 0 {
			dst = binary.AppendVarint(dst, int64(b.first+i-before))
			dst = binary.AppendUvarint(dst, c)
			before = b.first + i
		}
	}
	return dst
}

// errDamaged is an accumulator that is none, or of another query.
type errDamaged struct{}

func (errDamaged) Error() string { return "locus.query: an accumulator can't be read" }

// decoder reads an encoding. Its first failure sticks, and everything read after it is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) uint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) int() int64 {
	x, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) text() []byte { return d.bytes(d.uint()) }

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) float() float64 {
	if b := d.bytes(8); len(b) == 8 {
		return math.Float64frombits(binary.LittleEndian.Uint64(b)) // NaN if a sum went beyond all floats
	}
	return 0
}

// value reads what appendValue wrote; its text is a part of the encoding.
func (d *decoder) value() value {
	switch k := kind(d.byte()); k {
	case kindNull:
		return null
	case kindBool:
		return boolean(d.byte() != 0)
	case kindInt:
		return integer(d.int())
	case kindFloat:
		if v := number(d.float()); v.kind != kindNull {
			return v
		}
	case kindText:
		return textOf(d.text())
	}
	d.fail()
	return null
}

// merge decodes an accumulator into this one.
func (a *accumulator) merge(encoded []byte) error {
	d := &decoder{b: encoded}
	if d.byte() != encodingVersion {
		return errDamaged{}
	}
	a.records += d.uint()
	a.matched += d.uint()
	for i := range a.mistyped {
		a.mistyped[i] += d.uint()
	}
	n := d.uint()
	if n > MaxGroups {
		return errDamaged{}
	}
	for ; n > 0 && !d.bad; n-- {
		key, rows := d.text(), d.uint()
		if !a.plan.isKey(key) {
			return errDamaged{}
		}
		g := a.group(key)
		g.rows += rows
		for i := range g.cells {
			if err := a.mergeCell(d, &g.cells[i], a.plan.arguments[i].features); err != nil {
				return err
			}
		}
		if a.memory > MaxMemory {
			return a.checkSize()
		}
	}
	if d.bad || len(d.b) > 0 {
		return errDamaged{}
	}
	return nil
}

// isKey says whether bytes are the values of the plan's groups.
func (p *plan) isKey(key []byte) bool {
	d := &decoder{b: key}
	for range p.groups {
		d.value()
	}
	return !d.bad && len(d.b) == 0
}

func (a *accumulator) mergeCell(d *decoder, c *cell, f features) error {
	o := cell{values: d.uint()}
	if f&featNumbers != 0 {
		o.numbers.read(d)
	}
	if f&featSquares != 0 {
		o.squares = new(squares)
		o.squares.read(d)
	}
	if f&featExtremes != 0 {
		o.extremes = &extremes{least: d.value(), greatest: d.value()}
		if (o.extremes.least.kind == kindNull) != (o.extremes.greatest.kind == kindNull) {
			return errDamaged{}
		}
	}
	if f&featQuantiles != 0 {
		o.quantiles = new(quantiles)
		o.quantiles.read(d)
	}
	if f&featFrequent != 0 {
		o.frequent = new(frequent)
		o.frequent.read(d)
	}
	if f&featDistinct != 0 {
		o.distinct = &distinct{charged: int(min(d.uint(), distinctMost)), sketch: new(hyperloglog.Sketch)}
		if b := d.text(); !d.bad && !readDistinct(o.distinct.sketch, b) {
			return errDamaged{}
		}
	}
	if d.bad {
		return errDamaged{}
	}
	grown, err := c.merge(&o)
	a.memory += grown
	return err
}

// readDistinct is false for what is no sketch of ours.
func readDistinct(s *hyperloglog.Sketch, b []byte) (ok bool) {
	const precisionAt, precision = 1, 14
	return len(b) > precisionAt && b[precisionAt] == precision && s.UnmarshalBinary(b) == nil
}

func (n *numbers) read(d *decoder) {
	n.ints = d.uint()
	low, top := d.uint(), d.uint()
	n.hi = uint64(d.int())
	n.lo = (low^uint64(int64(n.hi)>>63))>>1 | top<<63
	if n.floats = d.uint(); n.floats > 0 {
		n.sum, n.carry = d.float(), d.float()
	}
}

func (s *squares) read(d *decoder) {
	s.lo, s.mid, s.hi, s.n = d.uint(), d.uint(), d.uint(), d.uint()
	if s.n > 0 {
		s.mean, s.m2 = d.float(), d.float()
	}
}

func (q *quantiles) read(d *decoder) {
	q.floats = d.byte() != 0
	q.zero = d.uint()
	q.negative.read(d)
	q.positive.read(d)
}

func (b *bins) read(d *decoder) {
	used, bin := d.uint(), int64(0)
	for first := true; used > 0 && !d.bad; used-- {
		step, n := d.int(), d.uint()
		if n == 0 || !first && step <= 0 || step < -1<<20 || step > 1<<20 {
			d.fail()
			return
		}
		if bin += step; bin < int64(firstBin) || bin > int64(lastBin) {
			d.fail()
			return
		}
		b.addMany(int(bin), n)
		first = false
	}
}
