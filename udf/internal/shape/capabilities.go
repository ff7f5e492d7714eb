package shape

import (
	"strconv"
	"strings"
)

// Capabilities are what a function may reach within what its kind allows, and the limits that it sets itself below
// those of the node. The zero value restricts nothing.
type Capabilities struct {
	Reads, Writes Access
	Limits        Limits
	// Commutative says that calls of the function on one key come to the same in any order.
	Commutative bool
}

// Access is a set of keys.
type Access struct {
	// Restricted: only keys that begin with one of Prefixes; none at all without any. Else all keys.
	Restricted bool
	Prefixes   []string
}

// Allows says whether a key is in the set.
func (a Access) Allows(key []byte) bool {
	for _, p := range a.Prefixes {
		if len(key) >= len(p) && string(key[:len(p)]) == p {
			return true
		}
	}
	return !a.Restricted
}

// Covers says whether every key of a span begins with one and the same prefix of the set.
func (a Access) Covers(s Span) bool {
	for _, p := range a.Prefixes {
		end := prefixEnd(p)
		if string(s.Start) >= p && (end == "" || len(s.End) > 0 && string(s.End) <= end) {
			return true
		}
	}
	return !a.Restricted
}

// PrefixSpan is the span of the keys that begin with prefix.
func PrefixSpan(prefix []byte) Span {
	return Span{Start: []byte(string(prefix)), End: []byte(prefixEnd(string(prefix)))}
}

// prefixEnd is the first key behind all that begin with p; "" if there is none.
func prefixEnd(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			return p[:i] + string([]byte{p[i] + 1})
		}
	}
	return ""
}

// Limits of one call, or of one entry of a range or map function. 0 is the node's.
type Limits struct {
	Fuel   uint64 // instructions of one entry into a guest
	Memory uint64 // bytes of a guest's memory
	Result uint64 // bytes of a result, an encoded accumulator, or one output of a map function
	Reads  uint64 // bytes of the keys and values that a call reads
	Writes uint64 // bytes of the keys and values that a call writes
}

// word is the limit of that name in manifests, or nil.
func (l *Limits) word(name string) *uint64 {
	switch name {
	case "fuel":
		return &l.Fuel
	case "memory":
		return &l.Memory
	case "result":
		return &l.Result
	case "reads":
		return &l.Reads
	case "writes":
		return &l.Writes
	}
	return nil
}

// MaxPrefixes limits the prefixes of a function's reads, and those of its writes: each access is compared with all.
const MaxPrefixes = 16

// MinMemory is the least memory that a guest can have: a page.
const MinMemory = 64 << 10

// appendCapabilities writes the lines that follow a function's own.
func appendCapabilities(dst []byte, c Capabilities) []byte {
	dst = appendAccess(dst, "reads", c.Reads)
	dst = appendAccess(dst, "writes", c.Writes)
	for _, name := range []string{"fuel", "memory", "result", "reads", "writes"} {
		if v := *c.Limits.word(name); v > 0 {
			dst = append(append(append(dst, "limit "...), name...), ' ')
			dst = append(strconv.AppendUint(dst, v, 10), '\n')
		}
	}
	if c.Commutative {
		dst = append(dst, "commutative\n"...)
	}
	return dst
}

func appendAccess(dst []byte, word string, a Access) []byte {
	if a.Restricted && len(a.Prefixes) == 0 {
		return append(append(dst, word...), '\n')
	}
	for _, p := range a.Prefixes {
		dst = append(append(dst, word...), ' ')
		dst = append(appendEscaped(dst, p), '\n')
	}
	return dst
}

const hexDigits = "0123456789ABCDEF"

// appendEscaped writes bytes that are no visible ASCII characters, and '%', as %XX.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

func unescape(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f {
			return "", false
		}
		if c == '%' {
			if len(s) < i+3 {
				return "", false
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		b = append(b, c)
	}
	return string(b), true
}

// capability reads a line about the function e; what is wrong with it is the reason.
func (e *Entry) capability(words []string) (reason string) {
	switch words[0] {
	case "reads":
		return e.access(&e.Reads, words, e.Kind != KindPure)
	case "writes":
		return e.access(&e.Writes, words, e.Kind == KindReadWrite)
	case "limit":
		return e.limit(words)
	}
	switch {
	case len(words) != 1:
		return "a line that begins with commutative has more words"
	case e.Kind != KindReadWrite:
		return e.Name + " is " + e.Kind.String() + "; only a read-write function can be commutative"
	case e.Commutative:
		return "commutative stands twice for " + e.Name
	}
	e.Commutative = true
	return ""
}

func (e *Entry) access(a *Access, words []string, may bool) string {
	word := words[0]
	if !may {
		return e.Name + " is " + e.Kind.String() + ", and functions of this kind have no " + word + " of their own"
	}
	switch {
	case len(words) > 2:
		return "a line is not \"" + word + " PREFIX\": write a space in a prefix as %20"
	case a.Restricted && (len(words) == 1 || len(a.Prefixes) == 0):
		return word + " alone says that " + e.Name + " " + word + " nothing, and can't stand beside other lines with " + word
	case len(a.Prefixes) == MaxPrefixes:
		return e.Name + " has more than 16 prefixes of " + word
	}
	a.Restricted = true
	if len(words) == 1 {
		return ""
	}
	if words[1] == "" {
		return "a prefix of " + word + " is empty; without a line, all keys are allowed"
	}
	p, ok := unescape(words[1])
	if !ok {
		return "the prefix " + strconv.Quote(words[1]) + " is not written as it must be: visible ASCII characters, every other byte and % as %XX with capital digits"
	}
	a.Prefixes = append(a.Prefixes, p)
	return ""
}

func (e *Entry) limit(words []string) string {
	if len(words) != 3 {
		return "a line is not \"limit WHAT NUMBER\""
	}
	field := e.Limits.word(words[1])
	if field == nil {
		return "the limit " + strconv.Quote(words[1]) + " is not fuel, memory, result, reads or writes"
	}
	v, err := strconv.ParseUint(words[2], 10, 63)
	switch {
	case err != nil || v == 0 || words[2][0] == '0' || words[2][0] == '+':
		return "the limit of " + words[1] + " is " + strconv.Quote(words[2]) + ", not a decimal number of at least 1"
	case *field != 0:
		return "the limit of " + words[1] + " stands twice for " + e.Name
	case words[1] == "memory" && v < MinMemory:
		return "the limit of memory is " + words[2] + " bytes, less than one page of 65536"
	case words[1] == "reads" && e.Kind != KindReadOnly && e.Kind != KindReadWrite,
		words[1] == "writes" && e.Kind != KindReadWrite:
		return e.Name + " is " + e.Kind.String() + ", and functions of this kind have no " + words[1] + " of their own to limit"
	}
	*field = v
	return ""
}
