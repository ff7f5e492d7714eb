package operators

import (
	"bytes"
	"cmp"
	"math"
)

// kind says what a value is. Their order is that of values of different kinds.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindJSON // an object or array, as its text
)

var kindNames = [...]string{"null", "bool", "integer", "number", "text", "JSON"}

func (k kind) String() string { return kindNames[k] }

// value is one value of an expression. It is small enough to travel in registers; its text is a part of the record, or
// of the scratch buffer, and valid until the next record.
type value struct {
	kind kind
	bits uint64 // of a bool, int or float
	text []byte
}

var (
	null  = value{}
	yes   = value{kind: kindBool, bits: 1}
	no    = value{kind: kindBool}
	empty = []byte{}
)

func boolean(b bool) value {
	if b {
		return yes
	}
	return no
}

func integer(i int64) value { return value{kind: kindInt, bits: uint64(i)} }

// number is a float, or null if there is no such number: infinities and NaN never leave an operation.
func number(f float64) value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return null
	}
	return value{kind: kindFloat, bits: math.Float64bits(f)}
}

func textOf(b []byte) value { return value{kind: kindText, text: b} }

func (v value) int() int64      { return int64(v.bits) }
func (v value) isTrue() bool    { return v.kind == kindBool && v.bits != 0 }
func (v value) isNumeric() bool { return v.kind == kindInt || v.kind == kindFloat }
func (v value) isScalar() bool  { return v.kind != kindNull && v.kind != kindJSON }
func (v value) float() float64 { // REQUIRES: isNumeric
	if v.kind == kindInt {
		return float64(int64(v.bits))
	}
	return math.Float64frombits(v.bits)
}

// class groups the kinds whose values can be compared with each other.
func (k kind) class() kind {
	if k == kindInt {
		return kindFloat
	}
	return k
}

// compareValues orders values of one class, or by class.
func compareValues(a, b value) int {
	if a.kind == kindInt && b.kind == kindInt {
		return cmp.Compare(int64(a.bits), int64(b.bits))
	}
	if ca, cb := a.kind.class(), b.kind.class(); ca != cb {
		return cmp.Compare(ca, cb)
	}
	switch a.kind {
	case kindNull:
		return 0
	case kindBool:
		return cmp.Compare(a.bits, b.bits)
	case kindInt:
		return compareIntFloat(a.int(), b.float())
	case kindFloat:
		if b.kind == kindInt {
			return -compareIntFloat(b.int(), a.float())
		}
		return cmp.Compare(a.float(), b.float())
	}
	return bytes.Compare(a.text, b.text)
}

// compareIntFloat compares exactly: an integer above 2^53 is not rounded to be compared.
func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c
	}
	return cmp.Compare(0, f-whole)
}

// normal makes equal numbers equal bits: a float that is a whole number becomes an integer.
func (v value) normal() value {
	if v.kind == kindFloat {
		if f := v.float(); f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
			return integer(int64(f))
		}
	}
	return v
}
