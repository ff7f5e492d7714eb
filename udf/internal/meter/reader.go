package meter

import "fmt"

// Error says why a module can't be metered.
type Error string

func (e Error) Error() string { return string(e) }

func refuse(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }

const errCutOff = Error("it is cut off")

// reader takes numbers and bytes off a slice. The first error sticks; everything is 0 after it.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) more() bool { return r.err == nil && r.pos < len(r.b) }

func (r *reader) byte() byte {
	if !r.more() {
		r.fail(errCutOff)
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) bytes(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail(errCutOff)
		return nil
	}
	r.pos += int(n)
	return r.b[r.pos-int(n) : r.pos : r.pos]
}

// u32 reads an unsigned LEB128 number of at most five bytes. Most have one.
func (r *reader) u32() uint32 {
	if r.more() && r.b[r.pos] < 0x80 {
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	return r.long()
}

func (r *reader) long() uint32 {
	v := uint64(0)
	for shift := 0; ; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 28 {
			r.fail(Error("it has a number that is too long"))
			break
		}
	}
	if v > 1<<32-1 {
		r.fail(Error("it has a number that is too large"))
	}
	if r.err != nil {
		return 0
	}
	return uint32(v)
}

// signed reads a signed LEB128 number of at most n bytes.
func (r *reader) signed(n int) int64 {
	v, shift := int64(0), 0
	for range n {
		b := r.byte()
		v |= int64(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			if b&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
	r.fail(Error("it has a number that is too long"))
	return 0
}

// below reads an index that must be less than n.
func (r *reader) below(n uint32, what string) uint32 {
	i := r.u32()
	if r.err == nil && i >= n {
		r.fail(refuse("it uses %s %d of %d", what, i, n))
		return 0
	}
	return i
}

// valueType reads the type of a value. It must be one of WebAssembly 2.0: others go on behind the byte, where wazero reads them even if
// their features are off.
func (r *reader) valueType() {
	if t := r.byte(); r.err == nil && !knownType(t) {
		r.fail(refuse("it has a value of type %#x, which is not known here", t))
	}
}

func (r *reader) valueTypes() []byte {
	list := r.bytes(r.u32())
	for _, t := range list {
		if !knownType(t) {
			r.fail(refuse("it has a value of type %#x, which is not known here", t))
		}
	}
	return list
}

// knownType says whether a byte is a type of WebAssembly 2.0.
func knownType(t byte) bool {
	switch t {
	case typeI32, typeI64, typeF32, typeF64, typeV128, refFunc, refExtern:
		return true
	}
	return false
}

// signedBytes appends a signed LEB128 number.
func signedBytes(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
