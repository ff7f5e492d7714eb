package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/locuskv/locus/internal/hlc"
)

// A stored value of a user key is
//
//	u8 format (1) | u8 flags | u64 timestamp | [u64 expires] | data
//
// little endian; expires stands there when bit 0 of flags is set. Every value has one encoding, and an
// unknown format or flag is an error, never guessed at.
const (
	valueFormat      = 1
	valueFlagExpires = 1

	valueFixedLen   = 2 + 8
	valueExpiresLen = 8

	// MaxHeaderLen is the most that AppendValue adds to a value.
	MaxHeaderLen = valueFixedLen + valueExpiresLen
)

// Value is a stored value, taken apart.
type Value struct {
	Timestamp hlc.Timestamp // of the entry that wrote it
	Expires   hlc.Timestamp // 0: never
	Data      []byte        // a part of what was parsed, not a copy
}

// Expired says whether the value is gone for a read at a timestamp of the log. The instant of its expiry
// is the first without it.
func (v Value) Expired(at hlc.Timestamp) bool { return v.Expires != 0 && v.Expires <= at }

// AppendValue appends the stored form of a value to dst.
func AppendValue(dst, value []byte, ts, expires hlc.Timestamp) []byte {
	if expires == 0 {
		dst = append(dst, valueFormat, 0)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(ts))
		return append(dst, value...)
	}
	dst = append(dst, valueFormat, valueFlagExpires)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(ts))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(expires))
	return append(dst, value...)
}

// ParseValue takes a stored value apart. The error is a *ValueError.
func ParseValue(b []byte) (Value, error) {
	if len(b) < valueFixedLen {
		return Value{}, &ValueError{Len: len(b), Reason: "is shorter than its header"}
	}
	if b[0] != valueFormat {
		return Value{}, &ValueError{Len: len(b), Reason: fmt.Sprintf("has format %d, this release reads format %d", b[0], valueFormat)}
	}
	v := Value{Timestamp: hlc.Timestamp(binary.LittleEndian.Uint64(b[2:]))}
	switch b[1] {
	case 0:
		v.Data = b[valueFixedLen:]
		return v, nil
	case valueFlagExpires:
		return v.parseExpires(b)
	default:
		return Value{}, &ValueError{Len: len(b), Reason: fmt.Sprintf("has unknown flags %#x", b[1])}
	}
}

func (v Value) parseExpires(b []byte) (Value, error) {
	if len(b) < MaxHeaderLen {
		return Value{}, &ValueError{Len: len(b), Reason: "is shorter than its header with an expiry"}
	}
	v.Expires = hlc.Timestamp(binary.LittleEndian.Uint64(b[valueFixedLen:]))
	if v.Expires == 0 {
		return Value{}, &ValueError{Len: len(b), Reason: "has an expiry of 0"}
	}
	v.Data = b[MaxHeaderLen:]
	return v, nil
}

// ValueError says that stored bytes are not a value.
type ValueError struct {
	Key    []byte // where known
	Len    int
	Reason string
}

func (e *ValueError) Error() string {
	if e.Key != nil {
		return fmt.Sprintf("engine: stored value of key %q (%d bytes) %s", e.Key, e.Len, e.Reason)
	}
	return fmt.Sprintf("engine: stored value (%d bytes) %s", e.Len, e.Reason)
}
