package delays

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The layout of packed batches, docs/abi.md.
const (
	headerLen   = 16
	expiresLen  = 8
	flagExpires = 1
)

// AddBatch counts every record of a packed batch. It finds the delay of values as Value writes them with
// a handful of loads and three branches, because a guest compiled from Go jumps through a table at each branch
// back, and pays for it in time and fuel (docs/abi.md); records of any other shape take the path of Add.
func (a *Accumulator) AddBatch(batch []byte) error {
	if a.last == nil {
		a.lastWord = noWord
	}
	for off := 0; off < len(batch); {
		if len(batch)-off < headerLen {
			return Error("a batch is cut off")
		}
		head := binary.LittleEndian.Uint64(batch[off:])
		keyLen, valueLen := int(head&0xffff), int(head>>32)
		k := off + headerLen + expiresLen*int(head>>16&flagExpires)
		v := k + keyLen
		off = v + valueLen
		if uint(off) > uint(len(batch)) || off < v {
			return Error("a batch is cut off")
		}
		// One branch for all that makes a record ordinary: the last origin, a value long enough, the fixed
		// bytes of its date, a delay of at most seven digits.
		if keyLen >= 4 && valueLen >= minValue {
			value := batch[v:off]
			delay, odd := fixedDelay(value)
			odd |= uint64(binary.LittleEndian.Uint32(batch[k:])) ^ a.lastWord
			if i := uint(delay - minDense); odd == 0 && i < uint(len(a.last.dense)) {
				a.last.dense[i]++
				continue
			}
		}
		if err := a.Add(batch[k:v], batch[v:off]); err != nil {
			return err
		}
	}
	return nil
}

// Where things stand in {"date":"2001-01-01T00:01","delay":33,"distance":2176,...}.
const (
	delayAt  = 35
	minValue = delayAt + 1 + 8 // a sign, and eight bytes to load
)

// Words of that text, little endian, and which bytes of them are fixed.
const (
	wordDate      = 0x3a2265746164227b // {"date":
	wordDelay     = 0x3a2279616c656422 // "delay":
	wordQuote     = 0x2c22             // ",
	maskYear      = 0x0000ff00000000ff // "????-??
	wordYear      = 0x00002d0000000022
	maskDay       = 0x00ff0000ff0000ff // -??T??:?
	wordDay       = 0x003a00005400002d
	asciiZeros    = 0x3030303030303030
	sevenBits     = 0x7676767676767676
	highBits      = 0x8080808080808080
	maxFastDigits = 5
)

// fixedDelay is the delay of a value of the fixed layout; odd is not 0 if the value has another one.
// It has no branch. That the separators stand where they stand is enough: no JSON object has them there and
// a delay elsewhere.
//
// REQUIRES: len(v) >= minValue.
func fixedDelay(v []byte) (delay int, odd uint64) {
	v = v[:minValue]
	odd = (binary.LittleEndian.Uint64(v) ^ wordDate) |
		(binary.LittleEndian.Uint64(v[8:])&maskYear ^ wordYear) |
		(binary.LittleEndian.Uint64(v[16:])&maskDay ^ wordDay) |
		(uint64(binary.LittleEndian.Uint16(v[25:])) ^ wordQuote) |
		(binary.LittleEndian.Uint64(v[27:]) ^ wordDelay)
	negative := (uint64(v[delayAt]^'-') - 1) >> 63
	word := binary.LittleEndian.Uint64(v[delayAt+int(negative&1):])
	// Digits become 0...9; the first byte that is none gets its high bit set (carries only go upwards).
	t := word ^ asciiZeros
	digits := uint64(bits.TrailingZeros64((t+sevenBits|t)&highBits)) >> 3
	odd |= (digits-1)>>63 | (maxFastDigits-digits)>>63
	odd |= word>>(digits*8&63)&0xff ^ ','
	// Digits to the top, zeros before them; then pairs, then all (Lemire, "Quickly parsing eight digits").
	t <<= (64 - digits*8) & 63
	t = t*10 + t>>8
	t = ((t&0x000000ff000000ff)*0x000f424000000064 + (t>>16&0x000000ff000000ff)*0x0000271000000001) >> 32
	return int((t ^ -negative) + negative), odd
}

// originOf is the key's part before the first slash.
func originOf(key []byte) ([]byte, bool) {
	i := bytes.IndexByte(key, '/')
	if i <= 0 {
		return nil, false
	}
	return key[:i], true
}

// delayOf finds the number under "delay" at the top level of a JSON object. It trusts the value to be
// JSON, and takes the first delay if there are several.
func delayOf(value []byte) (delay int, ok bool) {
	depth := 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := stringEnd(value, i)
			if end < 0 {
				return 0, false
			}
			colon := skipSpace(value, end)
			if depth == 1 && string(value[i:end]) == `"delay"` && colon < len(value) && value[colon] == ':' {
				return parseDelay(value[skipSpace(value, colon+1):])
			}
			i = end - 1
		}
	}
	return 0, false
}

// stringEnd is the index after the string that begins at i; -1 if it has no end.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// parseDelay reads a whole number that is followed by the end of a JSON value.
func parseDelay(b []byte) (int, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n, i := 0, 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		if n = n*10 + int(b[i]-'0'); n > MaxDelay {
			return 0, false
		}
	}
	end := i
	if i = skipSpace(b, i); end == 0 || i == len(b) || b[i] != ',' && b[i] != '}' {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}
