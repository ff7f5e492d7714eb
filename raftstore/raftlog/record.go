package raftlog

import (
	"errors"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// recordKind says what a record of a frame does.
type recordKind byte

const (
	recordCreate    recordKind = 1
	recordReset     recordKind = 2
	recordEntry     recordKind = 3
	recordHardState recordKind = 4
	recordCommit    recordKind = 5
	recordTruncate  recordKind = 6
	recordMeta      recordKind = 7
	recordDestroy   recordKind = 8
	recordStore     recordKind = 9
	recordGroup     recordKind = 10 // in state frames only: a group's head
	recordMoved     recordKind = 11 // an entry that the log has already, at a new place
)

const (
	recordHeaderSize = 16
	entryHeaderSize  = 40 // of an entry's record: record header, checksum, index, term
	positionSize     = 16
	headSize         = 56
	storeHeaderSize  = 8
)

// record is one step of a frame, decoded. Which fields count depends on the kind.
type record struct {
	kind      recordKind
	entryType byte   // of entries, moved or not
	storeKind byte   // of store records
	group     uint64 // the range, or a store record's key
	pos       Position
	vote      uint64
	commit    ids.Index
	head      head   // of group records, without meta
	data      []byte // an entry's data, a meta, a store record's value
	// off and size are the record's place in the payload, without padding; set by encoding and decoding.
	off  uint32
	size uint32
	// entry is what goes to the cache.
	entry *raftpb.Entry
}

func (r *record) id() ids.RangeID { return ids.RangeID(r.group) }

// appendRecord encodes r at the end of dst, whose records begin at base, and notes the place in r.
func appendRecord(dst []byte, base int, r *record) []byte {
	start := len(dst)
	dst = append(dst, byte(r.kind), r.entryType, 0, 0, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, r.group)
	switch r.kind {
	case recordCreate, recordReset, recordTruncate:
		dst = appendPosition(dst, r.pos)
	case recordEntry, recordMoved:
		dst = le.AppendUint64(dst, 0)
		dst = appendPosition(dst, r.pos)
	case recordHardState:
		dst = le.AppendUint64(dst, uint64(r.pos.Term))
		dst = le.AppendUint64(dst, r.vote)
		dst = le.AppendUint64(dst, uint64(r.commit))
	case recordCommit:
		dst = le.AppendUint64(dst, uint64(r.commit))
	case recordStore:
		dst = append(dst, r.storeKind, 0, 0, 0, 0, 0, 0, 0)
	case recordGroup:
		dst = appendHead(dst, &r.head)
	}
	dst = append(dst, r.data...)
	size := len(dst) - start
	le.PutUint32(dst[start+4:], uint32(size-recordHeaderSize))
	if r.kind == recordEntry || r.kind == recordMoved {
		le.PutUint32(dst[start+recordHeaderSize:], entrySum(dst[start:]))
	}
	r.off, r.size = uint32(start-base), uint32(size)
	for (len(dst)-base)%alignment != 0 {
		dst = append(dst, 0)
	}
	return dst
}

func appendPosition(dst []byte, p Position) []byte {
	return le.AppendUint64(le.AppendUint64(dst, uint64(p.Index)), uint64(p.Term))
}

func decodePosition(b []byte) Position {
	return Position{Index: ids.Index(le.Uint64(b)), Term: ids.Term(le.Uint64(b[8:]))}
}

func appendHead(dst []byte, h *head) []byte {
	dst = appendPosition(dst, h.before)
	dst = appendPosition(dst, Position{Index: h.last, Term: h.lastTerm})
	dst = le.AppendUint64(dst, uint64(h.term))
	dst = le.AppendUint64(dst, h.vote)
	return le.AppendUint64(dst, uint64(h.commit))
}

func decodeHead(b []byte) head {
	last := decodePosition(b[16:])
	return head{
		before: decodePosition(b),
		last:   last.Index, lastTerm: last.Term,
		term:   ids.Term(le.Uint64(b[32:])),
		vote:   le.Uint64(b[40:]),
		commit: ids.Index(le.Uint64(b[48:])),
	}
}

// entrySum is the checksum of an entry's record by itself, which reads of one entry check: over everything but the
// checksum. NB: group, index and term are in it, so that one entry is never taken for another.
func entrySum(rec []byte) uint32 {
	sum := crc32.Update(0, castagnoli, rec[:recordHeaderSize])
	return crc32.Update(sum, castagnoli, rec[recordHeaderSize+4:])
}

var (
	errRecordShort = errors.New("a record is cut short")
	errRecordKind  = errors.New("a record is of an unknown kind")
	errRecordSize  = errors.New("a record has a wrong size")
	errRecordZero  = errors.New("a record's reserved bytes are not zero")
	errRecordSum   = errors.New("an entry has a wrong checksum")
)

// decodeRecord reads the record at payload[off:], whose data it shares, and returns where the next one begins.
func decodeRecord(payload []byte, off int) (r record, next int, err error) {
	b := payload[off:]
	if len(b) < recordHeaderSize {
		return r, 0, errRecordShort
	}
	size := recordHeaderSize + int64(le.Uint32(b[4:]))
	if align(size) > int64(len(b)) {
		return r, 0, errRecordShort
	}
	if b[2] != 0 || b[3] != 0 || !allZero(b[size:align(size)]) {
		return r, 0, errRecordZero
	}
	r = record{kind: recordKind(b[0]), entryType: b[1], group: le.Uint64(b[8:]), off: uint32(off), size: uint32(size)}
	if err := r.decodeBody(b[:size:size]); err != nil {
		return r, 0, err
	}
	return r, off + int(align(size)), nil
}

// bodySize is the size of a record's fixed part after its header, and whether data may follow.
func bodySize(k recordKind) (fixed int, data, known bool) {
	switch k {
	case recordCreate:
		return positionSize, true, true
	case recordReset, recordTruncate:
		return positionSize, false, true
	case recordEntry, recordMoved:
		return entryHeaderSize - recordHeaderSize, true, true
	case recordHardState:
		return 24, false, true
	case recordCommit:
		return 8, false, true
	case recordMeta:
		return 0, true, true
	case recordDestroy:
		return 0, false, true
	case recordStore:
		return storeHeaderSize, true, true
	case recordGroup:
		return headSize, true, true
	}
	return 0, false, false
}

func (r *record) decodeBody(rec []byte) error {
	fixed, data, known := bodySize(r.kind)
	body := rec[recordHeaderSize:]
	switch {
	case !known:
		return errRecordKind
	case len(body) < fixed || !data && len(body) > fixed:
		return errRecordSize
	case r.entryType != 0 && r.kind != recordEntry && r.kind != recordMoved:
		return errRecordZero
	}
	r.data = body[fixed:]
	switch r.kind {
	case recordCreate, recordReset, recordTruncate:
		r.pos = decodePosition(body)
	case recordEntry, recordMoved:
		if le.Uint32(body) != entrySum(rec) {
			return errRecordSum
		}
		if le.Uint32(body[4:]) != 0 {
			return errRecordZero
		}
		r.pos = decodePosition(body[8:])
	case recordHardState:
		r.pos.Term, r.vote, r.commit = ids.Term(le.Uint64(body)), le.Uint64(body[8:]), ids.Index(le.Uint64(body[16:]))
	case recordCommit:
		r.commit = ids.Index(le.Uint64(body))
	case recordStore:
		r.storeKind = body[0]
		if !allZero(body[1:storeHeaderSize]) {
			return errRecordZero
		}
	case recordGroup:
		r.head = decodeHead(body)
	}
	return nil
}

// decodeRecords reads all records of a payload.
func decodeRecords(dst []record, payload []byte) ([]record, error) {
	for off := 0; off < len(payload); {
		r, next, err := decodeRecord(payload, off)
		if err != nil {
			return dst, err
		}
		dst = append(dst, r)
		off = next
	}
	return dst, nil
}

// entryBox holds an entry and what its pointers point at, in one piece.
type entryBox struct {
	entry raftpb.Entry
	index uint64
	term  uint64
	typ   raftpb.EntryType
}

// newEntry makes an entry of a decoded record. It copies the data.
func newEntry(r *record) *raftpb.Entry {
	box := &entryBox{index: uint64(r.pos.Index), term: uint64(r.pos.Term), typ: raftpb.EntryType(r.entryType)}
	box.entry.Index, box.entry.Term, box.entry.Type = &box.index, &box.term, &box.typ
	if len(r.data) > 0 {
		box.entry.Data = append([]byte(nil), r.data...)
	}
	return &box.entry
}
