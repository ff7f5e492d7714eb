package packed

import (
	"encoding/binary"

	"github.com/locuskv/locus/internal/hlc"
)

// Reader walks over the records of a batch:
//
//	for r := packed.NewReader(batch); r.Next(); {
//		use(r.Key(), r.Value())
//	}
//
// Check Err after the loop, or Validate the batch before it. Slices returned are parts of the batch, with
// their capacity cut off, so that appending to one never overwrites its neighbour. The zero Reader reads
// the empty batch. A Reader may be copied: the copy goes on from the same place by itself.
type Reader struct {
	batch   []byte
	start   int // of the current record
	next    int // of the record after it
	key     []byte
	value   []byte
	ts      hlc.Timestamp
	expires hlc.Timestamp
	damage  string // not an error: making one allocates
}

// NewReader begins before the first record of a batch. It keeps the batch, and writes nothing to it.
func NewReader(batch []byte) Reader { return Reader{batch: batch} }

// Next goes to the next record; false at the end and at damage, which Err tells apart.
func (r *Reader) Next() bool {
	if r.damage != "" || r.next == len(r.batch) {
		r.clear()
		return false
	}
	r.start = r.next
	b := r.batch[r.start:]
	if len(b) < HeaderLen {
		return r.fail("its header is cut off")
	}
	keyLen := uint64(binary.LittleEndian.Uint16(b))
	flags := binary.LittleEndian.Uint16(b[2:])
	valueLen := uint64(binary.LittleEndian.Uint32(b[4:]))
	r.ts = hlc.Timestamp(binary.LittleEndian.Uint64(b[8:]))
	r.expires = 0
	head := HeaderLen
	if flags&^flagExpires != 0 {
		return r.fail("its flags are unknown")
	}
	if flags&flagExpires != 0 {
		if len(b) < HeaderLen+ExpiresLen {
			return r.fail("its expiry is cut off")
		}
		if r.expires = hlc.Timestamp(binary.LittleEndian.Uint64(b[HeaderLen:])); r.expires == 0 {
			return r.fail("its expiry is zero")
		}
		head += ExpiresLen
	}
	b = b[head:]
	// 64 bits on every platform: the sum of both lengths can't wrap.
	if keyLen+valueLen > uint64(len(b)) {
		return r.fail("its key and value are cut off")
	}
	end := int(keyLen + valueLen)
	r.key = b[:keyLen:keyLen]
	r.value = b[keyLen:end:end]
	r.next = r.start + head + end
	return true
}

// Key is the current record's key, without the stripped bytes.
func (r *Reader) Key() []byte { return r.key }

// Value is the current record's value.
func (r *Reader) Value() []byte { return r.value }

// Timestamp is when the current record was written.
func (r *Reader) Timestamp() hlc.Timestamp { return r.ts }

// Expires is the timestamp from which on the record no longer exists; 0 is never.
func (r *Reader) Expires() hlc.Timestamp { return r.expires }

// Record is the current record as encoded: it can be appended to another batch that strips as much.
func (r *Reader) Record() []byte { return r.batch[r.start:r.next:r.next] }

// Err says why Next returned false: nil at the end, *FormatError at damage.
func (r *Reader) Err() error {
	if r.damage == "" {
		return nil
	}
	return &FormatError{Offset: r.start, Reason: r.damage}
}

func (r *Reader) fail(damage string) bool {
	r.damage = damage
	r.next = r.start
	r.clear()
	return false
}

func (r *Reader) clear() {
	r.start = r.next
	r.key, r.value, r.ts, r.expires = nil, nil, 0, 0
}
