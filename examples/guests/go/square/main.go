// Command square is the smallest guest: a pure function. examples/functions has the same body natively.
package main

import (
	"context"

	"github.com/locuskv/locus/udf/guest"
)

func init() {
	guest.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil })
}

// main is never called: the host runs init functions only.
func main() {}
