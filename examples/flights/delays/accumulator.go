package delays

import (
	"encoding/binary"
	"slices"
)

// Delays in [minDense, maxDense] are counted in an array, others in a map: over 99.9% of real flights are
// dense, and the array costs 8 KiB per origin.
const (
	minDense = -128
	maxDense = 895
)

// MaxDelay bounds delays on both sides, in minutes: about two years. Larger is taken for damage.
const MaxDelay = 1 << 20

// Error is a record or an encoded accumulator that can't be read.
type Error string

func (e Error) Error() string { return "flights: " + string(e) }

// Accumulator counts flights by origin and delay. The zero value is empty and ready.
type Accumulator struct {
	origins map[string]*histogram
	// last is the histogram of lastOrigin: keys come in order, so that most records have the origin of the
	// one before. lastWord is lastOrigin and a slash as four little-endian bytes; noWord if it isn't three
	// bytes long, or if there is none.
	last       *histogram
	lastOrigin string
	lastWord   uint64
}

// noWord equals no four bytes.
const noWord = 1 << 32

type histogram struct {
	dense [maxDense - minDense + 1]uint64
	rare  map[int]uint64
}

// count adds n flights with a delay.
func (h *histogram) count(delay int, n uint64) {
	if i := uint(delay - minDense); i < uint(len(h.dense)) {
		h.dense[i] += n
		return
	}
	if h.rare == nil {
		h.rare = make(map[int]uint64)
	}
	h.rare[delay] += n
}

// each calls f with the delays that occur, in rising order.
func (h *histogram) each(f func(delay int, n uint64)) {
	rare := make([]int, 0, len(h.rare))
	for d := range h.rare {
		rare = append(rare, d)
	}
	slices.Sort(rare)
	for len(rare) > 0 && rare[0] < minDense {
		f(rare[0], h.rare[rare[0]])
		rare = rare[1:]
	}
	for i, n := range h.dense {
		if n > 0 {
			f(i+minDense, n)
		}
	}
	for _, d := range rare {
		f(d, h.rare[d])
	}
}

// Add counts one record: its origin is the key's part before the first slash, its delay the field "delay"
// of the JSON object in value.
func (a *Accumulator) Add(key, value []byte) error {
	origin, ok := originOf(key)
	if !ok {
		return Error("a key has no origin before a slash")
	}
	delay, ok := delayOf(value)
	if !ok {
		return Error("the value of " + string(key) + " has no delay in whole minutes")
	}
	a.origin(origin).count(delay, 1)
	return nil
}

// origin is the histogram of an origin, made if need be; it becomes the last one.
func (a *Accumulator) origin(name []byte) *histogram {
	if a.last != nil && string(name) == a.lastOrigin {
		return a.last
	}
	h := a.origins[string(name)]
	if h == nil {
		if a.origins == nil {
			a.origins = make(map[string]*histogram)
		}
		h = new(histogram)
		a.origins[string(name)] = h
	}
	a.last, a.lastOrigin, a.lastWord = h, string(name), noWord
	if len(name) == 3 {
		a.lastWord = uint64(name[0]) | uint64(name[1])<<8 | uint64(name[2])<<16 | '/'<<24
	}
	return h
}

// Merge adds what b has counted. It keeps nothing of b.
func (a *Accumulator) Merge(b *Accumulator) {
	for name, from := range b.origins {
		to := a.origin([]byte(name))
		from.each(to.count)
	}
}

func (a *Accumulator) names() []string {
	names := make([]string, 0, len(a.origins))
	for name := range a.origins {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// AppendBinary encodes the accumulator: per origin, in their order, its length and bytes, the number of
// delays, and each delay's distance from the one before it (from 0 for the first) with its count. All
// numbers are varints (package encoding/binary), the distances signed ones. Equal accumulators have equal
// encodings.
func (a *Accumulator) AppendBinary(dst []byte) ([]byte, error) {
	for _, name := range a.names() {
		h := a.origins[name]
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
		pairs := uint64(0)
		h.each(func(int, uint64) { pairs++ })
		dst = binary.AppendUvarint(dst, pairs)
		before := 0
		h.each(func(delay int, n uint64) {
			dst = binary.AppendVarint(dst, int64(delay-before))
			dst = binary.AppendUvarint(dst, n)
			before = delay
		})
	}
	return dst, nil
}

// MarshalBinary is AppendBinary to a new slice.
func (a *Accumulator) MarshalBinary() ([]byte, error) { return a.AppendBinary(nil) }

// UnmarshalBinary replaces the accumulator by an encoded one.
func (a *Accumulator) UnmarshalBinary(data []byte) error {
	*a = Accumulator{}
	return a.MergeBinary(data)
}

// MergeBinary adds what an encoded accumulator has counted. After an error the accumulator holds a part
// of it.
func (a *Accumulator) MergeBinary(data []byte) error {
	d := decoder{data: data}
	before := ""
	for first := true; len(d.data) > 0 && !d.bad; first = false {
		name := d.bytes(d.uvarint())
		if !d.bad && !first && string(name) <= before {
			return Error("an accumulator's origins are out of order")
		}
		before = string(name)
		if !d.bad {
			d.histogram(a.origin(name))
		}
	}
	if d.bad {
		return Error("an accumulator is damaged")
	}
	return nil
}

// decoder reads varints; bad sticks.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) histogram(h *histogram) {
	delay := int64(0)
	pairs := d.uvarint()
	if pairs == 0 {
		d.bad = true // no flights, no origin
	}
	for i := uint64(0); i < pairs && !d.bad; i++ {
		step := d.varint()
		n := d.uvarint()
		if step < -2*MaxDelay || step > 2*MaxDelay || i > 0 && step <= 0 || n == 0 {
			d.bad = true
			return
		}
		if delay += step; delay < -MaxDelay || delay > MaxDelay {
			d.bad = true
			return
		}
		h.count(int(delay), n)
	}
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	d.skip(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data)
	d.skip(n)
	return v
}

// skip goes past a varint of n bytes.
func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad = true
		return
	}
	d.data = d.data[n:]
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.data)) {
		d.bad = true
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}
