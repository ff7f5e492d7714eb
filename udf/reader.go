package udf

import (
	"bytes"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf/internal/shape"
)

// storeTx is the Reader and Tx of one native call. The first error of the store sticks: later uses return
// it too, and the call ends with it.
type storeTx struct {
	view   StoreView
	tx     StoreTx // nil in read-only calls, whose functions can't name the methods that need it
	info   Info
	failed error
	rand   *rand.Rand
}

func (t *storeTx) Call() Info { return t.info }

func (t *storeTx) Rand() *rand.Rand {
	if t.rand == nil {
		t.rand = shape.Rand(t.info.ID)
	}
	return t.rand
}

func (t *storeTx) Get(key []byte) ([]byte, bool, error) {
	if t.failed != nil {
		return nil, false, t.failed
	}
	value, found, err := t.view.Get(key)
	t.failed = err
	return value, found, err
}

func (t *storeTx) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		value, found, err := t.Get(key)
		if err != nil {
			return nil, err
		}
		if found {
			values[i] = append([]byte{}, value...) // nil says that the key does not exist
		}
	}
	return values, nil
}

func (t *storeTx) Put(key, value []byte) error { return t.PutTTL(key, value, 0) }

func (t *storeTx) PutTTL(key, value []byte, ttl time.Duration) error {
	if t.failed == nil {
		t.failed = t.tx.Put(key, value, ttl)
	}
	return t.failed
}

func (t *storeTx) Delete(key []byte) error {
	if t.failed == nil {
		t.failed = t.tx.Delete(key)
	}
	return t.failed
}

func (t *storeTx) Scan(span Span) iter.Seq2[Batch, error] {
	if t.tx != nil {
		return t.scanStepwise(span)
	}
	return func(yield func(Batch, error) bool) {
		if t.failed != nil {
			yield(nil, t.failed)
			return
		}
		stopped := false
		err := t.view.Scan(span, func(b []byte) bool {
			batch, err := newBatch(b)
			t.failed = err
			stopped = err != nil || !yield(batch, nil)
			return !stopped
		})
		if t.failed == nil {
			t.failed = err
		}
		if t.failed != nil && !stopped {
			yield(nil, t.failed)
		}
	}
}

// scanStepwise reads one batch at a time, each by a scan of its own, so that no scan of the store is under
// way while the function writes.
func (t *storeTx) scanStepwise(span Span) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for t.failed == nil {
			b, next, err := ScanStep(t.view, span)
			if t.failed = err; err != nil {
				break
			}
			if len(b) == 0 {
				return
			}
			batch, err := newBatch(b)
			if t.failed = err; err != nil {
				break
			}
			if !yield(batch, nil) {
				return
			}
			span.Start = next
		}
		if t.failed != nil {
			yield(nil, t.failed)
		}
	}
}

// ScanStep reads the first batch of a span, as a copy, and returns where the next step begins. An empty
// batch is the end.
func ScanStep(view StoreView, span Span) (batch, next []byte, err error) {
	err = view.Scan(span, func(b []byte) bool {
		batch = bytes.Clone(b)
		return len(b) == 0
	})
	if err != nil {
		return nil, nil, err
	}
	r := packed.NewReader(batch)
	var last []byte
	for r.Next() {
		last = r.Key()
	}
	if err := r.Err(); err != nil {
		return nil, nil, err
	}
	return batch, append(bytes.Clone(last), 0), nil
}

// batch is a packed batch that has been validated.
type batch struct {
	packed []byte
	n      int
}

func newBatch(b []byte) (Batch, error) {
	n := 0
	r := packed.NewReader(b)
	for r.Next() {
		n++
	}
	return batch{packed: b, n: n}, r.Err()
}

func (b batch) Len() int { return b.n }

func (b batch) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for r := packed.NewReader(b.packed); r.Next(); {
			if !yield(r.Key(), r.Value()) {
				return
			}
		}
	}
}
