package keys

import (
	"bytes"
	"fmt"
)

// Span is the half-open interval [Start, End) of global keys. A nil End is the end of all keys. The zero
// Span is all keys. Spans are values: their bounds are shared when they are copied, and never written to.
type Span struct {
	Start, End []byte
}

// PrefixSpan is the span of all keys that begin with prefix.
func PrefixSpan(prefix []byte) Span {
	return Span{Start: bytes.Clone(prefix), End: PrefixEnd(prefix)}
}

// KeySpan is the span of one key alone.
func KeySpan(key []byte) Span { return Span{Start: bytes.Clone(key), End: Next(key)} }

// PrefixEnd is the smallest key above every key with the prefix; nil if there is none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// Next is the smallest key above key.
func Next(key []byte) []byte {
	next := make([]byte, len(key)+1)
	copy(next, key)
	return next
}

// Contains says whether key lies in the span.
func (s Span) Contains(key []byte) bool {
	return bytes.Compare(key, s.Start) >= 0 && (s.End == nil || bytes.Compare(key, s.End) < 0)
}

// ContainsSpan says whether o lies wholly in s. It compares the bounds, also those of an empty span.
func (s Span) ContainsSpan(o Span) bool {
	return bytes.Compare(o.Start, s.Start) >= 0 && compareEnd(o.End, s.End) <= 0
}

// Overlaps says whether the spans share a key.
func (s Span) Overlaps(o Span) bool {
	return !s.Intersect(o).Empty()
}

// Intersect is the common part, which is empty when the spans do not overlap. It shares their bounds.
func (s Span) Intersect(o Span) Span {
	out := s
	if bytes.Compare(o.Start, out.Start) > 0 {
		out.Start = o.Start
	}
	if compareEnd(o.End, out.End) < 0 {
		out.End = o.End
	}
	return out
}

// Empty says whether the span holds no key.
func (s Span) Empty() bool { return s.End != nil && bytes.Compare(s.Start, s.End) >= 0 }

// Equal compares bounds.
func (s Span) Equal(o Span) bool {
	return bytes.Equal(s.Start, o.Start) && compareEnd(s.End, o.End) == 0
}

// Clone copies the bounds.
func (s Span) Clone() Span {
	return Span{Start: bytes.Clone(s.Start), End: bytes.Clone(s.End)}
}

// String prints the bounds, quoted.
func (s Span) String() string {
	if s.End == nil {
		return fmt.Sprintf("[%q,end)", s.Start)
	}
	return fmt.Sprintf("[%q,%q)", s.Start, s.End)
}

// compareEnd orders two ends, where nil is the highest.
func compareEnd(a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a, b)
}
