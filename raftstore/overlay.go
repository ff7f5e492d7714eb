package raftstore

import (
	"bytes"

	"github.com/tidwall/btree"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/raftstore/engine"
)

// record is a user record as a command sees it.
type record struct {
	Key     []byte
	Value   []byte
	TS      hlc.Timestamp
	Expires hlc.Timestamp
}

// pendingWrite is a write that was proposed and is not yet applied.
type pendingWrite struct {
	dataWrite
	ts   hlc.Timestamp
	base uint64 // of its entry
}

// overlay holds what a range has proposed and not applied, newest write per key. It belongs to the
// sequencer's evaluation and to nobody else.
type overlay struct {
	writes btree.Map[string, pendingWrite]
}

func (o *overlay) put(w dataWrite, ts hlc.Timestamp, base uint64) {
	o.putAt(string(w.Key), w, ts, base)
}

// putAt is put where the key is at hand as a string.
func (o *overlay) putAt(key string, w dataWrite, ts hlc.Timestamp, base uint64) {
	o.writes.Set(key, pendingWrite{dataWrite: w, ts: ts, base: base})
}

// drop removes what the entry with this base wrote, where nothing newer covers it.
func (o *overlay) drop(writes []dataWrite, base uint64) {
	for i := range writes {
		k := string(writes[i].Key)
		if w, ok := o.writes.Get(k); ok && w.base == base {
			o.writes.Delete(k)
		}
	}
}

// view is what an evaluation sees: the engine at one sequence under one overlay (rule A4).
type view struct {
	store   *Store
	seq     ids.Seq
	rows    rowsAt
	overlay *overlay
	// at is the entry's timestamp: expiry is judged by it.
	at hlc.Timestamp
	// logged is the last timestamp of the range before this evaluation, of what is proposed too.
	logged hlc.Timestamp
	// judged: something that was read has expired since then, by at alone. Unless the log says so too, somebody else may
	// still see it (rule C7).
	judged bool
	// seen is the highest base of an overlay write that was read, plus one; 0 if none.
	seen uint64
}

// expired judges an expiry by the entry's timestamp.
func (v *view) expired(expires hlc.Timestamp) bool {
	if expires == 0 || expires > v.at {
		return false
	}
	v.judged = v.judged || expires > v.logged
	return true
}

// get reads one key.
func (v *view) get(key []byte) (record, bool, error) {
	if w, ok := v.overlay.writes.Get(string(key)); ok {
		v.seen = max(v.seen, w.base+1)
		if w.Delete || v.expired(w.Expires) {
			return record{}, false, nil
		}
		// A copy, as the engine's is: the entry is not encoded yet.
		return record{Key: key, Value: bytes.Clone(w.Value), TS: w.ts, Expires: w.Expires}, true, nil
	}
	val, found, err := v.store.get(key, v.seq, v.rows)
	if err != nil || !found || v.expired(val.Expires) {
		return record{}, false, err
	}
	return record{Key: key, Value: val.Data, TS: val.Timestamp, Expires: val.Expires}, true, nil
}

// scan calls f with every living record of span in key order until it returns false. Key and Value are
// valid during the call only.
func (v *view) scan(span keys.Span, f func(record) bool) error {
	it := v.store.engine.NewIterator(engine.IterOptions{Span: dataSpan(span), Seq: v.seq})
	defer it.Close()
	ov := v.overlay.writes.Iter()
	ovOK := ov.Seek(string(span.Start)) && span.Contains([]byte(ov.Key()))
	for it.Valid() || ovOK {
		order := -1 // engine first
		if !it.Valid() {
			order = 1
		} else if ovOK {
			order = bytes.Compare(it.Key()[1:], []byte(ov.Key()))
		}
		if order < 0 {
			val, err := engine.ParseValue(it.Value())
			if err != nil {
				return err
			}
			if !v.expired(val.Expires) && !f(record{Key: it.Key()[1:], Value: val.Data, TS: val.Timestamp, Expires: val.Expires}) {
				return nil
			}
			it.Next()
			continue
		}
		w := ov.Value()
		v.seen = max(v.seen, w.base+1)
		if !w.Delete && !v.expired(w.Expires) {
			if !f(record{Key: w.Key, Value: w.Value, TS: w.ts, Expires: w.Expires}) {
				return nil
			}
		}
		if order == 0 {
			it.Next()
		}
		ovOK = ov.Next() && span.Contains([]byte(ov.Key()))
	}
	return it.Err()
}

// packedBytes is the target size of a packed batch.
const packedBytes = 64 << 10

// scanPacked is scan in packed batches, leaving out the first strip bytes of each key. If f returns false, last is the
// last key that it was shown.
func (v *view) scanPacked(span keys.Span, strip int, f func(batch []byte) bool) (last []byte, err error) {
	var batch []byte
	stopped := false
	err = v.scan(span, func(r record) bool {
		batch = packed.Append(batch, r.Key[min(strip, len(r.Key)):], r.Value, r.TS, r.Expires)
		if len(batch) >= packedBytes {
			if stopped = !f(batch); stopped {
				last = bytes.Clone(r.Key)
			}
			batch = batch[:0]
		}
		return !stopped
	})
	if err == nil && !stopped && len(batch) > 0 {
		f(batch)
	}
	return last, err
}
