// Command counter is the smallest guest that writes: it adds to a number stored as decimal text.
// examples/functions has the same body natively.
package main

import (
	"context"
	"strconv"

	"github.com/locuskv/locus/udf/guest"
)

const codeNotANumber = 1

func init() { guest.ReadWrite("counter", counter) }

func counter(_ context.Context, tx guest.Tx, n int64) (int64, error) {
	key := tx.Call().Key
	value, found, err := tx.Get(key)
	if err != nil {
		return 0, err
	}
	var old int64
	if found {
		if old, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return 0, guest.Error(codeNotANumber, "the key does not hold a decimal number")
		}
	}
	sum := old + n
	return sum, tx.Put(key, strconv.AppendInt(nil, sum, 10))
}

// main is never called: the host runs init functions only.
func main() {}
