package keys

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"

	"github.com/locuskv/locus/internal/ids"
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

// Layout is what one must know of a keyspace to make its global keys.
type Layout struct {
	ID        ids.KeyspaceID
	Partition Partition
	Group     GroupRule
}

var (
	// ErrNotInKeyspace says that a global key does not belong to the layout it was decoded with.
	ErrNotInKeyspace = errors.New("keys: key does not belong to the keyspace")
	// ErrBucket says that a global key of a hash-partitioned keyspace lies in a bucket that is not its own.
	ErrBucket = errors.New("keys: key lies in a bucket that is not its own")
)

// KeyspacePrefix is the global prefix of every key of a keyspace.
func KeyspacePrefix(id ids.KeyspaceID) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(id))
}

// KeyspaceSpan is the span of all keys of a keyspace.
func KeyspaceSpan(id ids.KeyspaceID) Span {
	return PrefixSpan(KeyspacePrefix(id))
}

// KeyspaceOf reads the keyspace id of a global key; false if it is too short to have one.
func KeyspaceOf(global []byte) (ids.KeyspaceID, bool) {
	if len(global) < prefixLen {
		return 0, false
	}
	return ids.KeyspaceID(binary.BigEndian.Uint32(global)), true
}

// Encode makes the global key of a user key. It checks nothing: see CheckUserKey.
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

// Decode is the user key of a global key: a sub-slice, not a copy. It does not check the bucket: see
// CheckGlobalKey.
func (l Layout) Decode(global []byte) ([]byte, error) {
	if id, ok := KeyspaceOf(global); !ok || id != l.ID {
		return nil, ErrNotInKeyspace
	}
	n := l.HeaderLen()
	if len(global) < n {
		return nil, ErrNotInKeyspace
	}
	return global[n:], nil
}

// GroupOf is the group of a global key, as a prefix of it (keyspace and bucket included). Two keys of a
// keyspace are of one group exactly when this is equal for both.
func (l Layout) GroupOf(global []byte) []byte {
	group, _ := l.splitGlobal(global)
	return group
}

// splitGlobal is GroupRule.split for global keys. What is too short to hold a user key is a group of its own.
func (l Layout) splitGlobal(global []byte) (group []byte, shared bool) {
	n := l.HeaderLen()
	if len(global) < n {
		return global, false
	}
	group, shared = l.Group.split(global[n:])
	return global[:n+len(group)], shared
}

// SplitKey moves a wanted split point down to the start of its group, so that no group is separated.
func (l Layout) SplitKey(global []byte) []byte { return l.GroupOf(global) }

// Span is the global span of all user keys in [start, end) of a range-partitioned keyspace; nil bounds
// are the keyspace's own. A hash keyspace has no ordered user span: use All, GroupSpan or Prefix.
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

// Prefix is the global span of all user keys that begin with prefix. In a hash keyspace they lie together
// only if they are of one group, and else it returns false: All must be scanned and filtered.
func (l Layout) Prefix(prefix []byte) (Span, bool) {
	if l.Partition == PartitionHash && !l.Group.OneGroup(prefix) {
		return Span{}, false
	}
	return PrefixSpan(l.Encode(prefix)), true
}

// All is the span of the whole keyspace.
func (l Layout) All() Span { return KeyspaceSpan(l.ID) }

// GroupSpan is the span of all keys of the group that user belongs to: all that begin with the group's
// prefix, or the key alone where it is its own group.
func (l Layout) GroupSpan(user []byte) Span { return l.GroupSpanOf(l.Encode(user)) }

// GroupSpanOf is GroupSpan for a global key.
func (l Layout) GroupSpanOf(global []byte) Span {
	group, shared := l.splitGlobal(global)
	if shared {
		return PrefixSpan(group)
	}
	return KeySpan(global)
}

func (l Layout) bucketOf(global []byte) uint16 { return binary.BigEndian.Uint16(global[prefixLen:]) }

// HeaderLen is the number of bytes that stand before the user key in each global key of the keyspace: what
// packed batches of user keys strip.
func (l Layout) HeaderLen() int {
	if l.Partition == PartitionHash {
		return prefixLen + bucketLen
	}
	return prefixLen
}
