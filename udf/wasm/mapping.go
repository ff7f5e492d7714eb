package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

// mapping is a page of a map function on one instance.
type mapping struct{ *accumulator }

// Map gives the guest a batch and takes its outputs, in one entry: those that it emitted, then those in the
// bytes that it returned.
func (m *mapping) Map(ctx context.Context, batch []byte) (list [][]byte, err error) {
	if err := m.check(batch); err != nil {
		return nil, err
	}
	err = m.enterWith(ctx, env{mapping: true}, func(ctx context.Context) error {
		i := m.instance
		ptr, n, err := i.put(ctx, batch)
		if err != nil {
			return err
		}
		at, err := i.call(ctx, &exportMap, ptr, n)
		if err != nil {
			return err
		}
		b, err := i.take(at, "outputs for one batch")
		if err == nil {
			list, err = i.env.outputs.cut(b)
		}
		return err
	})
	return list, err
}

// outputs are what a map function has made of one batch so far.
type outputs struct {
	function string
	can      *udf.Capabilities
	list     [][]byte
	size     int // with udf.OutputOverhead for each
}

// add keeps a copy of an output.
func (o *outputs) add(output []byte) error {
	if err := o.count(output); err != nil {
		return err
	}
	o.list = append(o.list, bytes.Clone(output))
	return nil
}

func (o *outputs) count(output []byte) error {
	if err := udf.CheckResult(o.function, "output", o.can, len(output)); err != nil {
		return err
	}
	if o.size += len(output) + udf.OutputOverhead; o.size > udf.MaxOutputBytes {
		return udf.TooManyOutputs(o.function, o.size)
	}
	return nil
}

// cut takes returned outputs apart, which are the host's own, and returns all there are.
func (o *outputs) cut(b []byte) ([][]byte, error) {
	for n := 1; len(b) > 0; n++ {
		output, rest, whole := cutLengthPrefixed(b)
		if !whole {
			return nil, &api.FunctionError{
				Function: o.function, Code: udf.CodeCrashed,
				Message: fmt.Sprintf("the last of the %d outputs that it returned is cut off", n),
			}
		}
		if err := o.count(output); err != nil {
			return nil, err
		}
		o.list = append(o.list, output)
		b = rest
	}
	return o.list, nil
}

// cutLengthPrefixed takes the first item off a list of items, each behind its length in 4 bytes.
func cutLengthPrefixed(b []byte) (item, rest []byte, whole bool) {
	const header = 4
	if len(b) < header {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[header:]; uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}
