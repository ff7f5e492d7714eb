package engine

import (
	"bytes"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"

	"github.com/locuskv/locus/internal/keys"
)

// CountRaw counts the keys of a span and the bytes of their newest values with nothing but Badger's iterator, in the form that is the
// fastest (all versions, with a choice of its own): what every scan of this store takes at the least. It is what benchmarks compare
// scans with.
func (b *Badger) CountRaw(span keys.Span) (records, size int64, err error) {
	if b.db.IsClosed() {
		return 0, 0, fmt.Errorf("engine: count: %w", badger.ErrDBClosed)
	}
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: spanPrefix(span)})
	defer it.Close()
	var last []byte
	add := func(value []byte) error {
		records++
		size += int64(len(value))
		return nil
	}
	for it.Seek(span.Start); it.Valid(); it.Next() {
		item := it.Item()
		key := item.Key()
		if span.End != nil && bytes.Compare(key, span.End) >= 0 {
			break
		}
		if bytes.Equal(key, last) {
			continue
		}
		last = append(last[:0], key...)
		if item.IsDeletedOrExpired() {
			continue
		}
		if err := item.Value(add); err != nil {
			return records, size, fmt.Errorf("engine: count: value of key %q: %w", key, err)
		}
	}
	return records, size, nil
}
