// Package native holds native range functions that "locus bench functions" measures beside guests: the same work over the same batches,
// compiled into the node. A node links them with the hidden flag --bench-functions only.
package native

import (
	"context"
	"encoding/binary"

	"github.com/locuskv/locus/examples/flights/delays"
	"github.com/locuskv/locus/udf"
)

// Names of the functions.
const (
	DelaysJSON  = "bench-delays-json"  // takes null, returns []delays.Airport
	DelaysFixed = "bench-delays-fixed" // the same, of the layout of FixedValue
	Sum         = "bench-sum"          // takes the offset of a field, returns Total
)

// All are the functions of this package.
func All() []udf.Function {
	return []udf.Function{
		udf.Range(DelaysJSON, byOrigin((*delays.Accumulator).AddRecord)),
		udf.Range(DelaysFixed, byOrigin(AddFixed)),
		udf.Range(Sum, sum),
	}
}

// FixedBytes is the length of a flight in the fixed layout.
const FixedBytes = 16

// FixedValue appends a flight in the fixed layout, little endian: delay and distance, 4 bytes each, and 8 bytes of the destination's
// code, filled up with zeros.
func FixedValue(dst []byte, delay, distance int, destination string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(int32(delay)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(int32(distance)))
	var code [8]byte
	copy(code[:], destination)
	return append(dst, code[:]...)
}

// AddFixed counts a flight in the fixed layout.
func AddFixed(a *delays.Accumulator, key, value []byte) error {
	if len(value) != FixedBytes {
		return delays.Error("the value of " + string(key) + " is not 16 bytes long")
	}
	return a.Count(key, int(int32(binary.LittleEndian.Uint32(value))))
}

func byOrigin(add func(*delays.Accumulator, []byte, []byte) error) udf.Aggregate[*struct{}, *delays.Accumulator, []delays.Airport] {
	return udf.Aggregate[*struct{}, *delays.Accumulator, []delays.Airport]{
		Init: func(*struct{}) (*delays.Accumulator, error) { return new(delays.Accumulator), nil },
		Add: func(_ context.Context, a *delays.Accumulator, b udf.Batch) (*delays.Accumulator, error) {
			for key, value := range b.All() {
				if err := add(a, key, value); err != nil {
					return nil, err
				}
			}
			return a, nil
		},
		Merge: func(a, b *delays.Accumulator) (*delays.Accumulator, error) {
			a.Merge(b)
			return a, nil
		},
		Result: func(a *delays.Accumulator) ([]delays.Airport, error) { return a.Airports(), nil },
	}
}

// Total counts records and sums a field of them.
type Total struct {
	Count uint64 `json:"count"`
	Sum   int64  `json:"sum"`
}

// Add adds the field at an offset of a value, 8 bytes, little endian.
func (t *Total) Add(value []byte, offset int) error {
	if len(value) < offset+8 {
		return udf.Error(1, "a value ends before the field does")
	}
	t.Count++
	t.Sum += int64(binary.LittleEndian.Uint64(value[offset:]))
	return nil
}

// summing is a sum under way: the offset need not cross nodes.
type summing struct {
	Total
	offset int
}

var sum = udf.Aggregate[uint32, summing, Total]{
	Init: func(offset uint32) (summing, error) { return summing{offset: int(offset)}, nil },
	Add: func(_ context.Context, s summing, b udf.Batch) (summing, error) {
		for _, value := range b.All() {
			if err := s.Total.Add(value, s.offset); err != nil {
				return s, err
			}
		}
		return s, nil
	},
	Merge: func(a, b summing) (summing, error) {
		a.Count += b.Count
		a.Sum += b.Sum
		return a, nil
	},
	Result: func(s summing) (Total, error) { return s.Total, nil },
}
