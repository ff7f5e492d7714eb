package client

import (
	"bytes"
	"time"

	"github.com/locuskv/locus/internal/hlc"
)

// Timestamp is a hybrid logical time of Locus: comparing two as integers compares them as times. 0 is none.
type Timestamp uint64

// Time is the physical part as wall time, in milliseconds.
func (t Timestamp) Time() time.Time { return hlc.Timestamp(t).Time() }

// Add moves t by d, rounded down to milliseconds; it never goes below 0.
func (t Timestamp) Add(d time.Duration) Timestamp { return Timestamp(hlc.Timestamp(t).Add(d)) }

// String prints milliseconds since the Unix epoch, a point, and the logical counter.
func (t Timestamp) String() string { return hlc.Timestamp(t).String() }

// Item is one record. Its slices belong to the receiver.
type Item struct {
	Key       []byte
	Value     []byte
	Timestamp Timestamp // of the write
	Expires   Timestamp // 0: never
}

// RangeID names a range for ever.
type RangeID uint64

// StoreID names a store; each node has one.
type StoreID uint64

// Key is one key of a keyspace, as the target of a function call.
type Key struct {
	ks  *Keyspace
	key []byte
}

// Group is one group of a keyspace: the keys that share a prefix by the keyspace's group rule and are never
// split apart. Without a group rule each key is a group.
type Group struct {
	ks  *Keyspace
	key []byte
}

// Span is a half-open interval [start, end) of a keyspace's keys.
type Span struct {
	ks     *Keyspace
	start  []byte // nil: the keyspace's first key
	end    []byte // nil: past its last
	prefix []byte // nil: start and end count
}

// Key names a key of the keyspace.
func (k *Keyspace) Key(key []byte) Key { return Key{k, bytes.Clone(key)} }

// Group names the group that key belongs to; the group's prefix itself will do.
func (k *Keyspace) Group(key []byte) Group { return Group{k, bytes.Clone(key)} }

// Span is the interval of keys from start up to end, without end. A nil start or end is the keyspace's own.
// In a hash-partitioned keyspace both have to lie in one group.
func (k *Keyspace) Span(start, end []byte) Span {
	return Span{ks: k, start: bytes.Clone(start), end: bytes.Clone(end)}
}

// Prefix is the interval of the keys that begin with prefix. In a hash-partitioned keyspace the prefix has
// to contain a whole group's.
func (k *Keyspace) Prefix(prefix []byte) Span {
	if len(prefix) == 0 {
		return k.All()
	}
	return Span{ks: k, prefix: bytes.Clone(prefix)}
}

// All is the interval of all keys of the keyspace.
func (k *Keyspace) All() Span { return Span{ks: k} }
