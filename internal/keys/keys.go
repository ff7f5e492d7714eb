package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/locuskv/locus/internal/ids"
)

// Limits on what users store. Larger is refused with an error that names the limit.
const (
	MaxKeyLen   = 4 << 10
	MaxValueLen = 512 << 10
)

// prefixLen is the length of the keyspace id in a global key.
const prefixLen = 4

// bucketLen is the length of the bucket that a hash-partitioned keyspace puts before the user key.
const bucketLen = 2

// Partition says how a keyspace orders its keys.
type Partition uint8

const (
	// PartitionRange keeps user keys in their own order.
	PartitionRange Partition = 0
	// PartitionHash spreads groups over 65,536 buckets by xxhash64; scans run in bucket order.
	PartitionHash Partition = 1
)

// GroupRule says which prefix of a key names its group: the keys that are never split apart. The zero
// rule makes each key its own group.
type GroupRule struct {
	// Delimiter and Depth: the group is the prefix up to and including the Depth-th Delimiter.
	Delimiter byte
	Depth     int
	// Length: the group is the first Length bytes. Used when Depth is 0.
	Length int
}

// Layout is what one must know of a keyspace to make its global keys.
type Layout struct {
	ID        ids.KeyspaceID
	Partition Partition
	Group     GroupRule
}

// ErrNotInKeyspace says that a global key does not belong to the layout it was decoded with.
var ErrNotInKeyspace = errors.New("keys: key does not belong to the keyspace")

// Of is the part of key that names its group: a prefix of key, not a copy. A key with fewer
// delimiters, or shorter than the length, is its own group.
func (g GroupRule) Of(key []byte) []byte {
	switch {
	case g.Depth > 0:
		n := 0
		for i, b := range key {
			if b == g.Delimiter {
				if n++; n == g.Depth {
					return key[:i+1]
				}
			}
		}
		return key
	case g.Length > 0 && len(key) > g.Length:
		return key[:g.Length]
	default:
		return key
	}
}

// Validate refuses a rule that names both forms or a negative number.
func (g GroupRule) Validate() error {
	if g.Depth < 0 || g.Length < 0 || g.Length > MaxKeyLen {
		return fmt.Errorf("keys: group depth %d and length %d must be between 0 and %d", g.Depth, g.Length, MaxKeyLen)
	}
	if g.Depth > 0 && g.Length > 0 {
		return errors.New("keys: a group rule has either a delimiter with a depth or a length, not both")
	}
	return nil
}

// KeyspacePrefix is the global prefix of every key of a keyspace.
func KeyspacePrefix(id ids.KeyspaceID) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(id))
}

// KeyspaceSpan is the span of all keys of a keyspace.
func KeyspaceSpan(id ids.KeyspaceID) Span {
	return Span{Start: KeyspacePrefix(id), End: KeyspacePrefix(id + 1)}
}

// KeyspaceOf reads the keyspace id of a global key; false if it is too short to have one.
func KeyspaceOf(global []byte) (ids.KeyspaceID, bool) {
	if len(global) < prefixLen {
		return 0, false
	}
	return ids.KeyspaceID(binary.BigEndian.Uint32(global)), true
}

// Encode makes the global key of a user key.
func (l Layout) Encode(user []byte) []byte {
	out := make([]byte, 0, prefixLen+bucketLen+len(user))
	out = binary.BigEndian.AppendUint32(out, uint32(l.ID))
	if l.Partition == PartitionHash {
		out = binary.BigEndian.AppendUint16(out, l.Bucket(user))
	}
	return append(out, user...)
}

// Bucket is the hash bucket of a user key: the high 16 bits of the xxhash64 of its group.
func (l Layout) Bucket(user []byte) uint16 {
	return uint16(xxhash.Sum64(l.Group.Of(user)) >> 48)
}

// Decode is the user key of a global key: a sub-slice, not a copy.
func (l Layout) Decode(global []byte) ([]byte, error) {
	if id, ok := KeyspaceOf(global); !ok || id != l.ID {
		return nil, ErrNotInKeyspace
	}
	n := l.headerLen()
	if len(global) < n {
		return nil, ErrNotInKeyspace
	}
	return global[n:], nil
}

// GroupOf is the group of a global key, as a prefix of it (keyspace and bucket included).
func (l Layout) GroupOf(global []byte) []byte {
	n := l.headerLen()
	if len(global) < n {
		return global
	}
	return global[:n+len(l.Group.Of(global[n:]))]
}

// SplitKey moves a wanted split point down to the start of its group, so that no group is separated.
func (l Layout) SplitKey(global []byte) []byte { return l.GroupOf(global) }

// Span is the global span of all user keys in [start, end) of a range-partitioned keyspace; nil bounds
// are the keyspace's own. A hash keyspace has no ordered user span: use All or GroupSpan.
func (l Layout) Span(start, end []byte) Span {
	s := l.All()
	if start != nil {
		s.Start = l.Encode(start)
	}
	if end != nil {
		s.End = l.Encode(end)
	}
	return s
}

// All is the span of the whole keyspace.
func (l Layout) All() Span { return KeyspaceSpan(l.ID) }

// GroupSpan is the span of all keys of the group that user belongs to.
func (l Layout) GroupSpan(user []byte) Span {
	return PrefixSpan(l.GroupOf(l.Encode(user)))
}

func (l Layout) headerLen() int {
	if l.Partition == PartitionHash {
		return prefixLen + bucketLen
	}
	return prefixLen
}

// Span is the half-open interval [Start, End) of global keys. A nil End is the end of all keys.
type Span struct {
	Start, End []byte
}

// PrefixSpan is the span of all keys that begin with prefix.
func PrefixSpan(prefix []byte) Span {
	return Span{Start: bytes.Clone(prefix), End: PrefixEnd(prefix)}
}

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
func Next(key []byte) []byte { return append(bytes.Clone(key), 0) }

// Contains says whether key lies in the span.
func (s Span) Contains(key []byte) bool {
	return bytes.Compare(key, s.Start) >= 0 && (s.End == nil || bytes.Compare(key, s.End) < 0)
}

// ContainsSpan says whether o lies wholly in s.
func (s Span) ContainsSpan(o Span) bool {
	return bytes.Compare(o.Start, s.Start) >= 0 && compareEnd(o.End, s.End) <= 0
}

// Overlaps says whether the spans share a key.
func (s Span) Overlaps(o Span) bool {
	return (s.End == nil || bytes.Compare(o.Start, s.End) < 0) && (o.End == nil || bytes.Compare(s.Start, o.End) < 0)
}

// Intersect is the common part, which is empty when the spans do not overlap.
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

// String prints the bounds in hexadecimal-escaped form.
func (s Span) String() string { return fmt.Sprintf("[%q,%q)", s.Start, s.End) }

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
