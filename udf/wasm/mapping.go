package wasm

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

// mapping is a page of a map function on one instance.
type mapping struct{ *accumulator }

// lengthBytes stand before each output.
const lengthBytes = 4

// Map gives the guest a batch and takes its outputs, in one entry.
func (m *mapping) Map(ctx context.Context, batch []byte) (outputs [][]byte, err error) {
	err = m.enter(ctx, func(ctx context.Context) error {
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
			outputs, err = cutOutputs(i.f.name, b)
		}
		return err
	})
	return outputs, err
}

// cutOutputs takes the outputs of one batch apart.
func cutOutputs(function string, b []byte) ([][]byte, error) {
	var outputs [][]byte
	for size := 0; len(b) > 0; {
		if len(b) < lengthBytes || uint64(len(b)-lengthBytes) < uint64(binary.LittleEndian.Uint32(b)) {
			return nil, &api.FunctionError{
				Function: function, Code: udf.CodeCrashed,
				Message: fmt.Sprintf("the last of its %d outputs is cut off", len(outputs)+1),
			}
		}
		end := lengthBytes + int(binary.LittleEndian.Uint32(b))
		if size += end - lengthBytes + udf.OutputOverhead; size > udf.MaxOutputBytes {
			return nil, udf.TooManyOutputs(function, size)
		}
		outputs = append(outputs, b[lengthBytes:end:end])
		b = b[end:]
	}
	return outputs, nil
}
