package operators

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// record is what expressions see, and where they work.
type record struct {
	key, value []byte
	// mistyped: an operation met a value of another type than it takes, and made null of it.
	mistyped bool
	scratch  []byte
}

func (r *record) wrong() value {
	r.mistyped = true
	return null
}

// eval finds an expression's value in a record. It keeps no state but the record's.
type eval func(r *record) value

// integers is the short way to a value that is an integer: false where eval has to tell.
type integers func(r *record) (int64, bool)

// schema says which names there are beside JSON fields: those of key parts, and the fields of a binary layout.
type schema struct {
	delimiter byte
	parts     map[string]int
	layout    map[string]eval
	integers  map[string]integers
	runs      map[string]readRun
	kinds     map[string]kind
	fixed     bool // values have a layout, and so no JSON fields
}

// newSchema reads the names of key parts, as import writes them (origin/date:10/seq), and a layout.
func newSchema(q *Query) (*schema, error) {
	s := &schema{delimiter: '/', parts: map[string]int{}}
	if q.Delimiter != "" {
		if len(q.Delimiter) != 1 {
			return nil, fmt.Errorf("delimiter %q is not one byte", q.Delimiter)
		}
		s.delimiter = q.Delimiter[0]
	}
	if q.Key != "" {
		for i, word := range strings.Split(q.Key, string(s.delimiter)) {
			name, _, _ := strings.Cut(strings.TrimSpace(word), ":")
			if !isName(name) {
				return nil, fmt.Errorf("key %q: %q is no name of a part", q.Key, name)
			}
			if _, twice := s.parts[name]; twice || name == keyName || name == valueName {
				return nil, fmt.Errorf("key %q: the name %s is taken", q.Key, name)
			}
			s.parts[name] = i
		}
	}
	return s, s.addLayout(q.Layout)
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// maxOffset bounds a layout: values are at most 512 KiB.
const maxOffset = 512 << 10

// addLayout reads fields name:type@offset, separated by commas.
func (s *schema) addLayout(layout string) error {
	if layout == "" {
		return nil
	}
	s.fixed, s.layout, s.kinds = true, map[string]eval{}, map[string]kind{}
	s.integers, s.runs = map[string]integers{}, map[string]readRun{}
	for word := range strings.SplitSeq(layout, ",") {
		name, rest, ok1 := strings.Cut(strings.TrimSpace(word), ":")
		typ, at, ok2 := strings.Cut(rest, "@")
		offset, err := strconv.Atoi(at)
		if !ok1 || !ok2 || err != nil || !isName(name) {
			return fmt.Errorf("layout %q: %q is not name:type@offset, for example delay:i16@0", layout, word)
		}
		if offset < 0 || offset > maxOffset {
			return fmt.Errorf("layout %q: the offset %d of %s is not between 0 and %d", layout, offset, name, maxOffset)
		}
		_, part := s.parts[name]
		if _, twice := s.layout[name]; twice || part || name == keyName || name == valueName {
			return fmt.Errorf("layout %q: the name %s is taken", layout, name)
		}
		f, k, err := fieldOf(typ, offset)
		if err != nil {
			return fmt.Errorf("layout %q: %s: %w", layout, name, err)
		}
		s.layout[name], s.kinds[name], s.integers[name] = f, k, integerAt(typ, offset)
		s.runs[name] = runAt(typ, offset)
	}
	return nil
}

// binaryTypes are the numbers of layouts, little endian; with "be" behind them, big endian.
var binaryTypes = map[string]struct {
	size int
	kind kind
	of   func(raw uint64) value
}{
	"i8":   {1, kindInt, func(x uint64) value { return integer(int64(int8(x))) }},
	"u8":   {1, kindInt, func(x uint64) value { return integer(int64(x)) }},
	"i16":  {2, kindInt, func(x uint64) value { return integer(int64(int16(x))) }},
	"u16":  {2, kindInt, func(x uint64) value { return integer(int64(x)) }},
	"i32":  {4, kindInt, func(x uint64) value { return integer(int64(int32(x))) }},
	"u32":  {4, kindInt, func(x uint64) value { return integer(int64(x)) }},
	"i64":  {8, kindInt, func(x uint64) value { return integer(int64(x)) }},
	"u64":  {8, kindInt, unsigned},
	"f32":  {4, kindFloat, func(x uint64) value { return number(float64(math.Float32frombits(uint32(x)))) }},
	"f64":  {8, kindFloat, func(x uint64) value { return number(math.Float64frombits(x)) }},
	"bool": {1, kindBool, func(x uint64) value { return boolean(x != 0) }},
}

// unsigned is an integer, or above 2^63-1 the nearest float.
func unsigned(x uint64) value {
	if x > math.MaxInt64 {
		return number(float64(x))
	}
	return integer(int64(x))
}

// fieldOf reads the number, or the text of a fixed length ("s12"), at an offset of the value.
func fieldOf(typ string, offset int) (eval, kind, error) {
	if digits, ok := strings.CutPrefix(typ, "s"); ok {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > maxOffset {
			return nil, 0, fmt.Errorf("the type %q is not s and a length, for example s3", typ)
		}
		return func(r *record) value {
			if len(r.value) < offset+n {
				return r.wrong()
			}
			return textOf(bytes.TrimRight(r.value[offset:offset+n], "\x00"))
		}, kindText, nil
	}
	name, big := strings.CutSuffix(typ, "be")
	t, ok := binaryTypes[name]
	if !ok || big && t.size == 1 {
		return nil, 0, fmt.Errorf("the type %q is none of i8 u8 i16 u16 i32 u32 i64 u64 f32 f64 (and with be behind it), bool, and s with a length", typ)
	}
	return func(r *record) value {
		if len(r.value) < offset+t.size {
			return r.wrong()
		}
		v := t.of(loadRaw(r.value[offset:offset+t.size], big))
		if v.kind == kindNull {
			return r.wrong() // a float that is no number
		}
		return v
	}, t.kind, nil
}

// integerAt reads an integer of a type that is much used; nil for others, and false where the value is too short.
func integerAt(typ string, offset int) integers {
	switch typ {
	case "i16":
		return func(r *record) (int64, bool) {
			if len(r.value) < offset+2 {
				return 0, false
			}
			return int64(int16(binary.LittleEndian.Uint16(r.value[offset:]))), true
		}
	case "i32":
		return func(r *record) (int64, bool) {
			if len(r.value) < offset+4 {
				return 0, false
			}
			return int64(int32(binary.LittleEndian.Uint32(r.value[offset:]))), true
		}
	case "u32":
		return func(r *record) (int64, bool) {
			if len(r.value) < offset+4 {
				return 0, false
			}
			return int64(binary.LittleEndian.Uint32(r.value[offset:])), true
		}
	case "i64":
		return func(r *record) (int64, bool) {
			if len(r.value) < offset+8 {
				return 0, false
			}
			return int64(binary.LittleEndian.Uint64(r.value[offset:])), true
		}
	}
	return nil
}

func loadRaw(b []byte, big bool) (x uint64) {
	for i := range b {
		if big {
			x = x<<8 | uint64(b[i])
		} else {
			x |= uint64(b[i]) << (8 * i)
		}
	}
	return x
}

// partOf is the n-th part of the key, counted from 0; null if it has fewer.
func partOf(n int, delimiter byte) eval {
	if n == 0 {
		return func(r *record) value {
			if i := bytes.IndexByte(r.key, delimiter); i >= 0 {
				return textOf(r.key[:i])
			}
			return textOf(r.key)
		}
	}
	return func(r *record) value {
		rest := r.key
		for range n {
			i := bytes.IndexByte(rest, delimiter)
			if i < 0 {
				return null
			}
			rest = rest[i+1:]
		}
		if i := bytes.IndexByte(rest, delimiter); i >= 0 {
			rest = rest[:i]
		}
		return textOf(rest)
	}
}
