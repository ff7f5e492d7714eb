// Package keys makes, reads and compares the keys of Locus, and knows which of them belong together.
//
// Users write user keys in a keyspace. Everything between nodes and on disk speaks of global keys:
//
//	range-partitioned:  keyspace id (4 bytes, big endian) | user key
//	hash-partitioned:   keyspace id (4 bytes, big endian) | bucket (2 bytes, big endian) | user key
//
// so that all keys of a keyspace lie together, in their own order or, hashed, in the order of buckets. A
// Layout holds what of a keyspace one must know for this.
//
// A group is a set of keys that no split ever separates, and the largest thing that one write can touch.
// The keyspace's GroupRule names it by a prefix of the user key; a key that has no such prefix is a group
// by itself. The bucket of a hash-partitioned keyspace is the hash of the group, so that a group lies in one
// bucket. Three things hold, and the tests check them for all keys of small alphabets:
//
//   - two keys are of one group exactly when each lies in the other's GroupSpan;
//   - a group's span holds no key of another group;
//   - no point that SplitKey returns lies inside a group.
//
// Spans are half open, [Start, End), everywhere in Locus; a nil End is the end of all keys.
//
// This package never does I/O and never keeps what it is given, but it does not copy either unless it says
// so: what it returns may be part of what it was given.
//
// Start with Layout, then Span.
package keys
