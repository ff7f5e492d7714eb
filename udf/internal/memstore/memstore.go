// Package memstore is a map that looks like the store view and transaction of a call, for tests of
// functions. It keeps nothing for long, and is not for concurrent use.
package memstore

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Store is a set of records.
type Store struct {
	Data map[string]string
	// BatchBytes is about how long scanned batches are: the record that reaches it is the last. 0 is 64 KiB.
	BatchBytes int
	// Err, if set, is what every access returns.
	Err error
	// TTL holds what was given for the keys that were put with one.
	TTL map[string]time.Duration
}

// New makes a store of a copy of data.
func New(data map[string]string) *Store {
	s := &Store{Data: maps.Clone(data), TTL: make(map[string]time.Duration)}
	if s.Data == nil {
		s.Data = make(map[string]string)
	}
	return s
}

// Clone is a store with the same records.
func (s *Store) Clone() *Store {
	c := *s
	c.Data, c.TTL = maps.Clone(s.Data), maps.Clone(s.TTL)
	return &c
}

// Get returns a value.
func (s *Store) Get(key []byte) ([]byte, bool, error) {
	v, ok := s.Data[string(key)]
	return []byte(v), ok, s.Err
}

// GetMany returns the values of keys in their order; nil for a key that does not exist.
func (s *Store) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if v, ok := s.Data[string(key)]; ok {
			values[i] = append([]byte{}, v...)
		}
	}
	return values, s.Err
}

// Put writes a value.
func (s *Store) Put(key, value []byte, ttl time.Duration) error {
	if s.Err != nil {
		return s.Err
	}
	s.Data[string(key)] = string(value)
	delete(s.TTL, string(key))
	if ttl > 0 {
		s.TTL[string(key)] = ttl
	}
	return nil
}

// Delete removes a key.
func (s *Store) Delete(key []byte) error {
	delete(s.Data, string(key))
	return s.Err
}

// Scan calls f with packed batches.
func (s *Store) Scan(span shape.Span, f func(batch []byte) bool) error {
	if s.Err != nil {
		return s.Err
	}
	for _, b := range s.Batches(span) {
		if !f(b) {
			return nil
		}
	}
	return nil
}

// Batches are the batches of a span.
func (s *Store) Batches(span shape.Span) (batches [][]byte) {
	limit := s.BatchBytes
	if limit == 0 {
		limit = 64 << 10
	}
	var b []byte
	for i, key := range slices.Sorted(maps.Keys(s.Data)) {
		k := []byte(key)
		if bytes.Compare(k, span.Start) < 0 || len(span.End) > 0 && bytes.Compare(k, span.End) >= 0 {
			continue
		}
		var expires hlc.Timestamp
		if i%3 == 2 {
			expires = 1 << 62 // so that both forms of records occur
		}
		b = packed.Append(b, k, []byte(s.Data[key]), 7, expires)
		if len(b) >= limit {
			batches, b = append(batches, b), nil
		}
	}
	if len(b) > 0 {
		batches = append(batches, b)
	}
	return batches
}
