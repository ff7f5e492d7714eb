package bare

import (
	"iter"
	"math/rand/v2"
	"time"

	"github.com/locuskv/locus/udf/internal/shape"
)

// Host is what a call can ask of the node that runs it. An error ends the call.
type Host interface {
	Get(key []byte) (value []byte, found bool, err error)
	// GetMany returns the values of keys in their order; nil for a key that does not exist.
	GetMany(keys [][]byte) (values [][]byte, err error)
	// OpenScan begins a scan; Next returns its packed batches, and none at its end.
	OpenScan(span shape.Span) (Cursor, error)
	Put(key, value []byte, ttl time.Duration) error
	Delete(key []byte) error
	Info() shape.Info
}

// Cursor is an open scan.
type Cursor interface {
	// Next returns a batch that is valid until the following Next or Close.
	Next() (batch []byte, err error)
	Close()
}

// Tx is the data of one call: a udf.Reader and udf.Tx over the host. The first error of the host sticks.
type Tx struct {
	host   Host
	failed error
	rand   *rand.Rand
}

var _ shape.Tx = (*Tx)(nil)

// Call describes the call.
func (t *Tx) Call() shape.Info { return t.host.Info() }

// Rand is a source seeded with the call's ID.
func (t *Tx) Rand() *rand.Rand {
	if t.rand == nil {
		t.rand = shape.Rand(t.host.Info().ID)
	}
	return t.rand
}

// Get returns a key's value, and whether it exists.
func (t *Tx) Get(key []byte) ([]byte, bool, error) {
	if t.failed != nil {
		return nil, false, t.failed
	}
	value, found, err := t.host.Get(key)
	t.failed = err
	return value, found, err
}

// GetMany returns the values of keys in their order; nil for a key that does not exist.
func (t *Tx) GetMany(keys [][]byte) ([][]byte, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	values, err := t.host.GetMany(keys)
	t.failed = err
	return values, err
}

// Put writes a value.
func (t *Tx) Put(key, value []byte) error { return t.PutTTL(key, value, 0) }

// PutTTL writes a value that ceases to exist ttl after the call's timestamp.
func (t *Tx) PutTTL(key, value []byte, ttl time.Duration) error {
	if t.failed == nil {
		t.failed = t.host.Put(key, value, ttl)
	}
	return t.failed
}

// Delete removes a key.
func (t *Tx) Delete(key []byte) error {
	if t.failed == nil {
		t.failed = t.host.Delete(key)
	}
	return t.failed
}

// Scan yields the records of a span in batches.
func (t *Tx) Scan(span shape.Span) iter.Seq2[shape.Batch, error] {
	return func(yield func(shape.Batch, error) bool) {
		if t.failed != nil {
			yield(nil, t.failed)
			return
		}
		c, err := t.host.OpenScan(span)
		if t.failed = err; err != nil {
			yield(nil, err)
			return
		}
		defer c.Close()
		for {
			b, err := c.Next()
			if t.failed = err; err != nil {
				yield(nil, err)
				return
			}
			if len(b) == 0 || !yield(Batch(b), nil) {
				return
			}
		}
	}
}
