// Package functions holds the native functions that the locus binary links: the smallest one there is,
// the smallest one that writes, and one whose outputs are a stream. examples/guests/go has the same three as
// WebAssembly guests.
package functions

import (
	"bytes"
	"context"
	"strconv"

	"github.com/locuskv/locus/udf"
)

// CodeNotANumber is the code of the error that counter returns for a key that holds something else.
const CodeNotANumber = 1

// All are the functions of this package.
func All() []udf.Function {
	return []udf.Function{
		udf.Pure("square", Square),
		udf.ReadWrite("counter", Counter),
		udf.Map("find", Find),
	}
}

// Square is x times x.
func Square(_ context.Context, x int64) (int64, error) { return x * x, nil }

// Counter adds n to the number stored as decimal text under the call's key, and returns the new number. A
// key that does not exist counts as 0.
func Counter(_ context.Context, tx udf.Tx, n int64) (int64, error) {
	key := tx.Call().Key
	value, found, err := tx.Get(key)
	if err != nil {
		return 0, err
	}
	var old int64
	if found {
		if old, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return 0, udf.Error(CodeNotANumber, "the key does not hold a decimal number")
		}
	}
	sum := old + n
	return sum, tx.Put(key, strconv.AppendInt(nil, sum, 10))
}

// Find emits the keys of the records whose values contain a text.
func Find(_ context.Context, text string, b udf.Batch, emit func(string) error) error {
	for key, value := range b.All() {
		if bytes.Contains(value, []byte(text)) {
			if err := emit(string(key)); err != nil {
				return err
			}
		}
	}
	return nil
}
