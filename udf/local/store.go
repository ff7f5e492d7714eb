package local

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// batchBytes is about how long a batch is: the record that reaches it is the last.
const batchBytes = 64 << 10

// Record is a key and its value.
type Record struct{ Key, Value []byte }

// Write is what a call did to a key in the end.
type Write struct {
	Key, Value []byte
	Deleted    bool
	TTL        time.Duration // 0: never
}

// table is a sorted list of records, of which the last with a key counts.
type table []Record

func newTable(records []Record) (table, error) {
	t := slices.Clone(records)
	slices.SortStableFunc(t, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	last := t[:0]
	for i, r := range t {
		if err := check(r.Key, r.Value); err != nil {
			return nil, err
		}
		if i+1 == len(t) || !bytes.Equal(r.Key, t[i+1].Key) {
			last = append(last, r)
		}
	}
	return last, nil
}

// check refuses what no store takes, with the error that a cluster's client would get.
func check(key, value []byte) error {
	err := keys.Layout{}.CheckUserKey(key)
	if err == nil {
		err = keys.CheckValue(value)
	}
	return api.FromProto(api.ToProto(err))
}

// find is where a key stands, or would.
func (t table) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(t, key, func(r Record, key []byte) int { return bytes.Compare(r.Key, key) })
}

// batch packs the first records of a span; they are all if the next position is its end.
func (t table) batch(at, end int, written hlc.Timestamp) (batch []byte, next int) {
	for ; at < end && len(batch) < batchBytes; at++ {
		batch = packed.Append(batch, t[at].Key, t[at].Value, written, 0)
	}
	return batch, at
}

func (t table) bounds(s udf.Span) (from, to int) {
	from, _ = t.find(s.Start)
	if to = len(t); len(s.End) > 0 {
		to, _ = t.find(s.End)
	}
	return from, max(from, to)
}

// tx is the transaction of one call on one group.
type tx struct {
	records table
	writes  map[string]Write
	in      func(key []byte) bool // the group
	span    udf.Span              // that has the group
	written hlc.Timestamp         // of the records
}

var _ udf.StoreTx = (*tx)(nil)

func (t *tx) Get(key []byte) (value []byte, found bool, err error) {
	if !t.in(key) {
		return nil, false, api.ErrNotOneGroup
	}
	i, found := t.records.find(key)
	if !found {
		return nil, false, nil
	}
	return bytes.Clone(t.records[i].Value), true, nil
}

func (t *tx) Put(key, value []byte, ttl time.Duration) error {
	if err := check(key, value); err != nil {
		return err
	}
	if !t.in(key) {
		return api.ErrNotOneGroup
	}
	r := Record{bytes.Clone(key), append([]byte{}, value...)}
	i, found := t.records.find(key)
	if found {
		t.records[i] = r
	} else {
		t.records = slices.Insert(t.records, i, r)
	}
	t.writes[string(key)] = Write{Key: r.Key, Value: r.Value, TTL: ttl}
	return nil
}

func (t *tx) Delete(key []byte) error {
	if !t.in(key) {
		return api.ErrNotOneGroup
	}
	if i, found := t.records.find(key); found {
		t.records = slices.Delete(t.records, i, i+1)
	}
	t.writes[string(key)] = Write{Key: bytes.Clone(key), Deleted: true}
	return nil
}

// Scan reads the part of a span that lies in the group.
func (t *tx) Scan(span udf.Span, f func(batch []byte) bool) error {
	from, to := t.records.bounds(span)
	lo, hi := t.records.bounds(t.span)
	for at, end := max(from, lo), min(to, hi); at < end; {
		var batch []byte
		batch, at = t.records.batch(at, end, t.written)
		if !f(batch) {
			return nil
		}
	}
	return nil
}

// list is the writes in the order of their keys.
func (t *tx) list() []Write {
	out := make([]Write, 0, len(t.writes))
	for _, w := range t.writes {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Write) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	return out
}
