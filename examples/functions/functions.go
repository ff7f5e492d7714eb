// Package functions holds the native functions that the locus binary links: the smallest one there is,
// and the smallest one that writes. examples/guests/go has the same two as WebAssembly guests.
package functions

import (
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
