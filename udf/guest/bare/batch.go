package bare

import (
	"encoding/binary"
	"iter"

	"github.com/locuskv/locus/udf/internal/shape"
)

// Batch is a packed batch as the host hands it out: records of u16 key length, u16 flags, u32 value
// length, u64 timestamp, u64 expiry if bit 0 of the flags is set, key, value; little endian (docs/abi.md).
type Batch []byte

var _ shape.Batch = Batch(nil)

const (
	headerLen   = 16
	expiresLen  = 8
	flagExpires = 1
)

// Len counts the records.
func (b Batch) Len() int {
	n := 0
	for len(b) > 0 {
		_, _, b = b.cut()
		n++
	}
	return n
}

// All yields keys and values. The host's batches are well formed; bytes that are not a batch panic.
func (b Batch) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for rest := b; len(rest) > 0; {
			var key, value []byte
			key, value, rest = rest.cut()
			if !yield(key, value) {
				return
			}
		}
	}
}

// cut takes the first record off.
func (b Batch) cut() (key, value []byte, rest Batch) {
	head := binary.LittleEndian.Uint64(b)
	keyLen, valueLen := int(head&0xffff), int(head>>32)
	k := headerLen + expiresLen*int(head>>16&flagExpires)
	v := k + keyLen
	end := v + valueLen
	return b[k:v:v], b[v:end:end], b[end:]
}
