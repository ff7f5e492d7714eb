package raftstore

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// Engine keys: user data under 'd' + global key, a range's own records under 'r' + range id + suffix.
const (
	prefixData  = 'd'
	prefixLocal = 'r'
)

// Suffixes of a range's own records.
const (
	suffixApplied    = 'a' // appliedState, written with every entry: its versions map timestamps to sequences
	suffixDescriptor = 'c' // locuspb.RangeDescriptor
	suffixIngest     = 'i' // locuspb.IngestFlag: a snapshot is being ingested
	suffixLineage    = 'l' // locuspb.Lineage
	suffixSession    = 's' // + session id + entry count: sessionDelta
)

// Kinds of store records in the log.
const (
	recordIdent      = 1 // locuspb.StoreIdent
	recordCheckpoint = 2 // locuspb.Checkpoint
	recordTombstone  = 3 // locuspb.Tombstone, by range id
)

// dataKey is the engine key of a global key.
func dataKey(global []byte) []byte {
	out := make([]byte, 0, 1+len(global))
	out = append(out, prefixData)
	return append(out, global...)
}

// dataSpan is the engine span of a span of global keys.
func dataSpan(s keys.Span) keys.Span {
	out := keys.Span{Start: dataKey(s.Start), End: []byte{prefixData + 1}}
	if s.End != nil {
		out.End = dataKey(s.End)
	}
	return out
}

// localKey is the engine key of one of a range's own records.
func localKey(id ids.RangeID, suffix ...byte) []byte {
	out := make([]byte, 0, 9+len(suffix))
	out = append(out, prefixLocal)
	out = binary.BigEndian.AppendUint64(out, uint64(id))
	return append(out, suffix...)
}

// localSpan is the engine span of all records of a range whose suffix begins with the given bytes.
func localSpan(id ids.RangeID, suffix ...byte) keys.Span {
	return keys.PrefixSpan(localKey(id, suffix...))
}

// appliedState is what a range has applied. It is replicated state: at equal Index every replica holds
// the same (Invariant: I2).
type appliedState struct {
	Index  ids.Index
	Term   ids.Term // of the entry at Index
	Count  uint64   // accepted entries: the base of the next (rule A1)
	TS     hlc.Timestamp
	Closed hlc.Timestamp
	// Bytes and Records estimate the user data: overwritten and expired records count until they are
	// recounted.
	Bytes   uint64
	Records uint64
}

const appliedFormat = 1

func (a *appliedState) encode() []byte {
	out := make([]byte, 0, 64)
	out = append(out, appliedFormat)
	out = binary.BigEndian.AppendUint64(out, uint64(a.TS))
	out = binary.BigEndian.AppendUint64(out, uint64(a.Closed))
	out = binary.AppendUvarint(out, uint64(a.Index))
	out = binary.AppendUvarint(out, uint64(a.Term))
	out = binary.AppendUvarint(out, a.Count)
	out = binary.AppendUvarint(out, a.Bytes)
	return binary.AppendUvarint(out, a.Records)
}

func decodeApplied(b []byte) (appliedState, error) {
	d := decoder{b: b}
	if f := d.byte(); d.err == nil && f != appliedFormat {
		return appliedState{}, fmt.Errorf("raftstore: applied state has format %d, this version reads %d", f, appliedFormat)
	}
	var a appliedState
	a.TS = hlc.Timestamp(d.uint64())
	a.Closed = hlc.Timestamp(d.uint64())
	a.Index = ids.Index(d.uvarint())
	a.Term = ids.Term(d.uvarint())
	a.Count = d.uvarint()
	a.Bytes = d.uvarint()
	a.Records = d.uvarint()
	return a, d.end("applied state")
}

func encodeDescriptor(d *topology.Descriptor) []byte { return mustMarshal(api.DescriptorToProto(d)) }

func decodeDescriptor(b []byte) (*topology.Descriptor, error) {
	var p locuspb.RangeDescriptor
	if err := proto.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("raftstore: range descriptor: %w", err)
	}
	return api.DescriptorFromProto(&p)
}

// mustMarshal encodes a message that this package built itself: it can't fail. Deterministic, because
// replicas compare what they wrote.
func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("raftstore: marshal %T: %v", m, err))
	}
	return b
}

// groupMeta is the log's own record of a group: which replica this store has of it, and what created it.
type groupMeta struct {
	Replica     ids.ReplicaID
	ParentRange ids.RangeID // 0: not created by a split
	ParentIndex ids.Index
}

const groupMetaFormat = 1

func (m groupMeta) encode() []byte {
	out := []byte{groupMetaFormat}
	out = binary.AppendUvarint(out, uint64(m.Replica))
	out = binary.AppendUvarint(out, uint64(m.ParentRange))
	return binary.AppendUvarint(out, uint64(m.ParentIndex))
}

func decodeGroupMeta(b []byte) (groupMeta, error) {
	d := decoder{b: b}
	if f := d.byte(); d.err == nil && f != groupMetaFormat {
		return groupMeta{}, fmt.Errorf("raftstore: group record has format %d, this version reads %d", f, groupMetaFormat)
	}
	m := groupMeta{
		Replica:     ids.ReplicaID(d.uvarint()),
		ParentRange: ids.RangeID(d.uvarint()),
		ParentIndex: ids.Index(d.uvarint()),
	}
	return m, d.end("group record")
}
