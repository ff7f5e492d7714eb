// Command guest is the WebAssembly range function of the flights example: delays per origin airport,
// exactly (package delays). It uses the bare SDK, which keeps it small, and the packed batches as they
// come, which keeps it fast.
package main

import (
	"github.com/locuskv/locus/examples/flights/delays"
	"github.com/locuskv/locus/udf/guest/bare"
)

func init() {
	bare.HandleRange("flights-delays", bare.CodecJSON, func([]byte) (bare.Fold, error) { return new(fold), nil })
}

type fold struct{ acc delays.Accumulator }

func (f *fold) Add(batch []byte) error     { return f.acc.AddBatch(batch) }
func (f *fold) Merge(encoded []byte) error { return f.acc.MergeBinary(encoded) }
func (f *fold) Encode() ([]byte, error)    { return f.acc.MarshalBinary() }
func (f *fold) Result() ([]byte, error)    { return delays.AppendJSON(nil, f.acc.Airports()), nil }

// main is never called: the host runs init functions only.
func main() {}
