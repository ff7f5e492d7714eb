package engine

import (
	"bytes"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// maxSteps is how many versions of one key an iterator walks past before it seeks. A seek costs about as
// much as a dozen steps; a key written in every entry has tens of thousands of versions.
const maxSteps = 8

// badgerIterator sees all versions that Badger holds and picks by itself: Badger's own choice hides
// tombstones, and walks every version of a hot key.
//
// Forward, versions of a key come newest first, and the current record is Badger's item itself. Backward
// they come oldest first, so the record is copied out and Badger's iterator stands on the next key.
type badgerIterator struct {
	engine *Badger
	o      IterOptions
	txn    *badger.Txn // sees every version: it is never seen to skip any
	at     *badger.Txn // sees what the reader sees; made for the first hot key
	walk   *badger.Iterator

	valid   bool
	item    *badger.Item // not nil: the record is this item
	key     []byte       // otherwise it is these
	value   []byte
	version ids.Seq
	deleted bool

	hold    func([]byte) error // points value at the item's own copy, which lasts as long as the item
	seekBuf []byte
	ended   bool // a reverse walk was sent below the first key
	later   ids.Seq
	err     error
	closed  bool
}

// NewIterator implements Engine.
func (b *Badger) NewIterator(o IterOptions) Iterator {
	b.iterators.Add(1)
	it := &badgerIterator{engine: b, o: o}
	it.hold = func(value []byte) error { it.value = value; return nil }
	if it.err = b.readable(o.Seq); it.err != nil {
		return it
	}
	if b.db.IsClosed() {
		it.err = fmt.Errorf("engine: iterate: %w", badger.ErrDBClosed)
		return it
	}
	it.txn = b.db.NewTransactionAt(math.MaxUint64, false)
	it.walk = it.txn.NewIterator(badger.IteratorOptions{
		AllVersions: true,
		Reverse:     o.Reverse,
		Prefix:      spanPrefix(o.Span), // lets Badger leave out tables
		SinceTs:     uint64(o.Since),
	})
	it.rewind()
	return it
}

func (it *badgerIterator) Valid() bool { return it.valid }
func (it *badgerIterator) Err() error  { return it.err }

func (it *badgerIterator) Key() []byte {
	if it.item != nil {
		return it.item.Key()
	}
	return it.key
}

func (it *badgerIterator) Version() ids.Seq {
	if it.item != nil {
		return ids.Seq(it.item.Version())
	}
	return it.version
}

func (it *badgerIterator) Deleted() bool {
	if it.item != nil {
		return it.item.IsDeletedOrExpired()
	}
	return it.deleted
}

func (it *badgerIterator) Value() []byte {
	if it.item != nil {
		it.fail(it.item.Value(it.hold))
	}
	return it.value
}

func (it *badgerIterator) Record() (r Record) {
	if it.item == nil {
		return Record{Key: it.key, Value: it.value, Version: it.version, Deleted: it.deleted}
	}
	r.Key, r.Version, r.Deleted = it.item.Key(), ids.Seq(it.item.Version()), it.item.IsDeletedOrExpired()
	if !r.Deleted {
		r.Value = it.Value()
	}
	return r
}

func (it *badgerIterator) Later() ids.Seq { return drain(&it.later) }

func (it *badgerIterator) fail(err error) {
	if err != nil && it.err == nil {
		it.err, it.valid, it.value = fmt.Errorf("engine: value of key %q: %w", it.Key(), err), false, nil
	}
}

// take copies an item's value into the iterator's own buffer.
func (it *badgerIterator) take(item *badger.Item) {
	value, err := item.ValueCopy(it.value[:0])
	it.fail(err)
	it.value = value
}

func (it *badgerIterator) rewind() {
	if it.o.Reverse {
		it.before(it.o.Span.End)
		return
	}
	it.walk.Seek(it.o.Span.Start)
	it.settle()
}

func (it *badgerIterator) Next() {
	if !it.valid {
		return
	}
	if it.item != nil {
		it.key = append(it.key[:0], it.item.Key()...)
		if it.walk.Next(); it.nextShows() {
			return
		}
		it.leave()
	}
	it.settle()
}

// nextShows says whether the walk stands on a version of another key than it.key that the options show, and takes it. It
// says what leave and settle would find out, for the records that most scans are made of, in half the time.
func (it *badgerIterator) nextShows() bool {
	if !it.walk.Valid() {
		return false
	}
	item := it.walk.Item()
	key, v := item.Key(), ids.Seq(item.Version())
	if v > it.o.Seq || bytes.Equal(key, it.key) || !it.o.inside(key) || !it.o.shows(v, item.IsDeletedOrExpired()) {
		return false
	}
	it.item = item
	return true
}

func (it *badgerIterator) Seek(key []byte) {
	switch {
	case it.walk == nil || it.err != nil:
	case it.o.Reverse:
		if end := it.o.Span.End; end == nil || bytes.Compare(key, end) < 0 {
			it.before(key)
		} else {
			it.before(end)
		}
	case bytes.Compare(key, it.o.Span.Start) < 0:
		it.rewind()
	default:
		it.walk.Seek(key)
		it.settle()
	}
}

// before goes to the last key below bound; nil is the end of all keys.
func (it *badgerIterator) before(bound []byte) {
	if bound == nil {
		it.ended = false
		it.walk.Rewind()
	} else {
		it.seekBefore(bound)
	}
	it.settle()
}

// seekBefore places a reverse walk on the last key below bound. Badger can only seek to "at or below", so
// it is given the largest key that is below: keys have a longest length.
func (it *badgerIterator) seekBefore(bound []byte) {
	it.seekBuf = appendBefore(it.seekBuf[:0], bound)
	// Nothing is below the first key; to Badger an empty seek means the far end.
	if it.ended = len(it.seekBuf) == 0; !it.ended {
		it.walk.Seek(it.seekBuf)
	}
}

// appendBefore appends the largest storable key below bound; nothing if there is none.
func appendBefore(dst, bound []byte) []byte {
	n := len(bound) - 1
	if n < 0 {
		return dst
	}
	dst = append(dst, bound[:n]...)
	if bound[n] == 0 {
		return dst
	}
	dst = append(dst, bound[n]-1)
	return append(dst, highest[:max(0, MaxKeyLen-len(dst))]...)
}

// highest is the last key that can be stored.
var highest = bytes.Repeat([]byte{0xff}, MaxKeyLen)

// settle goes on from where the walk stands to the first key that the options show.
func (it *badgerIterator) settle() {
	it.valid, it.item = false, nil
	for it.err == nil && !it.ended && it.walk.Valid() && it.o.inside(it.walk.Item().Key()) {
		found := false
		if it.o.Reverse {
			found = it.pickBackward()
		} else {
			found = it.pickForward()
		}
		if found {
			it.valid = it.err == nil
			return
		}
	}
}

// pickForward chooses a version of the key that the walk stands on. Not found: the walk has moved.
func (it *badgerIterator) pickForward() bool {
	item := it.walk.Item()
	if v := ids.Seq(item.Version()); v <= it.o.Seq {
		if it.o.shows(v, item.IsDeletedOrExpired()) {
			it.item = item
			return true
		}
		it.pass()
		return false
	}
	it.later = lower(it.later, ids.Seq(item.Version()))
	if it.skipNewer(item.Key()) {
		return false // look again: an older version of the key, or another key
	}
	it.later = it.o.Seq + 1
	found := it.pickPoint()
	it.walk.Seek(keys.Next(it.key))
	return found
}

// pass leaves the key that the walk stands on.
func (it *badgerIterator) pass() {
	it.key = append(it.key[:0], it.walk.Item().Key()...)
	it.walk.Next()
	it.leave()
}

// leave goes on to where the walk is past it.key.
func (it *badgerIterator) leave() {
	for range maxSteps {
		if !it.onKey() {
			return
		}
		it.walk.Next()
	}
	if it.onKey() {
		it.walk.Seek(keys.Next(it.key))
	}
}

// skipNewer walks past versions of a key that are above the reader's. False: there are too many.
func (it *badgerIterator) skipNewer(key []byte) bool {
	it.key = append(it.key[:0], key...)
	for range maxSteps {
		it.walk.Next()
		if !it.onKey() {
			return true
		}
		v := ids.Seq(it.walk.Item().Version())
		if v <= it.o.Seq {
			return true
		}
		it.later = lower(it.later, v)
	}
	return false
}

// pickBackward chooses a version of the key that the walk stands on, and leaves the key.
func (it *badgerIterator) pickBackward() bool {
	it.key = append(it.key[:0], it.walk.Item().Key()...)
	it.version = 0
	for range maxSteps {
		item := it.walk.Item()
		if v := ids.Seq(item.Version()); v <= it.o.Seq {
			it.version, it.deleted = v, item.IsDeletedOrExpired()
			it.take(item)
		} else {
			it.later = lower(it.later, v)
		}
		it.walk.Next()
		if !it.onKey() {
			return it.version != 0 && it.o.shows(it.version, it.deleted)
		}
	}
	it.later = it.o.Seq + 1
	found := it.pickPoint()
	it.seekBefore(it.key)
	return found
}

// onKey says whether the walk still stands on a version of it.key.
func (it *badgerIterator) onKey() bool {
	return it.walk.Valid() && bytes.Equal(it.walk.Item().Key(), it.key)
}

// pickPoint chooses a version of it.key without walking over the others.
func (it *badgerIterator) pickPoint() bool {
	if it.at == nil {
		it.at = it.engine.db.NewTransactionAt(uint64(it.o.Seq), false)
	}
	p, err := lookup(it.at, it.key)
	if err != nil {
		it.err = fmt.Errorf("engine: iterate at key %q: %w", it.key, err)
		return false
	}
	it.value, it.version, it.deleted = p.value, p.version, p.deleted
	return p.version != 0 && it.o.shows(p.version, p.deleted)
}

func (it *badgerIterator) Close() {
	it.valid, it.item = false, nil
	if it.closed {
		return
	}
	it.closed = true
	if it.walk != nil {
		it.walk.Close()
		it.txn.Discard()
	}
	if it.at != nil {
		it.at.Discard()
	}
	it.engine.iterators.Add(-1)
}

// spanPrefix is the longest prefix that all keys of a span share; keys outside may have it too.
func spanPrefix(s keys.Span) []byte {
	if s.End == nil {
		return nil
	}
	n := 0
	for n < len(s.Start) && n < len(s.End) && s.Start[n] == s.End[n] {
		n++
	}
	// [abc, abd) lies under abc although its ends share only ab.
	if n < len(s.Start) && n == len(s.End)-1 && s.Start[n]+1 == s.End[n] && s.Start[n] != 0xff {
		n++
	}
	return s.Start[:n]
}
