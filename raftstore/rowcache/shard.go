package rowcache

import (
	"bytes"
	"sync"

	"github.com/locuskv/locus/internal/ids"
)

const (
	// maxRowShare: a row that is larger than this part of a ring is not kept.
	maxRowShare = 8
	// maxChances bounds the rows that one put moves to a second place, and so its work. A few are too few: hot rows that were
	// filled together come to the head together.
	maxChances = 64
)

// shard is a part of the keys.
type shard struct {
	mu sync.Mutex
	// touched is the highest sequence that Apply was called with.
	touched ids.Seq
	index   index
	ring    ring
	stats   Stats
	_       [64]byte // neighbours' locks are not on this one's cache line
}

// init divides what a shard may take: an eighth for the index, which is enough for rows of 75 bytes and more, headers
// included; of smaller ones the ring takes fewer than would fit.
func (s *shard) init(maxBytes int64, from ids.Seq) {
	s.touched = from
	s.index.max = int(maxBytes / 8 / slotBytes)
	s.ring.max = int(maxBytes-int64(s.index.max)*slotBytes) / align * align
}

func (s *shard) bytes() int64 { return int64(len(s.ring.buf)) + int64(len(s.index.slots))*slotBytes }

// find returns the row of a key and its place in the index, or nil.
func (s *shard) find(tag uint32, key []byte) (slot int, r record) {
	if s.index.rows == 0 {
		return 0, nil
	}
	for i := s.index.home(tag); s.index.slots[i] != 0; i = s.index.next(i) {
		if s.index.slots[i].tag() == tag {
			if r := s.ring.at(s.index.slots[i].offset()); bytes.Equal(r.key(), key) {
				return i, r
			}
		}
	}
	return 0, nil
}

// put makes row the row of key and says whether it is kept; whatever was there is not.
func (s *shard) put(tag uint32, key []byte, gen uint64, version ids.Seq, row *Row) bool {
	n := recordLen(len(key), len(row.Value))
	if slot, r := s.find(tag, key); r != nil {
		if n <= r.size() {
			r.write(gen, version, row)
			return true
		}
		s.index.remove(slot)
		r.set(flagLive, false)
	}
	if n > s.ring.max/maxRowShare || s.index.max < minSlots {
		return false
	}
	// NB: nothing is evicted between the reservation and the end: there is no record there yet.
	off := s.reserve(n)
	r := s.ring.create(off, n, tag, key)
	r.write(gen, version, row)
	s.index.insert(tag, off)
	return true
}

// reserve makes room for a record of n bytes and its slot.
func (s *shard) reserve(n int) int {
	chances := maxChances
	for s.index.full() && !s.index.grow() {
		s.evict(&chances)
	}
	for {
		if off, ok := s.ring.reserve(n); ok {
			return off
		}
		if !s.grow() {
			s.evict(&chances)
		}
	}
}

// evict takes the oldest record out of the ring. If it was read since it came there, it is written again as the newest.
func (s *shard) evict(chances *int) {
	r, from := s.ring.pop()
	if !r.is(flagLive) {
		return
	}
	slot := s.index.of(r.tag(), from)
	if r.is(flagReferenced) && *chances > 0 {
		*chances--
		if to, ok := s.ring.reserve(r.need()); ok {
			s.index.slots[slot] = makeSlot(r.tag(), to)
			s.ring.move(r, to).set(flagReferenced, false)
			return
		}
	}
	s.index.remove(slot)
	s.stats.Evictions++
}

// grow doubles the ring up to its bound and leaves dead records behind. It says whether there was anything to gain.
func (s *shard) grow() bool {
	old := s.ring
	if !s.ring.grow() {
		return false
	}
	for old.head < old.tail {
		r, from := old.pop()
		if !r.is(flagLive) {
			continue
		}
		to, _ := s.ring.reserve(r.need()) // the new ring is larger
		s.ring.move(r, to)
		s.index.slots[s.index.of(r.tag(), from)] = makeSlot(r.tag(), to)
	}
	return true
}
