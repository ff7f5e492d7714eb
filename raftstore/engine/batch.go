package engine

import (
	"bytes"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Limits that hold in every engine, whatever its configuration.
const (
	// MaxKeyLen is above every key the store makes: user keys are at most 4 KiB, prefixes some bytes.
	MaxKeyLen = 2 * keys.MaxKeyLen
	// MaxValueLen leaves room for the header of the largest user value, and for the store's own records.
	// It stays below the size from which on Badger would move values into its value log.
	MaxValueLen = keys.MaxValueLen + 64<<10
	// MinBatchBytes is what every production engine accepts: the largest entry the store forms is below it.
	MinBatchBytes = 4 << 20
	// OpOverhead is what an operation counts in Batch.Bytes beside its key and value.
	OpOverhead = 16
)

// reservedPrefix begins the keys that Badger keeps for itself.
var reservedPrefix = []byte("!badger!")

// Bytes is the size of the batch as Limits.MaxBatchBytes counts it.
func (b *Batch) Bytes() int64 {
	n := int64(0)
	for i := range b.Ops {
		n += b.Ops[i].Bytes()
	}
	return n
}

// Bytes is what the operation adds to its batch.
func (o *Op) Bytes() int64 {
	n := int64(len(o.Key)) + OpOverhead
	if !o.Delete {
		n += int64(len(o.Value))
	}
	return n
}

// checkBatches judges all batches of a call before the first is written.
func checkBatches(batches []Batch, limits Limits, last ids.Seq) error {
	for i := range batches {
		b := &batches[i]
		if b.Seq <= last {
			return &SequenceError{Seq: b.Seq, Last: last}
		}
		last = b.Seq
		if err := b.check(limits); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) check(limits Limits) error {
	if n := int64(len(b.Ops)); n > limits.MaxBatchOps {
		return &LimitError{What: "batch operations", Seq: b.Seq, Got: n, Limit: limits.MaxBatchOps}
	}
	if n := b.Bytes(); n > limits.MaxBatchBytes {
		return &LimitError{What: "batch bytes", Seq: b.Seq, Got: n, Limit: limits.MaxBatchBytes}
	}
	for i := range b.Ops {
		if err := b.Ops[i].check(b.Seq); err != nil {
			return err
		}
	}
	return nil
}

func (o *Op) check(seq ids.Seq) error {
	switch {
	case len(o.Key) == 0:
		return &KeyError{Key: o.Key, Reason: "is empty"}
	case len(o.Key) > MaxKeyLen:
		return &LimitError{What: "key bytes", Seq: seq, Got: int64(len(o.Key)), Limit: MaxKeyLen}
	case bytes.HasPrefix(o.Key, reservedPrefix):
		return &KeyError{Key: o.Key, Reason: "begins with a reserved prefix"}
	case !o.Delete && len(o.Value) > MaxValueLen:
		return &LimitError{What: "value bytes", Seq: seq, Got: int64(len(o.Value)), Limit: MaxValueLen}
	}
	return nil
}
