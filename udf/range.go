package udf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf/internal/coder"
)

// beginFold makes a run's neutral accumulator.
type beginFold func(arg []byte) (Fold, error)

// Fold is one accumulator of a range function at work, without types: what an Aggregate becomes, and what RangeOf takes
// from those who read packed batches themselves.
type Fold interface {
	// Add folds a packed batch in (docs/abi.md). It is read only, and not kept; damage in it is the fold's to find.
	Add(ctx context.Context, packed []byte) error
	// Merge folds in what Encode made. The bytes are the fold's.
	Merge(encoded []byte) error
	Encode() ([]byte, error)
	Result() ([]byte, error)
}

type typedAggregate[In, Acc, Out any] struct {
	n   *native
	a   Aggregate[In, Acc, Out]
	in  coder.Coder[In]
	acc coder.Coder[Acc]
	out coder.Coder[Out]
}

func newAggregate[In, Acc, Out any](n *native, a Aggregate[In, Acc, Out]) beginFold {
	if a.Init == nil || a.Add == nil || a.Merge == nil || a.Result == nil {
		n.refuse("aggregate", errors.New("functions Init, Add, Merge and Result must all be set"))
	}
	in, err := coderOf[In](n.codec)
	n.refuse("argument", err)
	out, err := coderOf[Out](n.codec)
	n.refuse("result", err)
	t := &typedAggregate[In, Acc, Out]{n: n, a: a, in: in, acc: coder.Accumulator[Acc](), out: out}
	return t.begin
}

func (t *typedAggregate[In, Acc, Out]) begin(arg []byte) (Fold, error) {
	in, err := decodeArgument(t.n, t.in, arg)
	if err != nil {
		return nil, err
	}
	acc, err := t.a.Init(in)
	return &typedFold[In, Acc, Out]{t: t, acc: acc}, err
}

type typedFold[In, Acc, Out any] struct {
	t   *typedAggregate[In, Acc, Out]
	acc Acc
	// used: acc holds more than Init's value, and must not be replaced.
	used bool
}

func (f *typedFold[In, Acc, Out]) Add(ctx context.Context, packed []byte) error {
	b, err := newBatch(packed)
	if err != nil {
		return DamagedBatch(f.t.n.name, err)
	}
	f.used = true
	f.acc, err = f.t.a.Add(ctx, f.acc, b)
	return err
}

// DamagedBatch is the error of a function that was given a batch which is none.
func DamagedBatch(function string, err error) error {
	return &api.InternalError{Reason: fmt.Sprintf("function %q was given a damaged batch: %v", function, err)}
}

func (f *typedFold[In, Acc, Out]) Merge(encoded []byte) error {
	acc, err := f.t.acc.Decode(encoded)
	if err != nil {
		return fmt.Errorf("an accumulator can't be read: %w", err)
	}
	if f.used {
		if acc, err = f.t.a.Merge(f.acc, acc); err != nil {
			return err
		}
	}
	f.acc, f.used = acc, true
	return nil
}

func (f *typedFold[In, Acc, Out]) Encode() ([]byte, error) { return f.t.acc.Encode(f.acc) }

func (f *typedFold[In, Acc, Out]) Result() ([]byte, error) {
	out, err := f.t.a.Result(f.acc)
	if err != nil {
		return nil, err
	}
	return f.t.out.Encode(out)
}

// nativeAccumulator is the Accumulator of a native range function.
type nativeAccumulator struct {
	accounts
	fold Fold
}

// accounts runs the parts of one native function and counts what they cost.
type accounts struct {
	n    *native
	fuel uint64
}

// NewAccumulator begins a run over one range.
func (n *native) NewAccumulator(ctx context.Context, codec Codec, arg []byte) (Accumulator, error) {
	if err := CheckCall(n, KindRange, codec); err != nil {
		return nil, err
	}
	a := &nativeAccumulator{accounts: accounts{n: n}}
	_, err := a.step(ctx, func() (_ []byte, err error) {
		// The accumulator may keep parts of the argument for the whole run.
		a.fold, err = n.begin(bytes.Clone(arg))
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (a *nativeAccumulator) Add(ctx context.Context, b []byte) error {
	if err := CheckBatch(a.n.name, &a.n.can, b); err != nil {
		return err
	}
	_, err := a.step(ctx, func() ([]byte, error) { return nil, a.fold.Add(ctx, b) })
	return err
}

func (a *nativeAccumulator) Encode(ctx context.Context) ([]byte, error) {
	return a.step(ctx, func() ([]byte, error) {
		b, err := a.fold.Encode()
		if err == nil {
			err = CheckResult(a.n.name, "accumulator", &a.n.can, len(b))
		}
		return bytes.Clone(b), err
	})
}

func (a *accounts) Fuel() uint64 { return a.fuel }
func (a *accounts) Close()       {}

// step runs one part of the function.
func (a *accounts) step(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	began := time.Now()
	b, err := protect(a.n.name, f)
	a.fuel += since(began)
	if err != nil {
		return nil, a.n.failure(ctx, err)
	}
	return b, nil
}

// Merge makes one accumulator of several.
func (n *native) Merge(ctx context.Context, codec Codec, arg []byte, accs [][]byte) (Outcome, error) {
	return n.reduce(ctx, codec, arg, accs, Fold.Encode, "accumulator")
}

// Result merges the accumulators that are left and makes the run's result.
func (n *native) Result(ctx context.Context, codec Codec, arg []byte, accs [][]byte) (Outcome, error) {
	return n.reduce(ctx, codec, arg, accs, Fold.Result, "result")
}

func (n *native) reduce(ctx context.Context, codec Codec, arg []byte, accs [][]byte, last func(Fold) ([]byte, error), what string) (Outcome, error) {
	acc, err := n.NewAccumulator(ctx, codec, arg)
	if err != nil {
		return Outcome{}, err
	}
	a := acc.(*nativeAccumulator)
	for _, encoded := range accs {
		// Clone: a decoded accumulator may be made of the bytes it was decoded from.
		encoded = bytes.Clone(encoded)
		if _, err := a.step(ctx, func() ([]byte, error) { return nil, a.fold.Merge(encoded) }); err != nil {
			return Outcome{}, err
		}
	}
	b, err := a.step(ctx, func() ([]byte, error) { return last(a.fold) })
	if err == nil {
		err = CheckResult(n.name, what, &n.can, len(b))
	}
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: bytes.Clone(b), Fuel: a.fuel}, nil
}
