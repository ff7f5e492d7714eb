package raftlog

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// slot is where an entry is. seg is nil in a recovery for an entry whose place is only known from the record of its
// move.
type slot struct {
	term ids.Term
	seg  *segment
	off  uint32 // of the record in the segment's file
	size uint32 // of the record, without padding
	e    *raftpb.Entry
}

// group is what the index knows of a group. Invariant: len(slots) == last - before.Index.
type group struct {
	id ids.RangeID
	head
	slots []slot // of before.Index+1 to last
	bytes int64  // of the records of all slots
}

func (g *group) slot(i ids.Index) *slot { return &g.slots[i-g.before.Index-1] }

// release gives up slots: their bytes are no longer alive.
func (g *group) release(slots []slot) {
	for i := range slots {
		s := &slots[i]
		if s.seg != nil {
			s.seg.live -= int64(s.size)
			g.bytes -= int64(s.size)
		}
		*s = slot{} // let go of the entry
	}
}

func (g *group) put(s *slot, to slot) {
	if s.seg != nil {
		s.seg.live -= int64(s.size)
		g.bytes -= int64(s.size)
	}
	*s = to
	to.seg.live += int64(to.size)
	g.bytes += int64(to.size)
}

// append puts an entry at index i and drops what followed.
func (g *group) append(i ids.Index, s slot) {
	keep := int(i - g.before.Index - 1)
	g.release(g.slots[keep:])
	g.slots = append(g.slots[:keep], slot{})
	g.put(&g.slots[keep], s)
	g.last = i
}

// truncate drops the slots up to p, and their memory where that is the greater part.
func (g *group) truncate(p Position) {
	n := int(p.Index - g.before.Index)
	g.release(g.slots[:n])
	g.slots = g.slots[n:]
	g.before = p
	if n > len(g.slots) {
		g.slots = slices.Clone(g.slots)
	}
}

func (g *group) clear(p Position) {
	g.release(g.slots)
	g.slots = nil
	g.before, g.last = p, p.Index
}

// storeKey names a store record.
type storeKey struct {
	kind byte
	key  uint64
}

// index is the log's content in memory.
type index struct {
	groups map[ids.RangeID]*group
	store  map[storeKey][]byte
	cache  cache
}

func newIndex(cacheBytes int64) *index {
	return &index{
		groups: map[ids.RangeID]*group{},
		store:  map[storeKey][]byte{},
		cache:  cache{limit: cacheBytes},
	}
}

// stage checks the records against the laws and returns those that change something.
func (x *index) stage(st *staging, records []record) ([]record, error) {
	kept := records[:0]
	for i := range records {
		r := &records[i]
		if r.kind != recordStore {
			keep, err := st.group(r.id(), x.groups[r.id()]).step(r)
			if err != nil {
				return nil, err
			}
			if !keep {
				continue
			}
		}
		kept = append(kept, *r)
	}
	return kept, nil
}

// apply makes the index what the staged records say; their frame's payload begins at base in seg.
func (x *index) apply(st *staging, records []record, seg *segment, base int64) {
	for i := range records {
		x.applyRecord(&records[i], seg, base)
	}
	for _, s := range st.order {
		g := x.groups[s.id]
		if (g != nil) != s.exists {
			panic(fmt.Sprintf("raftlog: range %v: staged %t, applied %t", s.id, s.exists, g != nil))
		}
		if g == nil {
			continue
		}
		g.head = s.head
		if len(g.slots) != int(g.last-g.before.Index) {
			panic(fmt.Sprintf("raftlog: range %v has %d slots for %v", s.id, len(g.slots), &g.head))
		}
	}
}

func (x *index) applyRecord(r *record, seg *segment, base int64) {
	g := x.groups[r.id()]
	place := slot{term: r.pos.Term, seg: seg, off: uint32(base + int64(r.off)), size: r.size}
	switch r.kind {
	case recordCreate, recordReset:
		if g == nil {
			g = &group{id: r.id()}
			x.groups[g.id] = g
		}
		g.clear(r.pos)
	case recordEntry:
		g.append(r.pos.Index, place)
		x.cache.add(g, r.pos.Index, r.entry)
	case recordMoved:
		s := g.slot(r.pos.Index)
		place.e = s.e
		g.put(s, place)
	case recordTruncate:
		g.truncate(r.pos)
	case recordDestroy:
		g.release(g.slots)
		delete(x.groups, g.id)
	case recordStore:
		key := storeKey{kind: r.storeKind, key: r.group}
		if len(r.data) == 0 {
			delete(x.store, key)
		} else {
			x.store[key] = slices.Clone(r.data)
		}
	}
}

// appendState encodes everything but the entries, the same way for the same content.
func (x *index) appendState(dst []byte) []byte {
	base := len(dst)
	for _, id := range x.sortedGroups() {
		g := x.groups[id]
		dst = appendRecord(dst, base, &record{kind: recordGroup, group: uint64(id), head: g.head, data: g.meta})
	}
	for _, k := range x.sortedStore() {
		dst = appendRecord(dst, base, &record{kind: recordStore, storeKind: k.kind, group: k.key, data: x.store[k]})
	}
	return dst
}

// loadState is the reverse. The slots of all entries are there and empty: the entries' own records, or those of
// their moves, follow.
func (x *index) loadState(records []record) error {
	for i := range records {
		switch r := &records[i]; r.kind {
		case recordGroup:
			h := r.head
			if h.before.Index > h.last || h.commit > h.last || h.commit < h.before.Index || x.groups[r.id()] != nil {
				return fmt.Errorf("range %v with %v makes no sense", r.id(), &h)
			}
			if h.last-h.before.Index > maxFrame {
				return fmt.Errorf("range %v has too many entries: %v", r.id(), &h)
			}
			h.meta = slices.Clone(r.data)
			x.groups[r.id()] = &group{id: r.id(), head: h, slots: make([]slot, h.last-h.before.Index)}
		case recordStore:
			x.applyRecord(r, nil, 0)
		default:
			return errRecordKind
		}
	}
	return nil
}

func (x *index) sortedGroups() []ids.RangeID { return slices.Sorted(maps.Keys(x.groups)) }

func (x *index) sortedStore() []storeKey {
	return slices.SortedFunc(maps.Keys(x.store), func(a, b storeKey) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		if a.key < b.key {
			return -1
		}
		return 1
	})
}
