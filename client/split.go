package client

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// SplitRange splits a range in the middle of its records, between two groups. To find the middle it reads
// the range's keys, without values; in a hash-partitioned keyspace, the keys of the ranges before it too.
func (db *DB) SplitRange(ctx context.Context, id RangeID) (Split, error) {
	ranges, err := db.Ranges(ctx)
	if err != nil {
		return Split{}, err
	}
	i := slices.IndexFunc(ranges, func(r RangeInfo) bool { return r.ID == id })
	if i < 0 {
		return Split{}, &InvalidArgumentError{Reason: fmt.Sprintf("range %s is not known", ids.RangeID(id))}
	}
	if ranges[i].Keyspace == "" || ranges[i].Keyspace == systemName {
		return Split{}, &InvalidArgumentError{Reason: fmt.Sprintf("range %s is of no keyspace and can't be split", ids.RangeID(id))}
	}
	ks := db.Keyspace(ranges[i].Keyspace)
	key, err := ks.middle(ctx, ranges[i])
	if err != nil {
		return Split{}, err
	}
	return ks.Split(ctx, key)
}

// middle is a key in the middle of a range, of a group that does not begin the range.
func (k *Keyspace) middle(ctx context.Context, r RangeInfo) ([]byte, error) {
	l, err := k.resolve(ctx)
	if err != nil {
		return nil, public(err, k)
	}
	span := k.All()
	if l.Partition == keys.PartitionRange {
		span = k.Span(r.Start, r.End)
	}
	header := keys.KeyspaceSpan(l.ID).Start
	bound := func(b []byte) []byte { return append(bytes.Clone(header), b...) }
	start, end := bound(r.Start), bound(r.End)
	var s sample
	for item, err := range k.Scan(ctx, span, KeysOnly()) {
		if err != nil {
			return nil, err
		}
		global := l.Encode(item.Key)
		if r.End != nil && bytes.Compare(global, end) >= 0 {
			break
		}
		// In a hash-partitioned keyspace the scan begins with the ranges before.
		if bytes.Compare(global, start) >= 0 {
			s.add(item.Key, bytes.Compare(l.SplitKey(global), start) > 0)
		}
	}
	if len(s.keys) == 0 {
		return nil, &InvalidArgumentError{Reason: fmt.Sprintf("range %s has no two groups of keys to split between", ids.RangeID(r.ID))}
	}
	return s.middle(), nil
}

// sampleSize is how many keys of a range are kept to choose its middle from: enough to be off by less than
// a hundredth.
const sampleSize = 512

// sample keeps some keys of many, evenly spaced: it takes each step-th, and when it is full drops every
// other one and doubles the step.
type sample struct {
	keys  [][]byte
	at    []uint64 // how many keys came before
	count uint64
	step  uint64
}

// add counts a key, and may keep it if the range can be split there.
func (s *sample) add(key []byte, fits bool) {
	s.step = max(s.step, 1)
	if fits && s.count%s.step == 0 || fits && len(s.keys) == 0 {
		s.keys, s.at = append(s.keys, key), append(s.at, s.count)
	}
	s.count++
	if len(s.keys) == sampleSize {
		for i := range sampleSize / 2 {
			s.keys[i], s.at[i] = s.keys[2*i+1], s.at[2*i+1]
		}
		s.keys, s.at = s.keys[:sampleSize/2], s.at[:sampleSize/2]
		s.step *= 2
	}
}

// middle is the first kept key with half of all before it; the last one, if there is none.
func (s *sample) middle() []byte {
	i, _ := slices.BinarySearch(s.at, s.count/2)
	return s.keys[min(i, len(s.keys)-1)]
}
