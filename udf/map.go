package udf

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/locuskv/locus/api"
)

// MapBatch makes outputs of one packed batch, with the argument that it was begun with.
type MapBatch func(ctx context.Context, packed []byte, emit func([]byte) error) error

// BeginMap reads a map function's argument.
type BeginMap func(arg []byte) (MapBatch, error)

// newMapping folds the types of a map function away.
func newMapping[In, Out any](n *native, f func(context.Context, In, Batch, func(Out) error) error) BeginMap {
	if f == nil {
		n.refuse("function", errors.New("it is nil"))
	}
	in, err := coderOf[In](n.codec)
	n.refuse("argument", err)
	out, err := coderOf[Out](n.codec)
	n.refuse("output", err)
	return func(arg []byte) (MapBatch, error) {
		v, err := decodeArgument(n, in, arg)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, packed []byte, emit func([]byte) error) error {
			b, err := newBatch(packed)
			if err != nil {
				return DamagedBatch(n.name, err)
			}
			return f(ctx, v, b, func(o Out) error {
				encoded, err := out.Encode(o)
				if err != nil {
					return err
				}
				return emit(encoded)
			})
		}, nil
	}
}

// nativeMapping is the Mapping of a native map function.
type nativeMapping struct {
	accounts
	mapBatch MapBatch
}

// NewMapping begins a page of outputs.
func (n *native) NewMapping(ctx context.Context, codec Codec, arg []byte) (Mapping, error) {
	if err := CheckCall(n, KindMap, codec); err != nil {
		return nil, err
	}
	m := &nativeMapping{accounts: accounts{n: n}}
	_, err := m.step(ctx, func() (_ []byte, err error) {
		// The function may keep parts of the argument while the page lasts.
		m.mapBatch, err = n.mapping(bytes.Clone(arg))
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *nativeMapping) Map(ctx context.Context, b []byte) ([][]byte, error) {
	if err := CheckBatch(m.n.name, &m.n.can, b); err != nil {
		return nil, err
	}
	out := outputs{ctx: ctx, name: m.n.name, can: &m.n.can}
	_, err := m.step(ctx, func() ([]byte, error) { return nil, m.mapBatch(ctx, b, out.emit) })
	if out.failed != nil {
		return nil, out.failed // whatever the function made of it
	}
	return out.list, err
}

// outputs collects what one batch brings. The first error sticks.
type outputs struct {
	ctx    context.Context
	name   string
	can    *Capabilities
	list   [][]byte
	bytes  int
	failed error
}

func (o *outputs) emit(encoded []byte) error {
	if o.failed != nil {
		return o.failed
	}
	if o.failed = o.ctx.Err(); o.failed != nil {
		return o.failed
	}
	if o.failed = CheckResult(o.name, "output", o.can, len(encoded)); o.failed != nil {
		return o.failed
	}
	if o.bytes += len(encoded) + OutputOverhead; o.bytes > MaxOutputBytes {
		o.failed = TooManyOutputs(o.name, o.bytes)
		return o.failed
	}
	// Clone: raw outputs may be parts of the batch, or of a buffer that the function uses again.
	o.list = append(o.list, bytes.Clone(encoded))
	return nil
}

// TooManyOutputs is the error of a map function that emits more for one batch than may be.
func TooManyOutputs(function string, got int) error {
	return &api.LimitError{
		What: fmt.Sprintf("outputs of function %q for one batch", function), Limit: MaxOutputBytes, Got: int64(got),
	}
}
