// Command fixedsum is a range function over records of a fixed binary layout. ../../c/fixedsum.c and
// ../../rust/fixedsum.rs are the same.
//
// The argument is where a field stands in each value: an offset in bytes. The field is a 64-bit number, little endian;
// the result counts the records and sums the fields, modulo 2^64: {"count":3,"sum":42}. It is written with package
// bare, without encoding/json, because a guest over many records should be small and fast.
package main

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/locuskv/locus/udf/guest/bare"
)

const maxOffset = 524280

var (
	errBadArgument = bare.Error(bare.CodeBadArgument, "the argument must be the offset of a field: a whole number from 0 to 524280")
	errTooShort    = bare.Error(1, "a value ends before the field does")
	errAccumulator = bare.Error(0, "an accumulator is not 16 bytes long")
)

func init() { bare.HandleRange("fixedsum", bare.CodecJSON, begin) }

type sum struct {
	offset, count int
	sum           uint64
}

func begin(arg []byte) (bare.Fold, error) {
	text := strings.Trim(string(arg), " \t\n\r")
	if len(arg) == 0 || text == "null" {
		return new(sum), nil
	}
	offset, err := strconv.Atoi(text)
	if err != nil || offset < 0 || offset > maxOffset || text != strconv.Itoa(offset) && text != "-0" {
		return nil, errBadArgument
	}
	return &sum{offset: offset}, nil
}

func (s *sum) Add(batch []byte) error {
	for _, value := range bare.Batch(batch).All() {
		if len(value) < s.offset+8 {
			return errTooShort
		}
		s.sum += binary.LittleEndian.Uint64(value[s.offset:])
		s.count++
	}
	return nil
}

func (s *sum) Merge(encoded []byte) error {
	if len(encoded) != 16 {
		return errAccumulator
	}
	s.count += int(binary.LittleEndian.Uint64(encoded))
	s.sum += binary.LittleEndian.Uint64(encoded[8:])
	return nil
}

func (s *sum) Encode() ([]byte, error) {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(s.count)), s.sum), nil
}

func (s *sum) Result() ([]byte, error) {
	b := strconv.AppendInt([]byte(`{"count":`), int64(s.count), 10)
	b = strconv.AppendInt(append(b, `,"sum":`...), int64(s.sum), 10)
	return append(b, '}'), nil
}

// main is never called: the host runs init functions only.
func main() {}
