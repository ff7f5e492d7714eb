package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// entryFormat is the version of the batch entry's encoding (docs/format.md, "Batch entries").
const entryFormat = 1

// entryKind says what an entry does besides its writes.
type entryKind uint8

const (
	// entryBatch writes data and nothing else; it may be empty (to close a timestamp).
	entryBatch entryKind = 1
	// entrySplit divides the range; its payload is the child's descriptor and the parent's new one.
	entrySplit entryKind = 2
	// entryReplicas changes the replica set; it is the context of a Raft configuration change, and its
	// payload is the new descriptor.
	entryReplicas entryKind = 3
)

// batchEntry is what one Raft entry of a range says. Every replica accepts it or refuses it alike:
// it is accepted if the Raft term is Term, the range's bounds epoch is Bounds and the range's count of
// accepted entries is Base (rule A1).
type batchEntry struct {
	Kind   entryKind
	Term   ids.Term      // in which it was evaluated
	Base   uint64        // count of accepted entries it was evaluated on
	Bounds uint64        // bounds epoch
	TS     hlc.Timestamp // of everything it writes
	Closed hlc.Timestamp // no later entry has a timestamp at or below it
	// Local are writes to the range's own records (sessions); keys are suffixes of the range's prefix.
	Local []localWrite
	// Data are writes to user data.
	Data []dataWrite
	// Payload depends on Kind.
	Payload []byte
}

// localWrite sets (or with a nil value deletes) one of the range's own records.
type localWrite struct {
	Suffix []byte
	Value  []byte
}

// dataWrite sets or deletes one key. Key is a global key.
type dataWrite struct {
	Key     []byte
	Value   []byte
	Delete  bool
	Expires hlc.Timestamp
}

// maxPresized bounds what a count in an entry makes room for before its writes are seen.
const maxPresized = 4096

// writeOverhead is what a write counts beside its key and value. It is more than it costs in an entry, so that a
// bound on bytes is one on the number of writes too: the engine has both (rule A6).
const writeOverhead = 64

// size is about what the write costs in an entry and in the engine.
func (w *dataWrite) size() int { return len(w.Key) + len(w.Value) + writeOverhead }

const (
	flagDelete  = 1
	flagExpires = 2
)

// sizeBound is at least what appendEntry appends.
func (e *batchEntry) sizeBound() int {
	const lengths = 3 * binary.MaxVarintLen64 // of a key, a value and an expiry
	n := 128 + len(e.Payload)
	for i := range e.Local {
		n += len(e.Local[i].Suffix) + len(e.Local[i].Value) + lengths
	}
	for i := range e.Data {
		n += len(e.Data[i].Key) + len(e.Data[i].Value) + lengths
	}
	return n
}

// appendEntry encodes e.
func appendEntry(dst []byte, e *batchEntry) []byte {
	dst = slices.Grow(dst, e.sizeBound())
	dst = append(dst, entryFormat, byte(e.Kind))
	dst = binary.AppendUvarint(dst, uint64(e.Term))
	dst = binary.AppendUvarint(dst, e.Base)
	dst = binary.AppendUvarint(dst, e.Bounds)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.TS))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Closed))
	dst = binary.AppendUvarint(dst, uint64(len(e.Local)))
	for i := range e.Local {
		w := &e.Local[i]
		dst = appendBytes(dst, w.Suffix)
		dst = appendBytes(dst, w.Value)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Data)))
	for i := range e.Data {
		dst = appendDataWrite(dst, &e.Data[i])
	}
	return appendBytes(dst, e.Payload)
}

func appendDataWrite(dst []byte, w *dataWrite) []byte {
	var flags byte
	if w.Delete {
		flags |= flagDelete
	}
	if w.Expires != 0 {
		flags |= flagExpires
	}
	dst = append(dst, flags)
	dst = appendBytes(dst, w.Key)
	if w.Expires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(w.Expires))
	}
	if !w.Delete {
		dst = appendBytes(dst, w.Value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

var errEntryShort = errors.New("raftstore: batch entry ends early")

// decodeEntry parses an entry. The result's slices are parts of data.
func decodeEntry(data []byte) (*batchEntry, error) {
	d := decoder{b: data}
	if f := d.byte(); d.err == nil && f != entryFormat {
		return nil, fmt.Errorf("raftstore: batch entry has format %d, this version reads %d", f, entryFormat)
	}
	e := &batchEntry{Kind: entryKind(d.byte())}
	e.Term = ids.Term(d.uvarint())
	e.Base = d.uvarint()
	e.Bounds = d.uvarint()
	e.TS = hlc.Timestamp(d.uint64())
	e.Closed = hlc.Timestamp(d.uint64())
	for n := d.count(2); n > 0 && d.err == nil; n-- {
		w := localWrite{Suffix: d.bytes(), Value: d.bytes()}
		if len(w.Value) == 0 {
			w.Value = nil
		}
		e.Local = append(e.Local, w)
	}
	n := d.count(2)
	e.Data = slices.Grow(e.Data, min(n, maxPresized))
	for ; n > 0 && d.err == nil; n-- {
		e.Data = append(e.Data, d.dataWrite())
	}
	e.Payload = d.bytes()
	if err := d.end("batch entry"); err != nil {
		return nil, err
	}
	return e, nil
}

// decoder reads fields off a buffer and remembers the first error.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errEntryShort
	}
	d.b = nil
}

// end returns the first error, or one if anything is left.
func (d *decoder) end(what string) error {
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("raftstore: %d bytes after a %s", len(d.b), what)
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.b) < 1 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint64() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

// count reads the length of a list whose items take at least minBytes each.
func (d *decoder) count(minBytes int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/minBytes) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) dataWrite() dataWrite {
	flags := d.byte()
	if flags&^(flagDelete|flagExpires) != 0 {
		d.fail()
	}
	w := dataWrite{Key: d.bytes(), Delete: flags&flagDelete != 0}
	if flags&flagExpires != 0 {
		w.Expires = hlc.Timestamp(d.uint64())
	}
	if !w.Delete {
		w.Value = d.bytes()
	}
	return w
}
