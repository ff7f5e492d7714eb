package engine

import (
	"bytes"

	"github.com/tidwall/btree"

	"github.com/locuskv/locus/internal/ids"
)

// memIterator walks a copy of the tree.
type memIterator struct {
	engine *Memory
	o      IterOptions
	walk   btree.IterG[memKey]
	valid  bool
	closed bool
	key    []byte
	cur    memVersion
	later  ids.Seq
	err    error
}

func (it *memIterator) Valid() bool      { return it.valid }
func (it *memIterator) Key() []byte      { return it.key }
func (it *memIterator) Value() []byte    { return it.cur.value }
func (it *memIterator) Version() ids.Seq { return it.cur.seq }
func (it *memIterator) Deleted() bool    { return it.cur.deleted }
func (it *memIterator) Record() Record {
	return Record{Key: it.key, Value: it.cur.value, Version: it.cur.seq, Deleted: it.cur.deleted}
}
func (it *memIterator) Later() ids.Seq { return drain(&it.later) }
func (it *memIterator) Err() error     { return it.err }

func (it *memIterator) rewind() {
	if it.o.Reverse {
		it.before(it.o.Span.End)
		return
	}
	it.settle(it.walk.Seek(memKey{key: it.o.Span.Start}))
}

func (it *memIterator) Next() {
	if it.valid {
		it.settle(it.step())
	}
}

func (it *memIterator) Seek(key []byte) {
	switch {
	case it.err != nil:
	case it.o.Reverse:
		if end := it.o.Span.End; end == nil || bytes.Compare(key, end) < 0 {
			it.before(key)
		} else {
			it.before(end)
		}
	case bytes.Compare(key, it.o.Span.Start) < 0:
		it.rewind()
	default:
		it.settle(it.walk.Seek(memKey{key: key}))
	}
}

// before goes to the last key below bound; nil is the end of all keys.
func (it *memIterator) before(bound []byte) {
	if bound == nil || !it.walk.Seek(memKey{key: bound}) {
		it.settle(it.walk.Last())
		return
	}
	it.settle(it.walk.Prev())
}

func (it *memIterator) step() bool {
	if it.o.Reverse {
		return it.walk.Prev()
	}
	return it.walk.Next()
}

// settle goes on from where the walk stands to the first key that the options show.
func (it *memIterator) settle(ok bool) {
	it.valid = false
	for ; ok; ok = it.step() {
		k := it.walk.Item()
		if !it.o.inside(k.key) {
			return
		}
		if n := k.upTo(it.o.Seq); n < len(k.versions) {
			it.later = lower(it.later, k.versions[n].seq)
		}
		v, found := k.at(it.o.Seq)
		if found && it.o.shows(v.seq, v.deleted) {
			it.valid, it.key, it.cur = true, k.key, v
			return
		}
	}
}

func (it *memIterator) Close() {
	it.valid = false
	if it.closed {
		return
	}
	it.closed = true
	it.engine.mu.Lock()
	defer it.engine.mu.Unlock()
	it.engine.mu.iterators--
}

// inside says whether a key that an iterator came to, in its direction, is still in the span.
func (o *IterOptions) inside(key []byte) bool {
	if o.Reverse {
		return bytes.Compare(key, o.Span.Start) >= 0
	}
	return o.Span.End == nil || bytes.Compare(key, o.Span.End) < 0
}

// lower is the lower of two versions, of which 0 is none.
func lower(a, b ids.Seq) ids.Seq {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// drain empties a variable.
func drain(v *ids.Seq) ids.Seq {
	out := *v
	*v = 0
	return out
}

// shows says whether a chosen version is one that the options ask for.
func (o *IterOptions) shows(version ids.Seq, deleted bool) bool {
	return version > o.Since && (o.Tombstones || !deleted)
}
