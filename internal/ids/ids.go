// Package ids holds the typed identifiers that every room of Locus shares.
//
// They are numbers on the wire and on disk; the types exist so that a range id is never
// passed where a store id belongs.
package ids

import "strconv"

type (
	// RangeID names a range for ever; allocated by the placement driver, never reused. 0 is invalid.
	RangeID uint64
	// StoreID names a store (one per node); allocated by the placement driver, never reused. 0 is invalid.
	StoreID uint64
	// ReplicaID names one replica of one range and is its Raft node id. Allocated from the range's
	// descriptor and never used twice in a range (Invariant: I11). 0 is invalid.
	ReplicaID uint64
	// KeyspaceID names a keyspace; 0 is the system keyspace, 1 is "default".
	KeyspaceID uint32
	// Index is a position in a range's Raft log.
	Index uint64
	// Term is a Raft term.
	Term uint64
	// Seq is a store's apply sequence: the version of everything one batch entry wrote on that store.
	Seq uint64
)

// SystemRange is the range of the system keyspace; it exists from bootstrap on and is never split.
const SystemRange RangeID = 1

func (id RangeID) String() string   { return "r" + strconv.FormatUint(uint64(id), 10) }
func (id StoreID) String() string   { return "s" + strconv.FormatUint(uint64(id), 10) }
func (id ReplicaID) String() string { return strconv.FormatUint(uint64(id), 10) }
