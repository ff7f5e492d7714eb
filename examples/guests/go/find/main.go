// Command find is the smallest guest whose outputs are a stream: the keys of the records whose values contain
// a text. examples/functions has the same body natively.
package main

import (
	"bytes"
	"context"

	"github.com/locuskv/locus/udf/guest"
)

func init() { guest.Map("find", find) }

func find(_ context.Context, text string, b guest.Batch, emit func(string) error) error {
	for key, value := range b.All() {
		if bytes.Contains(value, []byte(text)) {
			if err := emit(string(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// main is never called: the host runs init functions only.
func main() {}
