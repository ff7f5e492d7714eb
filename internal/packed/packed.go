package packed

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/locuskv/locus/internal/hlc"
)

// HeaderLen is the length of a record's fixed part; ExpiresLen is added when the record expires.
const (
	HeaderLen  = 16
	ExpiresLen = 8
)

// MaxKeyLen is the longest key a record can hold: its length has 16 bits.
const MaxKeyLen = math.MaxUint16

// flagExpires says that the record carries the timestamp from which on it no longer exists.
const flagExpires = 1

// Size is the number of bytes that Append adds for a record.
func Size(keyLen, valueLen int, expires hlc.Timestamp) int {
	n := HeaderLen + keyLen + valueLen
	if expires != 0 {
		n += ExpiresLen
	}
	return n
}

// Append adds a record to a batch and returns the longer batch. An expires of 0 means never.
//
// REQUIRES: len(key) <= MaxKeyLen and len(value) fits 32 bits; both are far above what a store accepts,
// so that breaking them is a bug of the caller, and panics.
func Append(dst, key, value []byte, ts, expires hlc.Timestamp) []byte {
	if len(key) > MaxKeyLen || uint64(len(value)) > math.MaxUint32 {
		panic(fmt.Sprintf("packed: key of %d bytes or value of %d bytes does not fit a record", len(key), len(value)))
	}
	n := len(dst)
	if end := n + HeaderLen + len(key) + len(value); expires == 0 && end <= cap(dst) {
		// Nearly all records: one check of the capacity, where appending piece by piece takes six.
		dst = dst[:end]
		binary.LittleEndian.PutUint64(dst[n:], uint64(len(key))|uint64(len(value))<<32)
		binary.LittleEndian.PutUint64(dst[n+8:], uint64(ts))
		copy(dst[n+HeaderLen+copy(dst[n+HeaderLen:], key):], value)
		return dst
	}
	flags := uint16(0)
	if expires != 0 {
		flags = flagExpires
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(key)))
	dst = binary.LittleEndian.AppendUint16(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(ts))
	if expires != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(expires))
	}
	dst = append(dst, key...)
	return append(dst, value...)
}

// Validate reads a whole batch and returns what is wrong with it, as *FormatError.
func Validate(batch []byte) error {
	r := NewReader(batch)
	for r.Next() {
	}
	return r.Err()
}

// Len counts the records of a batch. Of a damaged batch it counts those before the damage.
func Len(batch []byte) (n int) {
	// Records that never expire are skipped by their lengths alone: who counts every batch that a function was given must
	// not pay for a second Reader.
	at := uint64(0)
	for at+HeaderLen <= uint64(len(batch)) {
		head := binary.LittleEndian.Uint64(batch[at:])
		next := at + HeaderLen + head&0xffff + head>>32
		if head>>16&0xffff != 0 || next > uint64(len(batch)) {
			break
		}
		at = next
		n++
	}
	for r := NewReader(batch[at:]); r.Next(); {
		n++
	}
	return n
}

// FormatError says where a batch stops being one.
type FormatError struct {
	Offset int // of the record that is damaged
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("packed: bad record at offset %d: %s", e.Offset, e.Reason)
}
