package engine

import (
	"bytes"
	"fmt"

	"github.com/locuskv/locus/internal/ids"
)

// Bounds of one batch of an undo: small enough for every engine, large enough to be few.
const (
	undoBatchBytes = 1 << 20
	undoBatchOps   = 4096
)

// Undo is Engine.Undo in terms of the engine's other methods. It is apart from the engines so that tests
// can interrupt it between any two batches.
//
// A key has a version above seq exactly if its newest one is, tombstones included, so one iteration with
// Since finds all that has to go back. What it should be is read at seq, where the discard sequence keeps
// it.
//
// Crash: nothing here is durable before the caller's next Sync, and any subset of the batches written so
// far may survive. All of them are above seq, so that running again finds the same keys (those written
// back included) and ends in the same state. Keys that already hold what they held at seq are left alone:
// a crash that loses what made them equal leaves versions above seq, which the next run finds.
func Undo(e Engine, seq ids.Seq) (ids.Seq, error) {
	last := max(seq, e.MaxSeq())
	it := e.NewIterator(IterOptions{Seq: last, Since: seq, Tombstones: true})
	defer it.Close()

	u := undo{engine: e, last: last, limits: undoLimits(e.Limits())}
	for ; it.Valid(); it.Next() {
		op, changed, err := undoOp(e, it, seq)
		if err != nil {
			return 0, err
		}
		if !changed {
			continue
		}
		if err := u.add(op); err != nil {
			return 0, err
		}
	}
	if err := it.Err(); err != nil {
		return 0, fmt.Errorf("engine: undo to sequence %d: %w", seq, err)
	}
	if err := u.flush(); err != nil {
		return 0, err
	}
	return u.last, nil
}

// undoOp is what takes the iterator's key back to seq; changed is false where it stands there already.
func undoOp(e Engine, it Iterator, seq ids.Seq) (op Op, changed bool, err error) {
	key := bytes.Clone(it.Key())
	value, _, found, err := e.Get(key, seq)
	switch {
	case err != nil:
		return Op{}, false, fmt.Errorf("engine: undo to sequence %d: %w", seq, err)
	case !found:
		return Op{Key: key, Delete: true}, !it.Deleted(), nil
	default:
		same := !it.Deleted() && bytes.Equal(value, it.Value())
		return Op{Key: key, Value: value}, !same, nil
	}
}

func undoLimits(l Limits) Limits {
	return Limits{
		MaxBatchBytes: min(l.MaxBatchBytes, undoBatchBytes),
		MaxBatchOps:   min(l.MaxBatchOps, undoBatchOps),
	}
}

// undo gathers operations into bounded batches.
type undo struct {
	engine Engine
	limits Limits
	last   ids.Seq // highest sequence used
	ops    []Op
	bytes  int64
}

func (u *undo) add(op Op) error {
	n := op.Bytes()
	if int64(len(u.ops)) == u.limits.MaxBatchOps || (len(u.ops) > 0 && u.bytes+n > u.limits.MaxBatchBytes) {
		if err := u.flush(); err != nil {
			return err
		}
	}
	u.ops = append(u.ops, op)
	u.bytes += n
	return nil
}

func (u *undo) flush() error {
	if len(u.ops) == 0 {
		return nil
	}
	if err := u.engine.Apply([]Batch{{Seq: u.last + 1, Ops: u.ops}}); err != nil {
		return fmt.Errorf("engine: undo: %w", err)
	}
	u.last++
	u.ops, u.bytes = u.ops[:0], 0
	return nil
}
